"""The rows of the table: everything that is asked of the database.

Bulk operations only: they send no signals, which receivers of the site for all models would take for their own.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from django.db import connections, models, router

from django_qbwi.contrib.history.models import HistoryEntry
from django_qbwi.contrib.history.rows import moment
from django_qbwi.hosting.history import Wanted

_CHUNK = 500
_MOST_CHUNKS = 20
_SEARCHED = ("error_type", "message", "traceback", "origin", "request_id", "details")


class Store:
    """The table; blocks as long as the database does, and raises what that raises."""

    def __repr__(self) -> str:
        return f"<Store database={self.database!r}>"

    @property
    def database(self) -> str:
        """The alias of the database, as the routers of the site choose it."""
        return router.db_for_write(HistoryEntry)

    def write(self, entries: Sequence[HistoryEntry]) -> None:
        """Write rows down, in one statement; those that are there already stay as they are."""
        # What was written, and whose answer was lost, comes again.
        ignores = connections[self.database].features.supports_ignore_conflicts
        for entry in entries:
            # A try that failed may have left its key.
            entry.pk = None
        self._rows.bulk_create(entries, ignore_conflicts=ignores)

    def has(self, item_id: str) -> bool:
        """Tell whether there is the row of an item."""
        return self._rows.filter(item_id=item_id).exists()

    def clean(self, before: datetime.datetime | None, most: int | None) -> int:
        """Remove rows of items that ended before a moment, and the oldest of those that are too many.

        Returns:
            How many. There may be more: at most 10,000 are removed at a time, 500 in each statement.
        """
        removed = 0
        if before is not None:
            removed += self._delete(self._rows.filter(finished_at__lt=moment(before)))
        if most is not None:
            last = self._newest_first.values_list("finished_at", "pk")[most : most + 1].first()
            if last is not None:
                too_many = models.Q(finished_at__lt=last[0]) | models.Q(finished_at=last[0], pk__lte=last[1])
                removed += self._delete(self._rows.filter(too_many))
        return removed

    def read(self, wanted: Wanted) -> list[HistoryEntry]:
        """Return rows, newest first."""
        rows = self._newest_first
        if wanted.item_id:
            rows = rows.filter(item_id__startswith=wanted.item_id)
        if wanted.statuses:
            rows = rows.filter(status__in=list(wanted.statuses))
        if wanted.pids:
            rows = rows.filter(pid__in=list(wanted.pids))
        if wanted.name:
            rows = rows.filter(name__icontains=wanted.name)
        if wanted.since is not None:
            rows = rows.filter(finished_at__gte=moment(wanted.since))
        if wanted.text:
            found = models.Q()
            for field in _SEARCHED:
                found |= models.Q(**{f"{field}__icontains": wanted.text})
            rows = rows.filter(found)
        return list(rows[: wanted.limit])

    @property
    def _rows(self) -> models.QuerySet[HistoryEntry]:
        # Never a replica, which may lag behind.
        return HistoryEntry._base_manager.using(self.database)

    @property
    def _newest_first(self) -> models.QuerySet[HistoryEntry]:
        return self._rows.order_by("-finished_at", "-pk")

    def _delete(self, rows: models.QuerySet[HistoryEntry]) -> int:
        # In chunks, so that nobody waits for long; and read first: nearly always there are none, and a DELETE takes the
        # one lock for writing of SQLite all the same.
        removed = 0
        for _ in range(_MOST_CHUNKS):
            keys = list(rows.order_by("finished_at", "pk").values_list("pk", flat=True)[:_CHUNK])
            if keys:
                # `delete` would read the rows where somebody listens to the deletions of all models.
                self._rows.filter(pk__in=keys)._raw_delete(self.database)
                removed += len(keys)
            if len(keys) < _CHUNK:
                break
        return removed
