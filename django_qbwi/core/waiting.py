"""Waiting for one moment: for the end of an item, or for the cancellation of a token; in a thread or on any loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django_qbwi.core.loops import loop_waker
from django_qbwi.core.ports import Owner
from django_qbwi.machine.loggers import SafeLogger, may_contain
from django_qbwi.machine.primitives import Alarm, holding

logger = SafeLogger("django_qbwi.scheduler")


class Waited:
    """What others wait for, once; the base of what has such an end.

    Whoever waits publishes how to wake them and then looks at `ended`; whoever ends it sets `ended` and then looks for
    those who wait: one of both sees the other.
    """

    __slots__ = ("ended", "owner", "waiters")

    owner: Owner[Any]
    """Its lock guards the waiters."""
    ended: bool
    waiters: list[Callable[[], object]] | None

    def add_waiter(self, wake: Callable[[], object]) -> bool:
        """Have `wake` called at the end; False, and it is not, if that is over already."""
        holding(self.owner.lock, self._publish, wake)
        if not self.ended:
            return True
        self.remove_waiter(wake)
        return False

    def remove_waiter(self, wake: Callable[[], object]) -> None:
        """Take `wake` back."""
        holding(self.owner.lock, self._take_back, wake)

    def wake_waiters(self) -> None:
        """Mark it as ended, and wake those who wait for it."""
        self.ended = True
        if self.waiters is None:
            return
        for wake in holding(self.owner.lock, self._waiting):
            try:
                wake()
            except Exception:
                # The loop of one who waits may be anybody's; the others wait too.
                logger.exception("Waking one who waits for %r failed", self)
        # Last: interrupted by an exception, it is done again. Woken twice does no harm.
        holding(self.owner.lock, self._forget_waiters)

    def call_at_end(self, call: Callable[[], object]) -> None:
        """Have `call()` made once at the end, in the thread that ends it; now, in this one, if that is over."""
        calls = [call]

        def call_once() -> None:
            # Woken again, behind an exception out of a signal handler, it has nothing left to do.
            call = calls.pop() if calls else None
            try:
                if call is not None:
                    call()
            except BaseException as error:
                # User code returns to us here.
                if not may_contain(error):
                    raise
                logger.exception("A callback of %r failed: %r", self, call)

        if not self.add_waiter(call_once):
            call_once()

    def wait(self, timeout: float | None) -> bool:
        """Block until the end, or for `timeout` seconds; return whether it is over."""
        alarm = Alarm()
        if not self.add_waiter(alarm.set):
            return True
        try:
            alarm.wait(timeout)
        finally:
            self.remove_waiter(alarm.set)
        return self.ended

    async def wait_on_loop(self) -> None:
        """Wait until the end, on any event loop."""
        woken, wake = loop_waker()
        if self.add_waiter(wake):
            try:
                await woken
            finally:
                self.remove_waiter(wake)

    # Each with the lock held.

    def _publish(self, wake: Callable[[], object]) -> None:
        if self.waiters is None:
            self.waiters = []
        self.waiters.append(wake)

    def _take_back(self, wake: Callable[[], object]) -> None:
        if self.waiters is not None and wake in self.waiters:
            self.waiters.remove(wake)

    def _waiting(self) -> list[Callable[[], object]]:
        return list(self.waiters or ())

    def _forget_waiters(self) -> None:
        self.waiters = None
