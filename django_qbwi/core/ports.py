"""What a scheduler asks of those that it works with: executors, an observer, the environment of items."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from django_qbwi.core.items import WorkItem


class Executor(Protocol):
    """Runs the items of one kind. The scheduler owns the queue; an executor takes from it."""

    def prepare(self) -> None:
        """Start what the first item needs. Called without the lock; may block for a thread start.

        Raises:
            RuntimeError: No thread could be started and there is none.
        """

    def wake(self) -> bool:
        """See to it that the next item is taken soon; called under the lock, before the item is inserted.

        Returns:
            False if somebody should call `grow()`, after the lock.
        """

    def grow(self) -> None:
        """Start one more worker if that is allowed and useful; a failure to do so is contained."""

    def give_up_slot(self, item: WorkItem) -> bool:
        """Let another item run beside `item`, which is overdue; False if there were too many of those."""

    def cancel_natively(self, items: list[WorkItem]) -> None:
        """Interrupt what can be interrupted (asyncio tasks); returns at once."""

    def stack(self, item: WorkItem) -> str:
        """Return the stack of a running item now, without locals."""

    def retire(self) -> None:
        """End the threads when they have nothing left to do; does not wait."""


class Observer(Protocol):
    """Is told what happens to items; nothing that it does can change an outcome.

    None of these is called under the lock. `finished` and `rejected` must not raise.
    """

    @property
    def announces(self) -> bool:
        """Whether anybody wants to know of queued items, before a worker can see them."""

    @property
    def follows(self) -> bool:
        """Whether `astarted` and `afinished` have to be awaited; else the plain ones do."""

    def queued(self, item: WorkItem) -> None:
        """`item` was accepted."""

    def rejected(self, item: WorkItem, error: Exception) -> None:
        """`item` was refused with `error`."""

    def started(self, item: WorkItem) -> None:
        """`item` begins, in its thread and context."""

    def finished(self, item: WorkItem) -> None:
        """`item` has its terminal status."""

    def astarted(self, item: WorkItem) -> Awaitable[None]:
        """As `started`, on the loop of the item."""

    def afinished(self, item: WorkItem) -> Awaitable[None]:
        """As `finished`, on the loop of the item."""

    def late(self, item: WorkItem) -> None:
        """`item` ended after it was declared abandoned."""

    def overdue(self, item: WorkItem, stack: str, replaced: bool) -> None:
        """`item` runs on long after its timeout; `replaced` tells whether it gave up its slot."""


class Environment(Protocol):
    """What surrounds the code of an item; Django's connections, for instance."""

    def before(self) -> None:
        """Get the thread ready for an item; called in the thread that will run it."""

    def after(self) -> None:
        """Clean up behind an item, in the thread that ran it."""

    def thread_ended(self) -> None:
        """Close whatever belongs to this thread, which ends."""

    def scope(self, executor: ThreadPoolExecutor) -> AbstractAsyncContextManager[Any]:
        """Return what surrounds an async item, whose thread-sensitive code shall run on `executor`."""


class NullEnvironment:
    """An environment without anything in it."""

    def before(self) -> None:
        """Do nothing."""

    def after(self) -> None:
        """Do nothing."""

    def thread_ended(self) -> None:
        """Do nothing."""

    def scope(self, executor: ThreadPoolExecutor) -> AbstractAsyncContextManager[Any]:
        """Return an empty scope."""
        return contextlib.nullcontext()


class NullObserver:
    """An observer that does nothing, to be used as a base and where nobody looks."""

    announces = False
    follows = False

    def queued(self, item: WorkItem) -> None:
        """Ignore it."""

    def rejected(self, item: WorkItem, error: Exception) -> None:
        """Ignore it."""

    def started(self, item: WorkItem) -> None:
        """Ignore it."""

    def finished(self, item: WorkItem) -> None:
        """Ignore it."""

    async def astarted(self, item: WorkItem) -> None:
        """Ignore it."""

    async def afinished(self, item: WorkItem) -> None:
        """Ignore it."""

    def late(self, item: WorkItem) -> None:
        """Ignore it."""

    def overdue(self, item: WorkItem, stack: str, replaced: bool) -> None:
        """Ignore it."""
