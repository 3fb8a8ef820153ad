"""One thread of the executor for sync items."""

from __future__ import annotations

import threading
import weakref
from contextvars import Context
from typing import Any, Protocol

from django_qbwi.core.items import WorkItem
from django_qbwi.machine.primitives import new_lock, thread_ident_getter
from django_qbwi.machine.supervised import Life
from django_qbwi.machine.thread_state import ThreadState

FORKED = object()
"""What `run_item` returns in a child that the item forked and let return."""


class Crew(Protocol):
    """What a worker asks of the executor that it belongs to; all of it in its own thread."""

    mine: Any
    """Locals of the thread."""
    lives: dict[Worker, weakref.ref[Life]]

    @property
    def is_here(self) -> bool:
        """Whether this is the process that the workers belong to, not a child that an item has forked."""

    def enlist(self, worker: Worker) -> bool:
        """Count a worker that has just started; False if there are enough."""

    def next_item(self, worker: Worker) -> bool:
        """Give the worker its next item, or park it; False if it shall end."""

    def run_item(self, worker: Worker, item: WorkItem) -> Any:
        """Run an item; return an awaitable that it made, FORKED in a child that it made, or None."""

    def adopt(self, item: WorkItem, awaitable: Any, context: Context) -> None:
        """Hand an awaitable over to the loop."""

    def dismiss(self, worker: Worker, error: BaseException | None) -> None:
        """Strike out a worker that ends."""


class Worker:
    """One thread: take an item, run it in a context of its own, park when there is none."""

    __slots__ = ("_executor", "ident", "item", "name", "park", "state")

    def __init__(self, executor: Crew) -> None:
        self._executor = executor
        self.item: WorkItem | None = None
        self.name: str | None = None
        self.ident: int | None = None
        self.park = new_lock()
        self.park.acquire()

    def run(self, held: list[Life]) -> None:
        """Serve until there is nothing left to do; `held` is what the executor knows the thread's life by."""
        executor = self._executor
        executor.mine.life = held.pop()
        error: BaseException | None = None
        self.name, self.ident = threading.current_thread().name, thread_ident_getter()()
        self.state = ThreadState()
        try:
            if executor.enlist(self):
                self._serve()
        except BaseException as caught:
            error = caught
        # In a child that an item forked and let return, nothing of the parent may be touched any more: the child
        # would go on with the parent's queue ("charge card" ran twice).
        if executor.is_here:
            executor.dismiss(self, error)
        executor.lives.pop(self, None)

    def _serve(self) -> None:
        executor = self._executor
        while executor.next_item(self):
            item = self.item
            if item is None:
                self.park.acquire()
                continue
            context = Context()
            awaitable = context.run(executor.run_item, self, item)
            if awaitable is not None:
                if awaitable is FORKED:
                    return
                executor.adopt(item, awaitable, context)
            # A parked worker must not keep the last item's objects alive.
            self.item = None
            del item, awaitable, context
