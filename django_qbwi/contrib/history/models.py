"""The one table: a row for each item that ended badly, or moved."""

from __future__ import annotations

import json
from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

IN_COLUMNS = ("id", "name", "status", "error", "origin", "request_id", "pid")
"""What of an item's dictionary is no part of `details`."""


class HistoryEntry(models.Model):
    """An item as it was known at its end; written once, and never changed.

    `details` is JSON in ASCII, and no JSON column: `jsonb` refuses zero characters and halves of surrogate pairs, which
    names may have. The columns beside it are what is searched and filtered by.
    """

    item_id = models.CharField(_("id"), max_length=64, unique=True)
    name = models.CharField(_("name"), max_length=200)
    status = models.CharField(_("status"), max_length=16)
    finished_at = models.DateTimeField(_("ended"), db_index=True)
    error_type = models.CharField(_("error"), max_length=500, blank=True)
    message = models.TextField(
        _("message"), blank=True, help_text=_("What the error said, or why it did not run here.")
    )
    traceback = models.TextField(_("traceback"), blank=True, help_text=_("Or where it was, of one that still ran."))
    origin = models.TextField(_("origin"), blank=True)
    request_id = models.CharField(_("request id"), max_length=200, blank=True)
    host = models.CharField(_("host"), max_length=255)
    pid = models.BigIntegerField(_("process"))
    details = models.TextField(_("details"))

    class Meta:
        # Named, so that a part of the code may be imported where the app is not installed.
        app_label = "django_qbwi_history"
        # Rows are written by the processes of the site alone, and removed by age.
        default_permissions = ("view",)
        ordering = ("-finished_at", "-pk")
        verbose_name = _("ended work item")
        verbose_name_plural = _("history of work items")

    def __str__(self) -> str:
        return self.name

    def to_dict(self) -> dict[str, Any]:
        """Return it as `WorkItemInfo.to_dict()` does, with `host`, `stack` and `why`."""
        error = {"type": self.error_type, "message": self.message, "traceback": self.traceback}
        return {
            "id": self.item_id,
            "name": self.name,
            "status": self.status,
            **json.loads(self.details),
            "error": error if self.error_type else None,
            "origin": self.origin or None,
            "request_id": self.request_id or None,
            "host": self.host,
            "pid": self.pid,
            "stack": None if self.error_type else self.traceback or None,
            "why": None if self.error_type else self.message or None,
        }
