"""Cooperative cancellation: a token to look at, and a source to cancel it.

States of a token: not cancelled -> cancelled, once, with one reason that never changes.
Lock: `StopFlag.lock`, shared by all tokens of a scheduler, guards the reasons and the registrations.
A token is asked far more often than it is cancelled: asking takes no lock.
"""

from __future__ import annotations

import asyncio
import enum
import threading
from collections.abc import Callable
from typing import Any

from django_qbwi.core.loops import loop_waker
from django_qbwi.core.process_local import ProcessLocal
from django_qbwi.core.progress import Progress, progress_of
from django_qbwi.core.queries import CancelsQueries
from django_qbwi.core.stop import NOT_BEGUN, CancellationRegistration, StopFlag, call_all
from django_qbwi.machine.primitives import Alarm, holding
from django_qbwi.machine.running_loop import refuse_on_running_loop

__all__ = [
    "CancelReason",
    "CancellationRegistration",
    "CancellationToken",
    "CancellationTokenSource",
    "OperationCancelled",
    "StopFlag",
]

_MAX_MESSAGE_LENGTH = 500


class CancelReason(enum.StrEnum):
    """Why a token was cancelled."""

    SHUTDOWN = "shutdown"
    """The process is ending: finish or save within `token.remaining()` seconds."""
    REQUESTED = "requested"
    """Somebody called `cancel()`."""
    TIMEOUT = "timeout"
    """The item ran for longer than its timeout."""
    EXPIRED = "expired"
    """The item has not started within its `expires` seconds."""


class OperationCancelled(asyncio.CancelledError):
    """Raised by `CancellationToken.raise_if_cancellation_requested`; carries the token.

    It passes `except Exception`, rolls back `transaction.atomic()` and cancels an `asyncio.Task` natively.
    A child of an `asyncio.TaskGroup` that raises it ends silently, as asyncio does: check the token in the parent too.
    """

    def __init__(self, token: CancellationToken) -> None:
        reason, message = token.reason, token.message
        super().__init__(f"cancelled ({reason})" + (f": {message}" if message else ""))
        self.token = token

    def __reduce__(self) -> tuple[Any, ...]:
        # The token stays here: what is restored elsewhere carries one that is cancelled for the same reason.
        state = {name: value for name, value in self.__dict__.items() if name != "token"}
        return _restored, (type(self), self.args, self.token.reason, self.token.message), state


class CancellationToken(CancelsQueries, ProcessLocal):
    """Tells running code that it should stop; it never interrupts anything.

    All of it may be used from any thread. Reading never blocks and is allowed in signal handlers and on event loops.
    """

    pass_instead = "what it says, such as token.is_cancellation_requested or token.remaining()"

    __slots__ = ("__weakref__", "_began", "_deadline", "_message", "_progress", "_reason", "_registrations", "_stop")

    def __init__(self, stop: StopFlag, *, waits: bool = False) -> None:
        """Make it; with `waits` the flag counts only when the item has begun, see `begin`."""
        self._stop = stop
        self._began: float | None = NOT_BEGUN if waits else None
        self._reason: CancelReason | None = None
        self._message: str | None = None
        self._deadline: float | None = None
        self._registrations: dict[CancellationRegistration, None] | None = None

    @classmethod
    def none(cls) -> CancellationToken:
        """Return a token that is never cancelled, to call an item's function by hand, as in a unit test."""
        return cls(StopFlag())

    def __repr__(self) -> str:
        state = f"cancelled reason={self.reason}" if self.is_cancellation_requested else "not cancelled"
        return f"<CancellationToken {state} deadline={self.deadline}>"

    @property
    def is_cancellation_requested(self) -> bool:
        """True from the moment of cancellation on."""
        return self._reason is not None or (self._stop.requested and self._is_stopped())

    @property
    def stopped_from(self) -> float:
        """The monotonic second from which a stop of the process counts for this token; 0.0 is at once."""
        return 0.0 if self._began is None else self._stop.spared_until(self._began)

    def _is_stopped(self) -> bool:
        return self._began is None or self._stop.clock() >= self._stop.spared_until(self._began)

    @property
    def reason(self) -> CancelReason | None:
        """Why the token was cancelled, None if it is not. It never changes once set."""
        reason = self._reason
        if reason is None and self._stop.requested and self._is_stopped():
            holding(self._stop.lock, self._stopped)
            return self._reason
        return reason

    def _stopped(self) -> None:
        # What is stored first wins, so that no two readers see different reasons.
        self._reason = self._reason or CancelReason.SHUTDOWN

    @property
    def message(self) -> str | None:
        """What the one who cancelled had to say, None in most cases."""
        return self._message

    @property
    def deadline(self) -> float | None:
        """The monotonic second at which the item's time is over: its timeout or the end of a drain, or None."""
        own, drain = self._deadline, self._stop.deadline
        if own is None or drain is None:
            return drain if own is None else own
        return min(own, drain)

    def remaining(self) -> float | None:
        """Return the seconds until `deadline`, 0.0 if it has passed, None where there is none.

        During a drain it is never None.
        """
        deadline = self.deadline
        return None if deadline is None else max(0.0, deadline - self._stop.clock())

    def raise_if_cancellation_requested(self, *, unless_remaining: float | None = None) -> None:
        """Raise OperationCancelled if the token is cancelled.

        Args:
            unless_remaining: Seconds that the rest of the work takes. A shutdown that leaves as much, or more, is no
                reason to stop yet. Any other cancellation is.

        Raises:
            OperationCancelled: The token is cancelled; the exception carries it.
        """
        if self._reason is None and not (self._stop.requested and self._is_stopped()):
            return
        if unless_remaining is not None and self.reason is CancelReason.SHUTDOWN:
            remaining = self.remaining()
            if remaining is None or remaining >= unless_remaining:
                return
        raise OperationCancelled(self)

    def checkpoint(self, **state: Any) -> None:
        """Say with which keyword arguments the function can be called again, to go on from here.

        For an item with `hand_off`, the shutdown of the process ends it here, and its rest moves: the engine calls the
        function with the item's arguments, and these in their place. With `retry`, the next attempt does so, too.

        Raises:
            CheckpointReached: The rest moves. It is an OperationCancelled.
            InvalidWorkItem: The item could not go on with these: they are no arguments of its function, or no JSON.
        """

    def report(self, done: float, total: float | None = None, text: str = "") -> None:
        """Say how far the item is: `done` of `total`, and in `text` what it does.

        Costs no more than to note it, from any thread: call it as often as you like. `handle.progress`, lists and views
        show what was reported last. `text` is cut to one line of 200 characters.

        Raises:
            InvalidWorkItem: A number is none, negative, infinite or above 2**63, or `text` is no str.
        """
        self._progress = progress_of(done, total, text)

    @property
    def progress(self) -> Progress | None:
        """What was reported last, None if nothing was."""
        # Not there before: an item that never reports pays nothing for it.
        return getattr(self, "_progress", None)

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the token is cancelled, or for `timeout` seconds; return whether it is cancelled.

        The right way to sleep in an item: `if token.wait(5): return`.

        Raises:
            RuntimeError: Called on a running event loop, which it would stop; use `await token.cancelled()` there.
        """
        if self.is_cancellation_requested:
            return True
        if timeout is not None and timeout <= 0:
            return False
        refuse_on_running_loop("token.wait()", "await token.cancelled()")
        alarm = Alarm()
        with self._register(alarm.set, wakes=True):
            alarm.wait(timeout)
        return self.is_cancellation_requested

    async def cancelled(self) -> None:
        """Wait until the token is cancelled. Works on any event loop; for a limit use `asyncio.timeout`."""
        if self.is_cancellation_requested:
            return
        woken, wake = loop_waker()
        with self._register(wake, wakes=True):
            await woken

    def register(self, callback: Callable[[], Any]) -> CancellationRegistration:
        """Call `callback()` once when the token is cancelled; at once, in this thread, if it already is.

        Args:
            callback: Takes no arguments. Should be quick: it runs in the thread that cancels. What it raises is
                logged, OperationCancelled too; only SystemExit and the like reach the one who cancels, behind the last
                callback.

        Returns:
            The registration, whose `close()` takes the callback back.
        """
        if not callable(callback):
            raise TypeError(f"register() takes a callable without arguments, not {callback!r}")
        return self._register(callback, wakes=False)

    def _register(self, callback: Callable[[], Any], *, wakes: bool) -> CancellationRegistration:
        stop = self._stop
        # Publish first, then read the flags again: the one who cancels sets them first, then takes the registered.
        registration = holding(stop.lock, self._enter, callback, wakes)
        if self.is_cancellation_requested:
            if holding(stop.lock, registration.claim):
                registration.call()
        elif self._began is not None:
            stop.look_at(self.stopped_from)
        return registration

    def _enter(self, callback: Callable[[], Any], wakes: bool) -> CancellationRegistration:
        stop = self._stop
        if self._registrations is None:
            self._registrations = {}
        registration = CancellationRegistration(self, stop, self._registrations, callback, wakes)
        self._registrations[registration] = None
        (stop.registrations if self._began is None else stop.spared)[registration] = None
        return registration

    def begin(self) -> None:
        """Note that the item of a token that was made with `waits` begins, in its worker's thread.

        From now on the stop of the process counts; if that has its first sign already, after half of the time left.
        """
        stop = self._stop
        if self._began is None and stop.cancels_since is None:
            return
        holding(stop.lock, self._begin)
        # As in `_register`: the one who cancels may just have taken those that were registered there.
        if self._registrations:
            if self.is_cancellation_requested:
                self._deliver()
            else:
                stop.look_at(self.stopped_from if self._began else NOT_BEGUN)

    def _begin(self) -> None:
        stop = self._stop
        self._began = None if stop.cancels_since is None else stop.clock()
        if self._began is None and self._registrations:
            for registration in self._registrations:
                stop.registrations[registration] = None
                stop.spared.pop(registration, None)

    def _cancel(self, reason: CancelReason, message: str | None = None) -> bool:
        first = self._request(reason, message)
        if first:
            self._deliver()
        return first

    def _request(self, reason: CancelReason, message: str | None = None) -> bool:
        """Set the reason and no more, False if there was one; the caller has to `_deliver`, without the lock."""
        return holding(self._stop.lock, self._set_reason, reason, message)

    def _set_reason(self, reason: CancelReason, message: str | None) -> bool:
        if self._reason is not None:
            return False
        if self._stop.requested and self._is_stopped():
            self._reason = CancelReason.SHUTDOWN
            return False
        self._message = None if message is None else str(message)[:_MAX_MESSAGE_LENGTH]
        self._reason = reason
        return True

    def _deliver(self) -> None:
        registrations = self._registrations
        if registrations is not None:
            call_all(lambda: list(registrations), self._stop.lock)


class CancellationTokenSource(ProcessLocal):
    """Makes a token and cancels it, from any thread; with it a test calls an item's function by hand."""

    pass_instead = "what its token says, such as source.token.is_cancellation_requested"

    __slots__ = ("_timer", "_token")

    def __init__(self) -> None:
        self._token = CancellationToken(StopFlag())
        self._timer: threading.Timer | None = None

    def __repr__(self) -> str:
        return f"<CancellationTokenSource token={self._token!r}>"

    @property
    def token(self) -> CancellationToken:
        """The token of this source, always the same."""
        return self._token

    def cancel(self, reason: CancelReason = CancelReason.REQUESTED, message: str | None = None) -> bool:
        """Cancel the token; its callbacks run in this thread. Return True if this was the first time."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        return self._token._cancel(CancelReason(reason), message)

    def cancel_after(self, seconds: float, reason: CancelReason = CancelReason.TIMEOUT) -> None:
        """Cancel the token in `seconds` seconds, from a timer thread; a second call replaces the first.

        The token's deadline says the moment.
        """
        if not seconds >= 0:  # not a number included
            raise ValueError(f"cancel_after() takes seconds >= 0, not {seconds!r}")
        if self._timer is not None:
            self._timer.cancel()
        self._token._deadline = self._token._stop.clock() + seconds
        timer = threading.Timer(seconds, self._token._cancel, (CancelReason(reason),))
        timer.daemon = True
        self._timer = timer
        timer.start()


def _restored(
    kind: type[OperationCancelled], args: tuple[Any, ...], reason: CancelReason | None, message: str | None
) -> OperationCancelled:
    source = CancellationTokenSource()
    if reason is not None:
        source.cancel(reason, message)
    # Not by a call: a class of the user's may take something else.
    error = kind.__new__(kind)
    error.args, error.token = args, source.token
    return error
