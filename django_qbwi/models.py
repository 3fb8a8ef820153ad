"""The model that gives the admin page its place and its permissions; it has no table and no migration."""

from __future__ import annotations

from django.db import models


class _NoRows(models.Manager["WorkItem"]):
    """Answers every query with nothing, and without the database: `dumpdata` asks all models, also unmanaged ones."""

    def get_queryset(self) -> models.QuerySet[WorkItem]:
        return super().get_queryset().none()


class WorkItem(models.Model):
    """A work item as the admin site knows it: an id, a name, and who may see or cancel it.

    The permissions are `django_qbwi.view_workitem` and `django_qbwi.cancel_workitem`; `migrate` creates them where
    django.contrib.auth is installed. Nothing of it is ever read from or written to a database.
    """

    id = models.CharField(primary_key=True, max_length=64)
    name = models.CharField(max_length=200)

    objects = _NoRows()

    class Meta:
        managed = False
        base_manager_name = "objects"
        default_permissions = ("view", "cancel")
        verbose_name = "work item"
        verbose_name_plural = "work items"

    def __str__(self) -> str:
        return self.name
