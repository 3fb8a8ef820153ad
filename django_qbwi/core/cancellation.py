"""Cooperative cancellation: a token to look at, a source to cancel it, and one flag that cancels a whole scheduler.

States of a token: not cancelled -> cancelled, once, with one reason that never changes.
Lock: `StopFlag.lock`, shared by all tokens of a scheduler, guards the reasons and the registrations.
A token is asked far more often than it is cancelled: asking takes no lock.
"""

from __future__ import annotations

import asyncio
import enum
import threading
import time
from collections.abc import Callable
from typing import Any

from django_qbwi.core.loops import loop_waker, refuse_on_running_loop
from django_qbwi.machine.loggers import SafeLogger
from django_qbwi.machine.primitives import Alarm, Lock, new_rlock

logger = SafeLogger("django_qbwi.scheduler")

_MAX_MESSAGE_LENGTH = 500


class CancelReason(enum.StrEnum):
    """Why a token was cancelled."""

    SHUTDOWN = "shutdown"
    """The process is ending: finish or save within `token.remaining()` seconds."""
    REQUESTED = "requested"
    """Somebody called `cancel()`."""
    TIMEOUT = "timeout"
    """The item ran for longer than its timeout."""


class OperationCancelled(asyncio.CancelledError):
    """Raised by `CancellationToken.raise_if_cancellation_requested`; carries the token.

    It passes `except Exception`, rolls back `transaction.atomic()` and cancels an `asyncio.Task` natively.
    A child of an `asyncio.TaskGroup` that raises it ends silently, as with any cancellation of asyncio: check the
    token in the parent too.
    """

    def __init__(self, token: CancellationToken) -> None:
        reason, message = token.reason, token.message
        super().__init__(f"cancelled ({reason})" + (f": {message}" if message else ""))
        self.token = token


class StopFlag:
    """The one flag that cancels every token of a scheduler, however many there are.

    Invariant: `requested` and `first_sign` only ever go from unset to set.
    Setting is a plain attribute store, so that a signal handler may do it; `deliver` then wakes those who wait, from
    a thread.
    """

    __slots__ = ("clock", "deadline", "first_sign", "lock", "registrations", "requested")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.lock = new_rlock()
        """Guards `registrations` and the reason and the registrations of each token of this flag."""
        self.registrations: dict[CancellationRegistration, None] = {}
        self.requested = False
        self.first_sign: float | None = None
        self.deadline: float | None = None

    def __repr__(self) -> str:
        return f"<StopFlag requested={self.requested} first_sign={self.first_sign} deadline={self.deadline}>"

    def request(self) -> None:
        """Cancel all tokens, from any thread but a signal handler, and call those who wait for it.

        The cost depends on the number of waiters, never on that of the tokens.
        """
        self.requested = True
        self.deliver()

    def deliver(self) -> None:
        """Call the registered callbacks, if the flag is set; each one once, in this thread."""
        if self.requested:
            _call_all(self.registrations, self.lock)


class CancellationRegistration:
    """A callback that waits for the cancellation of a token; closing it takes the callback back.

    Usable as a context manager. The callback runs once at the most, in the thread that cancels (for SHUTDOWN and
    TIMEOUT one of our own threads), or at once in the registering thread where the token is cancelled already.
    """

    __slots__ = ("__weakref__", "_callback", "_token", "wakes")

    def __init__(self, token: CancellationToken, callback: Callable[[], Any], wakes: bool = False) -> None:
        self._token: CancellationToken | None = token
        self._callback = callback
        self.wakes = wakes
        """True for a wait of our own: it may be woken twice, but has to be woken."""

    def __repr__(self) -> str:
        return f"<CancellationRegistration callback={self._callback!r} pending={self._token is not None}>"

    def __enter__(self) -> CancellationRegistration:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the callback back; never blocks, and does not wait for one that runs already."""
        token = self._token
        if token is not None:
            with token._stop.lock:
                self.claim()

    def claim(self) -> bool:
        """Take the registration out of its token; the caller holds the lock. Only the first caller gets True."""
        token = self._token
        if token is None:
            return False
        token._stop.registrations.pop(self, None)
        assert token._registrations is not None  # made when this was registered
        token._registrations.pop(self, None)
        # Last, so that an exception out of a signal handler leaves something that can be claimed again.
        self._token = None
        return True

    def call(self) -> None:
        """Run the callback; an exception is logged, since the one who cancels must not pay for it."""
        try:
            self._callback()
        except (Exception, asyncio.CancelledError):
            # A callback may well reach the check of its own token, as all code of an item does.
            logger.exception("A cancellation callback raised: %r", self._callback)


class CancellationToken:
    """Tells running code that it should stop; it never interrupts anything.

    All of it may be used from any thread. Reading never blocks and is allowed in signal handlers and on event loops.
    """

    __slots__ = ("__weakref__", "_deadline", "_message", "_reason", "_registrations", "_stop")

    def __init__(self, stop: StopFlag) -> None:
        self._stop = stop
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
        return self._reason is not None or self._stop.requested

    @property
    def reason(self) -> CancelReason | None:
        """Why the token was cancelled, None if it is not. It never changes once set."""
        if self._reason is None and self._stop.requested:
            # What is stored first wins, so that no two readers see different reasons.
            with self._stop.lock:
                if self._reason is None:
                    self._reason = CancelReason.SHUTDOWN
        return self._reason

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

    def raise_if_cancellation_requested(self) -> None:
        """Raise OperationCancelled if the token is cancelled.

        Raises:
            OperationCancelled: The token is cancelled; the exception carries it.
        """
        if self._reason is not None or self._stop.requested:
            raise OperationCancelled(self)

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
        registration = CancellationRegistration(self, callback, wakes)
        # Publish first, then read the flags again: the one who cancels sets them first, then takes the registered.
        with self._stop.lock:
            if self._registrations is None:
                self._registrations = {}
            self._registrations[registration] = None
            self._stop.registrations[registration] = None
        if self.is_cancellation_requested:
            with self._stop.lock:
                claimed = registration.claim()
            if claimed:
                registration.call()
        return registration

    def _cancel(self, reason: CancelReason, message: str | None = None) -> bool:
        first = self._request(reason, message)
        if first:
            self._deliver()
        return first

    def _request(self, reason: CancelReason, message: str | None = None) -> bool:
        """Set the reason and no more, False if there was one; the caller has to `_deliver`, without the lock."""
        with self._stop.lock:
            if self._reason is not None:
                return False
            if self._stop.requested:
                self._reason = CancelReason.SHUTDOWN
                return False
            self._message = None if message is None else str(message)[:_MAX_MESSAGE_LENGTH]
            self._reason = reason
        return True

    def _deliver(self) -> None:
        if self._registrations is not None:
            _call_all(self._registrations, self._stop.lock)


class CancellationTokenSource:
    """Makes a token and cancels it; with it a test calls an item's function by hand.

    Safe from any thread.
    """

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


def _call_all(registrations: dict[CancellationRegistration, None], lock: Lock) -> None:
    leaving: BaseException | None = None
    # From a copy: the first key of a dict is found by passing over all those that were deleted before it.
    while registrations and leaving is None:
        with lock:
            pending = list(registrations)
        for registration in pending:
            try:
                if registration.wakes:
                    # Called first: struck by a signal handler's exception, it is still there to be called again.
                    registration.call()
                with lock:
                    claimed = registration.claim()
                if claimed and not registration.wakes:
                    registration.call()
            except BaseException as error:
                # User code returns to us here, or a Ctrl-C does. It goes on to the caller when all others have been
                # called, who would sleep for ever: nobody else calls them.
                leaving = error if leaving is None else leaving
    if leaving is not None:
        try:
            raise leaving
        finally:
            # Break the cycle of the exception with this frame.
            leaving = None
