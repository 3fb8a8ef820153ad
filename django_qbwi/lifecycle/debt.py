"""How this process must die, when a stop signal would have killed it at once: raised, owed, blocked, and paid.

- Raised: an exception takes the place of the signal, where the server or the command ends by it.
- Owed: the signal is sent again after the drain, under its default action.
- Blocked: a signal that a server will raise again stays pending until the drain is over.
"""

from __future__ import annotations

import os
import signal
import time

from django_qbwi.lifecycle.drain import DrainCoordinator
from django_qbwi.lifecycle.servers import ServerHost


class Debt:
    """What a process owes to the stop signals that it has survived for its items.

    Invariant: `owed` never changes once it is set; whoever comes to the end of the drain pays.
    """

    def __init__(self, coordinator: DrainCoordinator, host: ServerHost) -> None:
        self.host = host
        self.owed: int | None = None
        """A stop signal that would have killed the process, to be sent again after the drain."""
        self.pays = False
        """True when the signal is sent again: a handler that has run already shall not run again."""
        self._coordinator = coordinator
        self._pid = os.getpid()
        self._blocked: set[int] = set()
        self._raised: int | None = None
        self._exits_until = 0.0

    def __repr__(self) -> str:
        return f"<Debt owed={self.owed} raised={self._raised} blocked={sorted(self._blocked)}>"

    @property
    def stopped_by(self) -> int | None:
        """The stop signal that ends the process by what we do in its place, if any."""
        # waitress ends with 0 after a SystemExit.
        return self.owed or (None if self.host.is_server else self._raised)

    def owe(self, signum: int) -> None:
        """Have the signal sent again by whoever holds the exit already; the first one counts."""
        self.owed = self.owed or signum

    def incur(self, signum: int) -> None:
        """Go on living for the items, in place of the default action; in a signal handler (R19).

        Raises:
            SystemExit: The server, or the command, ends by that.
        """
        if self.host.exits_by_exception and self._raised is None:
            self._raised = signum
            self._exits_until = time.monotonic() + self.host.exits_within
            # A bare `except:` may eat it; then the keeper goes on as with the others.
            self._coordinator.scheduler.keeper.post(lambda: self._if_nothing_happens(signum))
            raise SystemExit(128 + signum)
        if signum == signal.SIGTERM and time.monotonic() < self._exits_until:
            return
        if self.owed is None:
            self.owed = signum
            self._coordinator.drain_in_background(self._send_again)

    def block(self, signum: int) -> None:
        """Have the signals stay pending that uvicorn raises again when it has finished; in a signal handler (R20)."""
        # Under the default action the process would die before its items have ended. Blocked, it comes to its normal
        # exit, and dies of the signal after the drain. After Ctrl-C it is the master of several processes that sends
        # SIGTERM, maybe when the default action is back already.
        if signum in (signal.SIGTERM, signal.SIGINT) and hasattr(signal, "pthread_sigmask"):
            self._blocked.add(signal.SIGTERM)
            if signum == signal.SIGINT and self.host.resets_interrupt:
                self._blocked.add(signal.SIGINT)
            signal.pthread_sigmask(signal.SIG_BLOCK, self._blocked)

    def release_interrupt(self) -> None:
        """Let SIGINT through again, when a layer stands before its default action: the second one has to force."""
        if signal.SIGINT in self._blocked:
            self._blocked.discard(signal.SIGINT)
            _unblock(signal.SIGINT)

    def pay(self) -> None:
        """Let a blocked or postponed stop signal end the process, as it would have without us.

        Returns if none is owed.
        """
        if os.getpid() != self._pid:
            return
        if self.owed is not None:
            self.default_action(self.owed)
        while self._blocked:
            _unblock(self._blocked.pop())

    def default_action(self, signum: int) -> None:
        """Die of the signal; in the main thread."""
        signal.signal(signum, signal.SIG_DFL)
        _unblock(signum)
        os.kill(os.getpid(), signum)

    def after_fork_in_child(self) -> None:
        """Let the child be stopped: it inherits the mask of the thread that forked."""
        for signum in self._blocked:
            _unblock(signum)

    # In the keeper's thread.

    def _if_nothing_happens(self, signum: int) -> None:
        def drain() -> None:
            self._coordinator.drain_in_background(lambda: self._kill(signum))

        self._coordinator.scheduler.keeper.call_at(time.monotonic() + self.host.exits_within, drain)

    def _send_again(self) -> None:
        # Not in the main thread, where alone Python lets us restore the default action: the layer does it there,
        # since nothing is queued or running any more.
        if self.owed is not None:
            self._kill(self.owed)

    def _kill(self, signum: int) -> None:
        self.pays = True
        os.kill(self._pid, signum)


def _unblock(signum: int) -> None:
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signum})
