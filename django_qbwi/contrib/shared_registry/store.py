"""The rows of the table: everything that is asked of the database.

- A row is written by its process, and removed by it at its end or by anybody when it is old.
- `cancel_requests` is written by many: each compares what it read and swaps the whole text in one UPDATE, and tries
  again if somebody was faster. No transaction is opened, so that nobody holds a row over more than one statement.
- All times are those of the database, so that the clocks of the hosts need not agree.

How it can fail, and what happens then:

1. The database is down, or the table is missing: every function raises; the caller says so and tries again later.
2. The row is gone, because the process was stopped for five minutes and another one purged it: `write` makes it anew.
3. Two write at once: the one whose comparison fails reads again; after ten times it gives up and says so.

Bulk operations only: they send no signals, which receivers of the site for all models would take for their own.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from django.db import connections, models, router, transaction
from django.db.models.functions import Now

from django_qbwi.contrib.shared_registry.models import HostedProcess

STALE_AFTER = datetime.timedelta(seconds=30)
"""Without a sign of life a process may have ended."""
PURGE_AFTER = datetime.timedelta(minutes=5)
"""Without a sign of life its row is removed."""
MAX_REQUESTS = 1_000
"""Items that one process may be asked to cancel at a time."""

_MAX_ROWS = 1_000
_TRIES = 100
"""Each that fails is one of somebody else that succeeded: it takes as many operators to use them up."""

Request = tuple[str, str]
"""The id of an item, and who wants it cancelled."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a process writes down of itself."""

    key: str
    site: str
    host: str
    pid: int
    place: str
    state: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A row as it was read, and how long ago it was written."""

    key: str
    place: str
    state: str
    age: datetime.timedelta


class Store:
    """The table; blocks as long as the database does."""

    def __init__(self, now: Callable[[], Any] = Now) -> None:
        """Make it; `now` returns the SQL expression of the present moment."""
        self._now = now

    def __repr__(self) -> str:
        return f"<Store database={self.database!r}>"

    @property
    def database(self) -> str:
        """The alias of the database, as the routers of the site choose it."""
        return router.db_for_write(HostedProcess)

    def requests(self, key: str) -> str:
        """Return the text of the cancel requests of a process, "" also if there is no row."""
        return self._rows.filter(pk=key).values_list("cancel_requests", flat=True).first() or ""

    def write(self, row: Row, done: str) -> bool:
        """Write a row down, and take away the requests `done`; False if others have come meanwhile."""
        values = {"site": row.site, "place": row.place, "state": row.state, "seen_at": self._now()}
        if self._rows.filter(pk=row.key, cancel_requests=done).update(cancel_requests="", **values):
            return True
        if self._rows.filter(pk=row.key).update(**values):
            return False
        self._rows.bulk_create([HostedProcess(key=row.key, host=row.host[:255], pid=row.pid, **values)])
        return True

    def touch(self, key: str) -> bool:
        """Write down that a process lives and is as it was, if there is its row and nothing is wanted of it."""
        return bool(self._rows.filter(pk=key, cancel_requests="").update(seen_at=self._now()))

    def remove(self, key: str) -> None:
        """Remove a row."""
        self._delete(self._rows.filter(pk=key))

    def purge(self) -> None:
        """Remove the rows of processes that have long been silent."""
        old = self._rows.filter(seen_at__lt=self._now() - PURGE_AFTER)
        # Nearly always there are none, and a DELETE takes the one lock for writing of SQLite all the same.
        if old.exists():
            self._delete(old)

    def read(self, sites: Iterable[str]) -> list[Found]:
        """Return the rows of a site that are not too old."""
        # Subtracted by the database: what it hands out may be naive (USE_TZ = False), and naive times are an hour apart
        # from the truth when the clocks change.
        age = models.ExpressionWrapper(self._now() - models.F("seen_at"), output_field=models.DurationField())
        with self._guarded():
            rows = list(
                self._rows.filter(site__in=list(sites))
                .annotate(age=age)
                .order_by("host", "pid")
                .values_list("key", "place", "state", "age")[:_MAX_ROWS]
            )
        found = [
            Found(key=key, place=place, state=state, age=max(age, datetime.timedelta()))
            for key, place, state, age in rows
        ]
        return [row for row in found if row.age < PURGE_AFTER]

    def request(self, key: str, wanted: Iterable[Request]) -> bool:
        """Add cancel requests to a row; False if there is none, there are too many, or others were always faster."""
        with self._guarded():
            for _ in range(_TRIES):
                before = self._rows.filter(pk=key).values_list("cancel_requests", flat=True).first()
                if before is None:
                    return False
                merged = {**dict(wanted), **dict(requests_of(before))}
                if len(merged) > MAX_REQUESTS:
                    return False
                after = json.dumps(list(merged.items()))
                if self._rows.filter(pk=key, cancel_requests=before).update(cancel_requests=after):
                    return True
        return False

    def _guarded(self) -> AbstractContextManager[Any]:
        """Keep a query that fails from spoiling a transaction of the caller, whose connection this is."""
        # Else there shall be none: SQLite does not let one that has read wait for its turn to write.
        database = self.database
        return transaction.atomic(using=database) if connections[database].in_atomic_block else nullcontext()

    @property
    def _rows(self) -> models.QuerySet[HostedProcess]:
        # Never a replica, which may lag behind.
        return HostedProcess._base_manager.using(self.database)

    def _delete(self, rows: models.QuerySet[HostedProcess]) -> None:
        # `delete` would read the rows first where somebody listens to the deletions of all models.
        rows._raw_delete(self.database)


def requests_of(text: str) -> list[Request]:
    """Return what a text of cancel requests says; what is none is left out."""
    try:
        pairs = json.loads(text) if text else []
    except (ValueError, RecursionError):
        return []
    return [
        (pair[0], pair[1])
        for pair in (pairs if isinstance(pairs, list) else ())
        if isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)
    ]
