"""What is written to the table, and read from it. Each call is one statement, or two that may come apart.

Moments are milliseconds since the epoch. "Claimed" is by an UPDATE with the moment at which the tick was due in its
condition: of all processes that try, the database lets one change the row, and the others find none to change.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

from django.db import connections, models, router, transaction

from django_qbwi.contrib.schedules.models import ScheduleState

LEASE = 120_000
"""For how long a run is taken to go on without a word of its process."""
STALE_AFTER = 86_400_000
"""For how long a schedule that no process knows stays after it was due."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One run of one schedule."""

    name: str
    key: str
    """Used once, so that a run which was taken for lost changes nothing of the next one."""
    tick: int
    """When it was due."""


class Store:
    """The table; blocks as long as the database does."""

    def __repr__(self) -> str:
        return f"<Store database={self.database!r}>"

    @property
    def database(self) -> str:
        """The alias of the database, as the routers of the site choose it."""
        return router.db_for_write(ScheduleState)

    def rows(self) -> dict[str, ScheduleState]:
        """Return all rows, by name; one that fails spoils no transaction of the caller."""
        database = self.database
        opened = transaction.atomic(using=database) if connections[database].in_atomic_block else nullcontext()
        with opened:
            return {row.name: row for row in self._rows.order_by("name")}

    def add(self, name: str, when: str, next_ms: int) -> None:
        """Add a row for a schedule that is new, unless another process has done so."""
        # Asked before: a statement that fails is nothing to meet in the log of a database at each start.
        self._rows.bulk_create([ScheduleState(name=name, when=when, next_ms=next_ms)], ignore_conflicts=True)

    def reckon(self, row: ScheduleState, when: str, next_ms: int) -> bool:
        """Have a schedule due at another moment; False if another process was faster."""
        return self._change(row.name, {"when": row.when, "next_ms": row.next_ms}, when=when, next_ms=next_ms)

    def claim(self, row: ScheduleState, claim: Claim, next_ms: int, now: int, place: str, *, overlap: bool) -> bool:
        """Take the tick that `row` says is due; False if another process has it, or its run still goes on."""
        asked: dict[str, Any] = {"when": row.when, "next_ms": claim.tick}
        if not overlap:
            asked["busy_until_ms__lte"] = now
        return self._change(
            row.name,
            asked,
            next_ms=next_ms,
            claim=claim.key,
            tick_ms=claim.tick,
            started_ms=now,
            ended_ms=None,
            status="running",
            item="",
            place=place[:300],
            busy_until_ms=now + LEASE,
        )

    def skip(self, row: ScheduleState, next_ms: int, now: int) -> bool:
        """Leave out the tick that `row` says is due, since a run goes on; False if another process has done so."""
        asked = {"when": row.when, "next_ms": row.next_ms, "busy_until_ms__gt": now}
        return self._change(row.name, asked, next_ms=next_ms, skipped=models.F("skipped") + 1)

    def give_back(self, claim: Claim) -> None:
        """Have a tick be due again, whose run never began."""
        asked = {"claim": claim.key, "next_ms__gt": claim.tick}
        self._change(claim.name, asked, next_ms=claim.tick, claim="", status="", busy_until_ms=0, started_ms=None)

    def begun(self, claim: Claim, item: str) -> None:
        """Write down the work item of a run."""
        self._change(claim.name, {"claim": claim.key}, item=item[:64])

    def ended(self, claim: Claim, status: str, now: int) -> None:
        """Write down how a run has ended, unless a later one has begun."""
        self._change(claim.name, {"claim": claim.key}, status=status[:16], ended_ms=now, busy_until_ms=0)

    def renew(self, keys: Iterable[str], now: int) -> bool:
        """Write down that these runs go on; False if none of them is the last one of its schedule any more."""
        return bool(self._rows.filter(claim__in=list(keys)).update(busy_until_ms=now + LEASE))

    def purge(self, known: Iterable[str], now: int) -> list[str]:
        """Remove the rows of schedules that no process has run for long, and that are not `known` here."""
        old = self._rows.filter(next_ms__lt=now - STALE_AFTER, busy_until_ms__lte=now).exclude(name__in=list(known))
        names = list(old.values_list("name", flat=True))
        if names:
            # Nearly always there are none, and a DELETE takes the one lock for writing of SQLite all the same.
            old.filter(name__in=names)._raw_delete(self.database)
        return names

    def is_missing(self) -> bool:
        """Tell whether the database can be asked, and has no such table."""
        connection = connections[self.database]
        with connection.cursor() as cursor:
            return ScheduleState._meta.db_table not in connection.introspection.table_names(cursor)

    @property
    def _rows(self) -> models.QuerySet[ScheduleState]:
        # Never a replica, which may lag behind.
        return ScheduleState._base_manager.using(self.database)

    def _change(self, name: str, asked: dict[str, Any], **values: Any) -> bool:
        return bool(self._rows.filter(pk=name, **asked).update(**values))
