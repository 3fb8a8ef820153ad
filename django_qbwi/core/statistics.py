"""How many items have ended by each name, how many of them have failed, and how long they waited and ran.

Nothing is counted where an item ends: it is noted there, one append, and the keeper counts some hundred at a time, with
loops of C. Whoever asks counts what is left first, so that no number is late.
Locks: that of the scheduler guards `uncounted`; `_guard` the tables. Neither is held while anybody else's code runs.

Three ways in which this could fail, and what stands against each:
- Names are made of anything, such as numbers of orders: beyond 200 they are counted under one.
- The keeper hangs, or has never started: when too many are noted, whoever ends one counts them.
- A signal handler's exception strikes the main thread while it counts: those at hand are not counted; the totals of
  the scheduler, which are others, are.
"""

from __future__ import annotations

import bisect
import collections
import contextlib
from collections.abc import Callable, Iterable
from typing import Any

from django_qbwi.core.items import WorkItem
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.machine.primitives import holding, new_rlock

MAX_NAMES = 200
"""Names that have numbers of their own."""
OTHER = "other"
"""Under which all others are counted."""
BOUNDS = tuple(10 ** (step / 5) for step in range(-20, 26))
"""Upper bounds of the buckets in seconds, five to a decade: from 0.1 ms to 28 hours. What is above has its own."""
AT_A_TIME = 512
"""Ends of one status after which they are counted; a power of two."""
_TOO_MANY = 8 * AT_A_TIME

# A member is looked up by Python code before 3.12.
_FAILED = WorkItemStatus.FAILED


class NameStatistics:
    """What is known of the items of one name; counts by bucket."""

    __slots__ = ("count", "failures", "running", "waiting")

    def __init__(self) -> None:
        self.count = self.failures = 0
        self.waiting = [0] * (len(BOUNDS) + 1)
        self.running = [0] * (len(BOUNDS) + 1)

    def __repr__(self) -> str:
        return f"<NameStatistics count={self.count} failures={self.failures}>"

    def add(self, items: list[WorkItem]) -> None:
        """Count items that have ended."""
        waited, ran, failures = [], [], 0
        for item in items:
            run, ending = item.last_run, item.ending
            if ending is None:
                continue
            failures += ending.status is _FAILED
            if run is not None and (started := run.started) is not None:
                waited.append(started - item.queued)
                ran.append(ending.finished - started)
        self.count += len(items)
        self.failures += failures
        _count_in(self.waiting, waited)
        _count_in(self.running, ran)

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON; buckets at the end that are empty are left out."""
        return {
            "count": self.count,
            "failures": self.failures,
            "waiting": _trimmed(self.waiting),
            "running": _trimmed(self.running),
        }


class Statistics:
    """The numbers of one scheduler, since its beginning.

    - `totals` are exact at any moment, by the values of the statuses; the numbers by name are when somebody has asked.
    """

    __slots__ = ("_guard", "_is_posted", "_names", "_post", "totals", "uncounted")

    def __init__(self, post: Callable[[Callable[[], object]], object]) -> None:
        """Make it; `post` has a call made soon in another thread."""
        # By the plain string: hashing a member of an enum is a call of Python code.
        self.totals = dict.fromkeys((status._value_ for status in WorkItemStatus if status.is_terminal), 0)
        self.uncounted: collections.deque[WorkItem] = collections.deque()
        self._names: dict[str, NameStatistics] = {}
        self._post = post
        self._is_posted = False
        self._guard = new_rlock()

    def __repr__(self) -> str:
        return f"<Statistics names={len(self._names)} uncounted={len(self.uncounted)}>"

    def have_counted(self) -> None:
        """Have what was noted counted soon; the caller holds the lock of the scheduler."""
        if len(self.uncounted) >= _TOO_MANY:
            self.count()
        elif not self._is_posted:
            self._is_posted = True
            self._post(self._count_as_posted)

    def _count_as_posted(self) -> None:
        self._is_posted = False
        self.count()

    def count(self) -> None:
        """Count what was noted; any thread, with or without the lock of the scheduler."""
        holding(self._guard, self._count)

    def by_name(self) -> dict[str, dict[str, Any]]:
        """Return the numbers of each name, as JSON knows them."""
        return holding(self._guard, self._by_name)

    def _by_name(self) -> dict[str, dict[str, Any]]:
        self._count()
        return {name: numbers.to_dict() for name, numbers in self._names.items()}

    def _count(self) -> None:
        items: list[WorkItem] = []
        with contextlib.suppress(IndexError):
            # One by one, which needs no lock: others come meanwhile, and a finalizer may count them in this thread.
            while True:
                items.append(self.uncounted.popleft())
        # By identity, as long as all of them are there: nobody's hash is asked.
        keys = [item.options.name or id(item.called) for item in items]
        groups: dict[str | int, list[WorkItem]] = {}
        if len(set(keys)) == 1:
            groups[keys[0]] = items
        else:
            for key, item in zip(keys, items, strict=True):
                groups.setdefault(key, []).append(item)
        for group in groups.values():
            self._of(group[0].name).add(group)

    def _of(self, name: str) -> NameStatistics:
        names = self._names
        found = names.get(name)
        if found is None:
            name = name if len(names) < MAX_NAMES else OTHER
            found = names.setdefault(name, NameStatistics())
        return found


def _count_in(buckets: list[int], seconds: Iterable[float]) -> None:
    ordered, first = sorted(seconds), 0
    while first < len(ordered):
        bucket = bisect.bisect_left(BOUNDS, ordered[first])
        after = bisect.bisect_right(ordered, BOUNDS[bucket], first) if bucket < len(BOUNDS) else len(ordered)
        buckets[bucket] += after - first
        first = after


def _trimmed(buckets: list[int]) -> list[int]:
    used = next((place for place in range(len(buckets), 0, -1) if buckets[place - 1]), 0)
    return buckets[:used]
