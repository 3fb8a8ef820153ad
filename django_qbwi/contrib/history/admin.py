"""The admin list of what ended badly, or moved: filters, search, and the traceback of each; nothing is changed here."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from django_qbwi.console.text import printable_lines
from django_qbwi.contrib.history.models import HistoryEntry
from django_qbwi.contrib.history.rows import moment
from django_qbwi.core.names import printable

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[HistoryEntry]
else:
    _ModelAdmin = admin.ModelAdmin

_MAX_SHOWN = 200


@admin.register(HistoryEntry)
class HistoryEntryAdmin(_ModelAdmin):
    """Lists rows and shows one; nothing is added, changed or deleted.

    Texts are shown without the characters that could turn a line around, or hide a part of it.
    """

    list_display = ("finished_at", "status", "shown_name", "shown_error", "shown_origin")
    list_display_links = ("finished_at", "shown_name")
    list_filter = ("status", "finished_at", "error_type", "host")
    search_fields = ("=item_id", "name", "error_type", "message", "traceback", "origin", "request_id", "details")
    # A second COUNT of the table is of no use.
    show_full_result_count = False
    list_per_page = 50
    fields = (
        "item_id",
        "status",
        "shown_name",
        "finished_at",
        "queued_at",
        "started_at",
        "attempt",
        "shown_error",
        "shown_traceback",
        "shown_origin",
        "request_id",
        "host",
        "pid",
    )
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Rows are written by the processes of the site."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """What has happened does not change."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Rows are removed by age."""
        return False

    @admin.display(description=_("name"), ordering="name")
    def shown_name(self, entry: HistoryEntry) -> str:
        """Return its name."""
        return printable(entry.name)

    @admin.display(description=_("error"), ordering="error_type")
    def shown_error(self, entry: HistoryEntry) -> str:
        """Return what it has raised, or why it did not run here, in a line."""
        kind = entry.error_type.removeprefix("builtins.")
        text = f"{kind}: {entry.message}" if kind and entry.message else kind or entry.message
        return printable(text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…")

    @admin.display(description=_("origin"), ordering="origin")
    def shown_origin(self, entry: HistoryEntry) -> str:
        """Return the request that has queued it."""
        return printable(entry.origin)

    @admin.display(description=_("traceback"))
    def shown_traceback(self, entry: HistoryEntry) -> SafeString | str:
        """Return its traceback, or where it was."""
        return format_html("<pre>{}</pre>", printable_lines(entry.traceback)) if entry.traceback else ""

    @admin.display(description=_("queued"))
    def queued_at(self, entry: HistoryEntry) -> Any:
        """Return when it was queued."""
        return _moment(entry, "queued_at")

    @admin.display(description=_("started"))
    def started_at(self, entry: HistoryEntry) -> Any:
        """Return when it started."""
        return _moment(entry, "started_at")

    @admin.display(description=_("attempt"))
    def attempt(self, entry: HistoryEntry) -> int:
        """Return which of its attempts was the last one."""
        return int(entry.to_dict().get("attempt") or 1)


def _moment(entry: HistoryEntry, name: str) -> datetime.datetime | None:
    text = entry.to_dict().get(name)
    return moment(datetime.datetime.fromisoformat(text)) if text else None
