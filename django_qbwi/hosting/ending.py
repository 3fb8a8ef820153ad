"""The end of a process: what is the first sign of it, how long the exit is held, and what happens when that is over."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from django_qbwi.hosting.assembly import Assembly
from django_qbwi.lifecycle import interpreter
from django_qbwi.lifecycle.debt import Debt
from django_qbwi.lifecycle.servers import ServerHost
from django_qbwi.signals import lifecycle_logger

_RELOAD_SECONDS = 10.0
_RELOADED_WITHIN = 2.0
_WATCH_EVERY = 0.1
_LAST_RESORT_AFTER = 1.0
_FAREWELL_SECONDS = 0.5
_RELOAD_EXIT_CODE = 3
_MAX_SIGNALS = 5


class ProcessEnd:
    """What is known of the end of one process, and the steps to it."""

    def __init__(self) -> None:
        self.is_held = False
        """Whether the exit of the interpreter was held; that is done once."""
        self.status: Callable[[], int] | None = None
        """What tells the exit status, where a command decides on one at its end."""
        self._pid = os.getpid()
        self._file_changed_at: float | None = None

    def __repr__(self) -> str:
        return f"<ProcessEnd is_held={self.is_held}>"

    @property
    def reloads(self) -> bool:
        """Whether the exit that begins now is a reload."""
        changed_at = self._file_changed_at
        return changed_at is not None and time.monotonic() - changed_at < _RELOADED_WITHIN

    def file_changed(self) -> None:
        """Note that a reloader saw a change; the exit that follows soon is a reload."""
        self._file_changed_at = time.monotonic()

    def sign(self, assembly: Assembly, host: ServerHost, name: str, reloads: bool) -> None:
        """Begin the drain at what is called `name`, unless it has begun."""
        coordinator = assembly.coordinator
        if coordinator.signed or not assembly.scheduler.started:
            return
        if reloads:
            coordinator.restart(_RELOAD_SECONDS)
        else:
            coordinator.sign(name, cancel=host.is_server or interpreter.ended_by_interrupt())

    def hold(self, assembly: Assembly, host: ServerHost, debt: Debt | None, *, last: bool, reloads: bool) -> None:
        """Hold the exit, after its sign, as long as it is worth it and allowed."""
        coordinator = assembly.coordinator
        coordinator.hold(last=last)
        if not last:
            return
        if coordinator.gave_up:
            self._arm_last_resort(assembly, host, debt, reloads)
        ends_by = coordinator.ends_by
        left = _FAREWELL_SECONDS if ends_by is None else max(0.0, ends_by - time.monotonic())
        assembly.join(min(_FAREWELL_SECONDS, left))
        interpreter.keep_interrupt_status()

    def _arm_last_resort(self, assembly: Assembly, host: ServerHost, debt: Debt | None, reloads: bool) -> None:
        # A stuck thread of somebody's executor is joined by the interpreter without limit; the server's limit stands.
        code = _RELOAD_EXIT_CODE if reloads else interpreter.exit_code(None if debt is None else debt.stopped_by)
        pid, status = self._pid, self.status

        def leave() -> None:
            if os.getpid() == pid and not host.shares_its_process:
                os._exit(code if status is None else status())

        # In both: a callback of an item, or a handler of records, may be stuck in one of them.
        for service in (assembly.keeper, assembly.reporter):
            service.call_at(time.monotonic() + _LAST_RESORT_AFTER, leave)


class StopWatch:
    """Looks at the server's stop flag, only while something is queued or running: an idle worker has no wakeups."""

    def __init__(self, current: Callable[[], Assembly]) -> None:
        """Make it; `current` returns the assembly of now, which knows its host."""
        self._current = current
        self._watching = False

    def __repr__(self) -> str:
        return f"<StopWatch watching={self._watching}>"

    def start(self) -> None:
        """Look now, and until nothing is queued or running any more."""
        if not self._watching:
            self._watching = True
            self._look()

    def _look(self) -> None:
        assembly = self._current()
        coordinator, host = assembly.coordinator, assembly.host
        if coordinator.signed and coordinator.scheduler.is_empty:
            return
        if host.is_stopping():
            if not coordinator.signed:
                coordinator.sign(f"{host.name} stops this process")
            return
        coordinator.scheduler.keeper.call_at(time.monotonic() + _WATCH_EVERY, self._look_again)

    def _look_again(self) -> None:
        scheduler = self._current().scheduler
        if scheduler.is_empty:
            self._watching = False
            # Looked at again: an item may have come in between, whose queueing saw us watching.
            if not scheduler.queued_count + scheduler.running_count or self._watching:
                return
            self._watching = True
        self._look()


def without_exception(step: Callable[[], object]) -> None:
    """Take a step of the exit of the interpreter, from which no exception may come.

    One that got out would skip the exit hooks of other libraries. Handlers of signals raise SystemExit and
    KeyboardInterrupt in any of our lines; the steps can be taken again, but not for ever.
    """
    for _ in range(_MAX_SIGNALS):
        try:
            step()
        except Exception:
            lifecycle_logger.exception("A step of the exit of the process failed")
        except BaseException:
            continue
        return
