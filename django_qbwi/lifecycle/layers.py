"""Who stands where before the stop signals: a layer of ours before each handler of the server's, which always runs.

A handler stores plain attributes, posts to a mailbox and calls its previous handler; it never takes a lock that the
main thread could hold, never starts a thread, never blocks.
Each installation is a closure with a previous handler of its own. One shared table of previous handlers recursed for
ever as soon as a user's handler chained to what it found and we installed again.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from django_qbwi.core.admission import SchedulerState
from django_qbwi.lifecycle.debt import Debt
from django_qbwi.lifecycle.drain import DUPLICATE_SECONDS, DrainCoordinator
from django_qbwi.lifecycle.servers import ServerHost, is_hung_by_itself, is_raised_again, resumes_calls

_MAX_LAYERS = 8
_QUIT = getattr(signal, "SIGQUIT", None)
_STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGQUIT") if hasattr(signal, name))

_Handler = Callable[[int, FrameType | None], Any]


class SignalLayers:
    """The handlers of this process, set in the main thread: never over SIG_IGN, over Python's SIGINT after SIGTERM."""

    def __init__(self, coordinator: DrainCoordinator, host: ServerHost) -> None:
        self.debt = Debt(coordinator, host)
        self._coordinator = coordinator
        self._pid = os.getpid()
        self._layers = 0
        self._first_seen: dict[int, float] = {}
        self._is_calling = False
        self._behind: tuple[int, FrameType | None] | None = None

    def __repr__(self) -> str:
        return f"<SignalLayers layers={self._layers} debt={self.debt!r}>"

    @property
    def host(self) -> ServerHost:
        """The server around this process, as far as it is known now."""
        return self.debt.host

    @host.setter
    def host(self, host: ServerHost) -> None:
        self.debt.host = host

    def install(self, *, over_default: bool = True, at_exit: bool = False) -> None:
        """Stand before the handlers found now; does nothing where ours is on top already.

        Args:
            over_default: False leaves signals alone whose handler is the default action: a command that never queues
                an item shall die at once, even inside a C call.
            at_exit: The exit is held: the server has taken its handlers back, and what its master says then would kill
                the process before its last records.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        seen = self._told_by_the_server() if at_exit else {}
        if at_exit and self.host.quits_workers and _QUIT is not None and signal.getsignal(_QUIT) is signal.SIG_DFL:
            # Nobody raises SIGQUIT again: it counts as a second signal after any other that this process has seen.
            self._install(_QUIT, signal.SIG_DFL, dict(self._first_seen))
        for signum in _STOP_SIGNALS:
            previous = self._without_inherited(signal.getsignal(signum))
            if self._layers < _MAX_LAYERS * len(_STOP_SIGNALS) and self._wants(signum, previous, over_default):
                self._install(signum, previous, seen)

    def tell(self, coordinator: DrainCoordinator) -> None:
        """Tell `coordinator` of all that comes from now on: that of another scheduler."""
        self._coordinator = coordinator
        self.debt.tell(coordinator)

    def is_ours(self, handler: Any) -> bool:
        """True if `handler` is one of our layers, of this process or of one that forked it."""
        return getattr(handler, "is_qbwi_layer", False) is True

    def _without_inherited(self, handler: Any) -> Any:
        # Those of a process that forked this one only do what they found.
        while self.is_ours(handler) and handler.pid != self._pid:
            handler = handler.previous
        return handler

    def _told_by_the_server(self) -> dict[int, float]:
        # A preloading gunicorn sets its handlers after ours: what it has heard of before the exit, we learn from its
        # flag. It counts as an interrupt, after which SIGQUIT is no second signal: the master may be slow.
        first_sign = self._coordinator.scheduler.stop.first_sign
        if self._first_seen or first_sign is None or not self.host.was_told_to_stop():
            return {}
        return {signal.SIGINT: first_sign}

    def _wants(self, signum: int, previous: Any, over_default: bool) -> bool:
        if previous is None or previous is signal.SIG_IGN or self.is_ours(previous):
            return False
        if previous is signal.default_int_handler:
            # daphne takes SIGINT only if it is still Python's own.
            return False
        if previous is signal.SIG_DFL:
            # SIGINT has its default action in gunicorn's workers for uvicorn, which raises it again.
            return over_default and signum in (signal.SIGTERM, signal.SIGINT)
        return callable(previous)

    def _install(self, signum: int, previous: Any, seen: dict[int, float]) -> None:
        handler = self._make_layer(previous, seen)
        try:
            signal.signal(signum, handler)
        except (OSError, ValueError):
            return
        self._layers += 1
        if hasattr(signal, "siginterrupt") and resumes_calls(signum, previous):
            # signal.signal() has just switched the interruption of system calls on.
            with contextlib.suppress(OSError, ValueError):
                signal.siginterrupt(signum, False)

    def _make_layer(self, previous: Any, seen: dict[int, float]) -> _Handler:
        # `seen` is shared by the handlers that were installed together: Ctrl-C forces after a SIGTERM, too. Not by
        # those below: uvicorn raises there again, much later, what came from above.
        active = False
        raises_again = is_raised_again(previous)
        call = functools.partial(self._call_alone, previous) if is_hung_by_itself(previous) else previous

        def layer(signum: int, frame: FrameType | None) -> Any:
            nonlocal active
            if active:
                # A user's handler that chains to us although we chain to it.
                return None
            active = True
            try:
                if raises_again:
                    # It only takes notice, and takes SIGINT after SIGTERM for a second Ctrl-C, which cuts requests off:
                    # the reloader's SIGTERM must not overtake the terminal's SIGINT while we look at that.
                    previous(signum, frame)
                if os.getpid() == self._pid:
                    repeated = _is_repeated(signum, seen)
                    now = time.monotonic()
                    seen.setdefault(signum, now)
                    self._first_seen.setdefault(signum, now)
                    self._coordinator.stop_signal(signal.Signals(signum).name, signum, repeated=repeated)
                    if raises_again:
                        self.debt.block(signum)
                    if previous is signal.SIG_DFL:
                        return self._instead_of_default(signum, seen)
                elif previous is signal.SIG_DFL:
                    return self.debt.default_action(signum)
                return None if raises_again else call(signum, frame)
            finally:
                active = False

        return self._mark(layer, previous)

    def _call_alone(self, previous: _Handler, signum: int, frame: FrameType | None) -> None:
        # As C's handlers do by their masks: what comes meanwhile is behind it, and however often it comes, is one.
        if self._is_calling:
            self._behind = (signum, frame)
            return
        self._is_calling = True
        try:
            previous(signum, frame)
        finally:
            # It ends the process by raising: the one behind it is called nevertheless.
            self._is_calling = False
            behind, self._behind = self._behind, None
            if behind is not None:
                self._call_alone(previous, *behind)

    def _instead_of_default(self, signum: int, seen: dict[int, float]) -> None:
        scheduler = self._coordinator.scheduler
        if signum == _QUIT:
            # We stand before it only while the exit is held, which goes on to its last records, and pays then.
            self.debt.owe(signum)
            return
        if signum == signal.SIGTERM and self._coordinator.holds_last:
            # The process ends already, with a status of its own; a master or a control group repeats itself.
            return
        unwritten = self._coordinator.last_writes.pending
        if (scheduler.is_empty and not unwritten) or scheduler.state is SchedulerState.CLOSED:
            self.debt.default_action(signum)
            return
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            # Nobody who wants it for himself comes any more. Without us a Ctrl-C now would only begin the hold.
            self._install(signal.SIGINT, signal.default_int_handler, seen)
        self._stand_on_top(signum, seen)
        self.debt.incur(signum)

    def _stand_on_top(self, signum: int, seen: dict[int, float]) -> None:
        # A user's handler has gone on to ours. It has run, and shall not run again when we send the signal again.
        on_top = signal.getsignal(signum)
        if not callable(on_top) or self.is_ours(on_top):
            return

        def layer(signum: int, frame: FrameType | None) -> Any:
            if self.debt.pays and os.getpid() == self._pid:
                return self._instead_of_default(signum, seen)
            return on_top(signum, frame)

        signal.signal(signum, self._mark(layer, on_top))

    def _mark(self, layer: Any, previous: Any) -> _Handler:
        layer.is_qbwi_layer = True
        layer.pid = self._pid
        layer.previous = previous
        marked: _Handler = layer
        return marked


def _is_repeated(signum: int, seen: dict[int, float]) -> bool:
    # One Ctrl-C is SIGINT from the terminal and SIGQUIT from gunicorn's master, which may be slow.
    since = time.monotonic() - DUPLICATE_SECONDS
    return any(at < since for other, at in seen.items() if (signum, other) != (_QUIT, signal.SIGINT))
