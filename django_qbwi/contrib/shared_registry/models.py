"""The one table: a row for each process of each host."""

from __future__ import annotations

from django.db import models


class HostedProcess(models.Model):
    """One process, as it last wrote itself down, and what is wanted of it.

    Both texts are JSON in ASCII and no JSON columns: `jsonb` refuses zero characters and halves of surrogate pairs,
    which names and tracebacks may have. The row is written by its process, but for `cancel_requests`, which anybody may
    add to by comparing and swapping the whole text; `seen_at` is by the clock of the database. There is no index but
    that of the key: the table has as many rows as the site has processes, and each is updated every ten seconds.
    """

    key = models.CharField(primary_key=True, max_length=32, help_text="A number that is used once.")
    site = models.CharField(max_length=16, help_text="The site, as the channel names it.")
    host = models.CharField(max_length=255)
    pid = models.BigIntegerField()
    place = models.CharField(max_length=32, blank=True, help_text="Equal for processes that can ask each other.")
    state = models.TextField(help_text="What the process answers over the channel.")
    cancel_requests = models.TextField(blank=True, help_text="Pairs of the id of an item and who wants it cancelled.")
    seen_at = models.DateTimeField()

    class Meta:
        # Named, so that a part of the code may be imported where the app is not installed.
        app_label = "django_qbwi_shared_registry"
        # Nobody adds or changes rows by hand: the permissions are those of the page of the work items.
        default_permissions = ()
        verbose_name = "process"
        verbose_name_plural = "processes"

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"
