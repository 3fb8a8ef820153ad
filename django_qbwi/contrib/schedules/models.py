"""The one table: a row for each schedule of the site."""

from __future__ import annotations

from django.db import models


class ScheduleState(models.Model):
    """One schedule: when it is due, and what is known of its last run.

    A tick is claimed by an UPDATE that asks for the moment it was due at; nothing is locked meanwhile. Moments are
    milliseconds since the epoch: whole numbers compare exactly in every database, with or without `USE_TZ`.
    """

    name = models.CharField(primary_key=True, max_length=200)
    when = models.CharField(max_length=200, help_text="What the code said when the next tick was reckoned.")
    next_ms = models.BigIntegerField(help_text="When it is due.")
    claim = models.CharField(max_length=32, blank=True, help_text="A number of its last run that is used once.")
    tick_ms = models.BigIntegerField(null=True, help_text="When that run was due.")
    started_ms = models.BigIntegerField(null=True)
    ended_ms = models.BigIntegerField(null=True)
    status = models.CharField(max_length=16, blank=True)
    item = models.CharField(max_length=64, blank=True, help_text="The id of that run's work item.")
    place = models.CharField(max_length=300, blank=True, help_text="Host and pid of that run.")
    busy_until_ms = models.BigIntegerField(default=0, help_text="Until then the last run is not taken for lost.")
    skipped = models.BigIntegerField(default=0, help_text="Ticks that were left out, since a run was not over.")

    class Meta:
        # Named, so that a part of the code may be imported where the app is not installed.
        app_label = "django_qbwi_schedules"
        # Nobody adds or changes rows by hand.
        default_permissions = ("view",)
        verbose_name = "schedule"
        verbose_name_plural = "schedules"

    def __str__(self) -> str:
        return self.name
