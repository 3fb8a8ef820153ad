"""The one flag that cancels a whole scheduler, and the callbacks that wait for a cancellation.

Lock: `StopFlag.lock`, shared by all tokens of a scheduler, guards the registrations and the reasons of the tokens.

The flag counts at once for the items that run when it is set. One that begins later is spared for half of the time
that is left then: it has waited for its turn, and would else be dropped at its first look at its token. Spared tokens
compare two numbers and the clock, so that nobody has to come in time to cancel them; only those who wait for them have
to be woken, by one timer for all.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any, Protocol

from django_qbwi.core.process_local import ProcessLocal
from django_qbwi.machine.loggers import SafeLogger
from django_qbwi.machine.primitives import Lock, holding, new_rlock

logger = SafeLogger("django_qbwi.scheduler")

NOT_BEGUN = math.inf
"""In place of the moment at which an item began: it waits for its turn."""


class StopFlag:
    """The one flag that cancels every token of a scheduler, however many there are.

    Invariant: `requested`, `first_sign` and `cancels_since` only ever go from unset to set; `deadline` only shrinks.
    Setting is a plain attribute store, so that a signal handler may do it; `deliver` then wakes those who wait, from
    a thread.
    """

    __slots__ = (
        "_next_look",
        "call_at",
        "cancels_since",
        "clock",
        "deadline",
        "first_sign",
        "lock",
        "registrations",
        "requested",
        "spared",
    )

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.lock = new_rlock()
        """Guards both kinds of registrations, and the reason and the registrations of each token of this flag."""
        self.registrations: dict[CancellationRegistration, None] = {}
        self.spared: dict[CancellationRegistration, None] = {}
        """Those of tokens for which the flag counts later, or not yet."""
        self.requested = False
        self.first_sign: float | None = None
        self.cancels_since: float | None = None
        """The first sign that cancels, now or after a while: an item that begins after it is spared."""
        self.deadline: float | None = None
        self.call_at: Callable[[float, Callable[[], object]], object] | None = None
        """Calls in a thread of its own at a moment; set by the scheduler, whose items alone are spared."""
        self._next_look = math.inf

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
        if not self.requested:
            return
        call_all(lambda: list(self.registrations), self.lock)
        if self.spared:
            self._deliver_spared()

    def spared_until(self, began: float) -> float:
        """Return the moment from which the flag counts for an item that began after the first sign."""
        deadline = self.deadline
        return began if deadline is None else min((began + deadline) / 2, deadline)

    def look_at(self, when: float) -> None:
        """Look at the spared tokens again at the moment `when`; any thread but a signal handler."""
        # Without the lock, under which the keeper's own would be waited for: one look too many does no harm.
        if self.call_at is None or when == math.inf or self.clock() < self._next_look <= when:
            return
        self.call_at(when, self.deliver)
        self._next_look = when

    def _deliver_spared(self) -> None:
        try:
            call_all(lambda: [one for one in self.spared if one.is_due], self.lock)
        finally:
            self.look_at(holding(self.lock, self._earliest_spared))

    def _earliest_spared(self) -> float:
        return min((one.token.stopped_from for one in self.spared), default=math.inf)


class Cancellable(Protocol):
    """A token, as the registrations of its callbacks see it."""

    @property
    def is_cancellation_requested(self) -> bool:
        """Whether it is cancelled."""

    @property
    def stopped_from(self) -> float:
        """The moment from which the flag counts for it."""


class CancellationRegistration(ProcessLocal):
    """A callback that waits for the cancellation of a token; closing it takes the callback back.

    Usable as a context manager. The callback runs once at the most, in the thread that cancels (for SHUTDOWN and
    TIMEOUT one of our own threads), or at once in the registering thread where the token is cancelled already.
    """

    pass_instead = "what its token says"

    __slots__ = ("__weakref__", "_callback", "_pending", "_places", "_stop", "token", "wakes")

    def __init__(
        self,
        token: Cancellable,
        stop: StopFlag,
        place: dict[CancellationRegistration, None],
        callback: Callable[[], Any],
        wakes: bool = False,
    ) -> None:
        """Make it, without a place among those of `stop` yet; `place` holds those of the token."""
        self.token = token
        self.wakes = wakes
        """True for a wait of our own: it may be woken twice, but has to be woken."""
        self._stop = stop
        self._places = (stop.registrations, stop.spared, place)
        self._callback = callback
        self._pending = True

    def __repr__(self) -> str:
        return f"<CancellationRegistration callback={self._callback!r} pending={self._pending}>"

    def __enter__(self) -> CancellationRegistration:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def is_due(self) -> bool:
        """Whether its token is cancelled."""
        return self.token.is_cancellation_requested

    def close(self) -> None:
        """Take the callback back; never blocks, and does not wait for one that runs already."""
        if self._pending:
            holding(self._stop.lock, self.claim)

    def claim(self) -> bool:
        """Take the registration out of its places; the caller holds the lock. Only the first caller gets True."""
        if not self._pending:
            return False
        for place in self._places:
            place.pop(self, None)
        # Last, so that an exception out of a signal handler leaves something that can be claimed again.
        self._pending = False
        return True

    def call(self) -> None:
        """Run the callback; an exception is logged, since the one who cancels must not pay for it."""
        try:
            self._callback()
        except (Exception, asyncio.CancelledError):
            # A callback may well reach the check of its own token, as all code of an item does.
            logger.exception("A cancellation callback raised: %r", self._callback)


def call_all(take: Callable[[], list[CancellationRegistration]], lock: Lock) -> None:
    """Call what `take` gives, under the lock, until that is nothing; each one is claimed first, or called first."""
    leaving: BaseException | None = None
    while leaving is None:
        # A copy: the first key of a dict is found by passing over all those that were deleted before it.
        pending = holding(lock, take)
        if not pending:
            return
        for registration in pending:
            try:
                if registration.wakes:
                    # Called first: struck by a signal handler's exception, it is still there to be called again.
                    registration.call()
                claimed = holding(lock, registration.claim)
                if claimed and not registration.wakes:
                    registration.call()
            except BaseException as error:
                # User code returns to us here, or a Ctrl-C does. It goes on to the caller when all others have been
                # called, who would sleep for ever: nobody else calls them.
                leaving = error if leaving is None else leaving
    try:
        raise leaving
    finally:
        # Break the cycle of the exception with this frame.
        leaving = None
