"""A lane: where items of one kind and pool queue up for the executor that runs them; and what a pool of lanes is."""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, Literal, TypeVar

from django_qbwi.core.ports import Executor

Item = TypeVar("Item")

SYNC = "sync"
ASYNC = "async"
"""The two lanes that items go to which ask for none."""
TRACKED_SYNC = "tracked"
TRACKED_ASYNC = "tracked async"
"""Those of what was started elsewhere, in which nothing waits."""
DEFAULT = "default"
"""The pool of those lanes, and of all that name none."""

_WORTH_A_PASS = 8
"""As many searches take as long as it takes to put the whole queue in order."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a lane takes at a time; None where the scheduler's own bound is the only one."""

    running: int | None = None
    """Items that run beside each other, without overdue ones."""


class Lane(Generic[Item]):
    """One queue with the one executor that takes from it.

    - Its items start first in, first out within a priority, the highest first; lanes do not wait for each other.
    - An item belongs to one lane at a time, which `item.lane` names; whatever has to be done to it (wake, interrupt,
      give up, describe) goes through that lane's executor.

    Lock: that of the scheduler guards the queue.
    """

    __slots__ = (
        "executor",
        "held",
        "is_prepared",
        "keeps_order",
        "kind",
        "limits",
        "name",
        "owns_failures",
        "pool",
        "put",
        "queue",
    )

    def __init__(self, name: str, kind: Literal["sync", "async"] = "sync", limits: Limits | None = None) -> None:
        self.name = name
        self.kind: Literal["sync", "async"] = kind
        """What `WorkItemInfo.kind` says of its items."""
        self.limits = Limits() if limits is None else limits
        self.owns_failures = True
        """Whether what its items raise is nobody else's, and loses its frames."""
        self.queue: deque[Item] = deque()
        self.held: dict[Item, None] = {}
        """Those that are to come into the queue when it is the turn of their key."""
        self.keeps_order = False
        """Whether an item of it has had a priority."""
        self.put: Callable[[Item], object] = self.queue.append
        """Insert an item at its place; one step of C, as long as none has had a priority."""
        self.executor: Executor[Item] = _NOBODY
        """What serves it: it names itself, at its making, before the first item."""
        self.is_prepared = False
        """Whether the executor has what its first item needs; one of a named pool gets it for its first item."""
        self.pool: Pool[Item] | None = None
        """The one that it belongs to; None only until the scheduler takes it in, with the default one for it."""

    def __repr__(self) -> str:
        return f"<Lane {self.name} queued={len(self.queue)} executor={self.executor!r}>"

    @property
    def waiting(self) -> int:
        """Items that wait in it, or to come into it."""
        return len(self.queue) + len(self.held)

    @property
    def pool_name(self) -> str:
        """The name of its pool."""
        return DEFAULT if self.pool is None else self.pool.name

    def drop_ended(self, ended: list[Item]) -> None:
        """Take out items that have an ending; with the lock held, in a thread that no signal handler strikes.

        Each step is one of C: what a finalizer queues or cancels meanwhile, in this thread, is neither lost nor left.
        """
        drop_ended(self.queue, ended)

    def keep_order(self) -> None:
        """Look at the priority of each item from now on: one comes that has its own. Any thread."""
        self.put = self._insert
        self.keeps_order = True

    def _insert(self, item: Item) -> None:
        insert_by_priority(self.queue, item)


class Pool(Generic[Item]):
    """Lanes that have one bound together for what waits in them, so that a slow kind starves no other.

    Lock: that of the scheduler guards what is counted.
    """

    __slots__ = ("lanes", "max_queued", "name")

    def __init__(self, name: str, max_queued: int, *lanes: Lane[Item]) -> None:
        self.name: Final = name
        self.max_queued: Final = max_queued
        """Items accepted and not started, but for those that wait for their time."""
        self.lanes: list[Lane[Item]] = []
        """All of them, before the first item."""
        for lane in lanes:
            self.add(lane)

    def __repr__(self) -> str:
        return f"<Pool {self.name} queued={self.waiting}>"

    def add(self, lane: Lane[Item]) -> None:
        """Have a lane belong to it; before the first item."""
        lane.pool = self
        self.lanes.append(lane)

    @property
    def waiting(self) -> int:
        """Items that wait in its lanes, or to come into them."""
        return sum(lane.waiting for lane in self.lanes)

    @property
    def fullness(self) -> str:
        """Say that it is full, and by which setting."""
        where = "" if self.name == DEFAULT else f" in the pool {self.name!r}"
        return f"{self.max_queued} items are waiting already{where}, which is {self.setting('MAX_QUEUED')}"

    def setting(self, key: str) -> str:
        """Return where a setting of it stands, for messages."""
        return f'QBWI["{key}"]' if self.name == DEFAULT else f'QBWI["POOLS"]["{self.name}"]["{key}"]'


def lane_name(pool: str | None, is_async: bool) -> str | None:
    """Return the name of a pool's lane for one kind; None, which stands for the lane of that kind, of the default."""
    if pool is None or pool == DEFAULT:
        return None
    # No other lane is called so, whatever the pool is.
    return f"{ASYNC if is_async else SYNC} of {pool}"


def insert_by_priority(queue: deque[Item], item: Item, *, first: bool = False) -> None:
    """Insert an item behind those of its priority, or before them, if it shall be the `first`."""
    insort = bisect.insort_left if first else bisect.insort_right
    while True:
        try:
            # A deque is read in its middle in blocks of 64: microseconds, with 100,000 items too.
            insort(queue, item, key=_precedence)
        except IndexError:
            # A finalizer has cancelled one of them meanwhile, in this thread: nothing is inserted yet.
            continue
        return


def drop_ended(queue: deque[Any], ended: list[Any]) -> None:
    """Take items that have an ending out of a queue; see `Lane.drop_ended`."""
    # In most cases they have waited the longest.
    left = [item for item in ended if not (queue and queue[0] is item and queue.popleft())]
    if len(left) < _WORTH_A_PASS:
        for item in left:
            with contextlib.suppress(ValueError):
                queue.remove(item)
        return
    with contextlib.suppress(IndexError):
        for _ in range(len(queue)):
            if _has_ended(queue[0]):
                queue.popleft()
            else:
                queue.rotate(-1)


def _has_ended(item: Any) -> bool:
    return item.ending is not None


def _precedence(item: Any) -> int:
    return -int(item.options.priority)


class _Nobody:
    """Stands in a lane that nothing serves yet."""

    def __repr__(self) -> str:
        return "nobody"

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"nothing serves this lane yet: there is nobody to {name}()")


_NOBODY: Any = _Nobody()
