"""A lane: where items of one kind, or for one pool, queue up for the executor that runs them."""

from __future__ import annotations

import dataclasses
from collections import deque
from typing import Any, Generic, Literal, TypeVar

from django_qbwi.core.ports import Executor

Item = TypeVar("Item")

SYNC = "sync"
ASYNC = "async"
"""The two lanes that items go to which ask for none."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a lane takes at a time; None where the scheduler's own bound is the only one."""

    running: int | None = None
    """Items that run beside each other, without overdue ones."""


class Lane(Generic[Item]):
    """One queue with the one executor that takes from it.

    - Its items start first in, first out; lanes do not wait for each other.
    - An item belongs to one lane at a time, which `item.lane` names; whatever has to be done to it (wake, interrupt,
      give up, describe) goes through that lane's executor.

    Lock: that of the scheduler guards the queue.
    """

    __slots__ = ("executor", "kind", "limits", "name", "queue")

    def __init__(self, name: str, kind: Literal["sync", "async"] = "sync", limits: Limits | None = None) -> None:
        self.name = name
        self.kind: Literal["sync", "async"] = kind
        """What `WorkItemInfo.kind` says of its items."""
        self.limits = Limits() if limits is None else limits
        self.queue: deque[Item] = deque()
        self.executor: Executor[Item] = _NOBODY
        """What serves it: it names itself, at its making, before the first item."""

    def __repr__(self) -> str:
        return f"<Lane {self.name} queued={len(self.queue)} executor={self.executor!r}>"

    @property
    def waiting(self) -> int:
        """Items that wait in it."""
        return len(self.queue)


class _Nobody:
    """Stands in a lane that nothing serves yet."""

    def __repr__(self) -> str:
        return "nobody"

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"nothing serves this lane yet: there is nobody to {name}()")


_NOBODY: Any = _Nobody()
