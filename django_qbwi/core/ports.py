"""What the core asks of those around it, as protocols, so that nobody has to import anybody for a type.

They name no class of the core that is above them: `Item` stands for the items that are passed along.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar

from django_qbwi.core.cancellation import StopFlag
from django_qbwi.core.exceptions import WorkItemRejected
from django_qbwi.machine.primitives import Lock

Item = TypeVar("Item", contravariant=True)


class Owner(Protocol[Item]):
    """What an item asks of the scheduler that it belongs to."""

    clock: Callable[[], float]
    lanes: Mapping[str, Any]
    """The lanes that its items can go to, by name."""
    lock: Lock
    """Guards the item."""
    stop: StopFlag

    @property
    def pid(self) -> int:
        """The process that its items belong to."""

    def due(self, item: Item) -> float | None:
        """Return the monotonic second for which an item waits before it goes to its lane, None if for none."""

    def expires(self, item: Item) -> float | None:
        """Return the monotonic second from which on an item that waits does not start any more, None without one."""

    def make_id(self, size: int = 12) -> str:
        """Return a new public id of `size` bytes."""

    def wall_clock(self, monotonic: float) -> float:
        """Return a moment of the monotonic clock as seconds since the epoch."""

    def cancel(self, item: Item, message: str | None = None) -> bool:
        """Cancel one item; return whether this was the first cancellation of an item that had not ended."""


class Executor(Protocol[Item]):
    """Runs the items of one lane. The lane owns the queue; an executor takes from it."""

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

    def give_up_slot(self, item: Item) -> bool:
        """Let another item run beside `item`, which is overdue; False if there were too many of those."""

    def cancel_natively(self, items: Sequence[Item]) -> None:
        """Interrupt what can be interrupted (asyncio tasks); returns at once."""

    def stack(self, item: Item) -> str:
        """Return the stack of a running item now, without locals."""

    @property
    def is_stuck(self) -> bool:
        """Whether no further item can be taken until an overdue one ends."""

    def retire(self) -> None:
        """End the threads when they have nothing left to do; does not wait."""

    def join(self, timeout: float) -> bool:
        """Wait after `retire` for the last acts of the threads, `timeout` seconds at the most; False if too short."""

    def stop_in_child(self) -> None:
        """Keep what a forked child has inherited from taking another step; called in the child."""


class Movable(Protocol[Item]):
    """A call that another engine can get, in this process's place."""

    @property
    def target(self) -> str:
        """Where it went, for records: the engine, and the id that it has there; or why it did not."""

    def take_over(self, item: Item, refusal: WorkItemRejected, tell: Callable[[], object]) -> WorkItemRejected | None:
        """Move `item`, which is refused here, in its caller's thread; call `tell()` when the engine has it.

        Returns:
            What to refuse it with, None if the engine has accepted it.
        """

    def remember(self, state: dict[str, Any]) -> None:
        """Have the engine called with the arguments of a checkpoint, wherever it may get the item."""

    def go_on(self, item: Item, state: dict[str, Any]) -> None:
        """Move the rest of `item`, which has left its code at a checkpoint; in its thread, without waiting for it."""


class Resumable(Protocol):
    """A call that can go on from the state of a checkpoint."""

    def with_state(self, state: dict[str, Any]) -> object:
        """Find out how it would go on from `state`; it raises at one from which it could not."""

    def go_on_from(self, state: dict[str, Any]) -> None:
        """Have it called with the arguments of a checkpoint from now on."""


class Retries(Protocol):
    """Decides whether another attempt follows one that has failed."""

    def seconds_until_next(self, attempt: int, error: BaseException) -> float | None:
        """Return the seconds from now on until the next one, None if there is none; in the item's thread.

        Args:
            attempt: The number of the one that has failed, 1 for the first.
            error: What it has raised.

        Raises:
            BaseException: Whatever the user's code raises; then there is none.
        """


class Observer(Protocol[Item]):
    """Is told what happens to items; nothing that it does can change an outcome.

    None of these is called under the lock. `record_end`, `record_retry`, `finished`, `retried` and `rejected` must not
    raise.
    """

    @property
    def announces(self) -> bool:
        """Whether anybody wants to know of queued items, before a worker can see them."""

    @property
    def follows(self) -> bool:
        """Whether `astarted` and `afinished` have to be awaited; else the plain ones do."""

    def queued(self, item: Item) -> None:
        """`item` was accepted."""

    def rejected(self, item: Item, error: Exception) -> None:
        """`item` was refused with `error`."""

    def started(self, item: Item) -> None:
        """`item` begins, in its thread and context."""

    def writes_end(self, item: Item) -> bool:
        """Whether `record_end` would write anything of `item`, which has its terminal status."""

    def record_retry(self, item: Item) -> None:
        """Write the record of an attempt of `item` that has failed, and is followed by another one; as `record_end`."""

    def retried(self, item: Item) -> None:
        """Another attempt of `item` follows, and its record is written; before it can begin."""

    def record_end(self, item: Item) -> None:
        """Write the record of the end of `item`; in any thread, with what was in force around its code."""

    def finished(self, item: Item) -> None:
        """`item` has ended, and its record is written."""

    def astarted(self, item: Item) -> Awaitable[None]:
        """As `started`, on the loop of the item."""

    def afinished(self, item: Item) -> Awaitable[None]:
        """As `finished`, on the loop of the item."""

    def late(self, item: Item) -> None:
        """`item` ended after it was declared abandoned."""

    def overdue(self, item: Item, stack: str, replaced: bool) -> None:
        """`item` runs on long after its timeout; `replaced` tells whether it gave up its slot."""


class Environment(Protocol):
    """What surrounds the code of an item; Django's connections, for instance."""

    def before(self) -> None:
        """Get the thread ready for an item; called in the thread that will run it."""

    def after(self) -> None:
        """Clean up behind an item, in the thread that ran it."""

    def repair(self) -> None:
        """Replace what was lost in this thread, which is anybody's, and leave the rest as it is."""

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

    def repair(self) -> None:
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

    def queued(self, item: Any) -> None:
        """Ignore it."""

    def rejected(self, item: Any, error: Exception) -> None:
        """Ignore it."""

    def started(self, item: Any) -> None:
        """Ignore it."""

    def writes_end(self, item: Any) -> bool:
        """Write nothing."""
        return False

    def record_retry(self, item: Any) -> None:
        """Ignore it."""

    def retried(self, item: Any) -> None:
        """Ignore it."""

    def record_end(self, item: Any) -> None:
        """Ignore it."""

    def finished(self, item: Any) -> None:
        """Ignore it."""

    async def astarted(self, item: Any) -> None:
        """Ignore it."""

    async def afinished(self, item: Any) -> None:
        """Ignore it."""

    def late(self, item: Any) -> None:
        """Ignore it."""

    def overdue(self, item: Any, stack: str, replaced: bool) -> None:
        """Ignore it."""
