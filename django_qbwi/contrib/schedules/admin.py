"""The list of schedules in the admin site, which shows them and changes nothing."""

from __future__ import annotations

import datetime
import time
from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from django_qbwi.contrib.schedules.models import ScheduleState
from django_qbwi.contrib.schedules.site import info_of, moment


@admin.register(ScheduleState)
class ScheduleStateAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """What is due when, and how the last run went."""

    list_display = ("name", "when", "next_at", "state", "tick_at", "outcome", "ran_for", "skipped")
    search_fields = ("name", "when", "item")
    ordering = ("name",)
    fields = (
        *("name", "when", "next_at", "state", "tick_at", "started_at", "ended_at", "outcome"),
        *("item", "place", "skipped"),
    )
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody may."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody may."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody may."""
        return False

    @admin.display(description="next", ordering="next_ms")
    def next_at(self, row: ScheduleState) -> datetime.datetime | None:
        """Return when it is due."""
        return moment(row.next_ms)

    @admin.display(description="last tick", ordering="tick_ms")
    def tick_at(self, row: ScheduleState) -> datetime.datetime | None:
        """Return when the last run was due."""
        return moment(row.tick_ms)

    @admin.display(description="started")
    def started_at(self, row: ScheduleState) -> datetime.datetime | None:
        """Return when the last run was queued."""
        return moment(row.started_ms)

    @admin.display(description="ended")
    def ended_at(self, row: ScheduleState) -> datetime.datetime | None:
        """Return when the last run ended."""
        return moment(row.ended_ms)

    @admin.display(description="state")
    def state(self, row: ScheduleState) -> str:
        """Return whether it waits, runs, or was lost."""
        return info_of(row, int(time.time() * 1000), is_known=True).state

    @admin.display(description="outcome", ordering="status")
    def outcome(self, row: ScheduleState) -> str:
        """Return the status that the last run ended with."""
        return "" if row.status == "running" else row.status

    @admin.display(description="took")
    def ran_for(self, row: ScheduleState) -> str:
        """Return how long the last run took, its wait for a worker included."""
        if row.started_ms is None or row.ended_ms is None:
            return ""
        return f"{max(0, row.ended_ms - row.started_ms) / 1000:.1f} s"
