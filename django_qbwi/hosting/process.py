"""One process: the host around it, the scheduler in it, the way to its end."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from django.core.exceptions import ImproperlyConfigured

from django_qbwi import conf
from django_qbwi.core.items import WorkItemHandle
from django_qbwi.hosting.assembly import Assembly
from django_qbwi.hosting.ending import ProcessEnd, StopWatch, without_exception
from django_qbwi.hosting.hints import Hints
from django_qbwi.hosting.history import Find, no_history
from django_qbwi.hosting.visibility import Visibility, what_is_shown
from django_qbwi.inspection.subject import Subject
from django_qbwi.lifecycle import interpreter, servers
from django_qbwi.lifecycle.drain import DrainCoordinator
from django_qbwi.lifecycle.layers import SignalLayers
from django_qbwi.lifecycle.runserver_parent import swallow_first_interrupt
from django_qbwi.machine.primitives import holding, new_rlock
from django_qbwi.signals import lifecycle_logger

_OVERRIDE_SECONDS = 5.0
_SIGTERM = int(signal.SIGTERM)

# What `hosting.queue` compares with: `signal.getsignal` makes another object of SIG_DFL and SIG_IGN.
_getsignal = _signal.getsignal

Interceptor = Callable[..., WorkItemHandle]
"""Called with a work item, its arguments, whether it is async, its name, timeout and maybe labels.

And maybe with `prepare`: what to call with the item before it is run.
"""


class TaskResults(Protocol):
    """What a backend of `django.tasks` keeps of its tasks."""

    def describe(self, result_id: str) -> dict[str, Any] | None:
        """Return what another process is told of a task, None if it is not known."""


class Process:
    """What django_qbwi is in one process: the host around it, the scheduler in it, the way to its end."""

    def __init__(self, share: Callable[[Subject], object] = lambda subject: None, history: Find = no_history) -> None:
        """Make it; `share` is called with the first request or item, off the items' path, to show it to other hosts."""
        self._history = history
        self.pid = os.getpid()
        self.host = servers.test_run(sys.argv) or servers.identify(sys.argv, dict(os.environ))
        self.assembly: Assembly | None = None
        self.admitting: Assembly | None = None
        """That of now, once it was looked at for its first item; it saves a look for each of the others."""
        # Of this process only, so no forked child finds it taken: two threads that queue at once make one scheduler.
        self._assembling = new_rlock()
        self.layers: SignalLayers | None = None
        self.interceptors: list[Interceptor] = []
        self.overridden: list[Assembly | None] = []
        self.task_results: dict[str, TaskResults] = {}
        """What each backend of `django.tasks` keeps, by its framework and alias, since there is one in each thread."""
        self.main_ident = threading.main_thread().ident
        self.top_handler: Any = None
        self._exit_hooked = False
        self._host_warned = False
        self.hints = Hints()
        self.end = ProcessEnd()
        self._watch = StopWatch(lambda: self.current)
        self.watch = self._watch.start
        """Look at the server's stop flag, now and until nothing is queued or running any more."""
        self.subject = Subject(lambda: self.host.name, lambda: what_is_shown(self.assembly), self._result)
        self.visibility = Visibility(self.subject, self._assembling, lambda: self.current.settings.inspection, share)

    def __repr__(self) -> str:
        return f"<Process pid={self.pid} host={self.host!r} assembly={self.assembly!r}>"

    def _result(self, kept_under: str, result_id: str) -> dict[str, Any] | None:
        """Return what another process is told of a task that this one has, or has had."""
        results = self.task_results.get(kept_under)
        return None if results is None else results.describe(result_id)

    @property
    def current(self) -> Assembly:
        """The assembly for the settings that hold now.

        Raises:
            ImproperlyConfigured: settings.QBWI is wrong.
        """
        assembly = self.assembly
        if assembly is None:
            assembly = holding(self._assembling, self._assemble)
        return assembly

    def _assemble(self) -> Assembly:
        # Looked at again: another thread may have been here in between.
        if self.assembly is None:
            hint = self.hints.hint_at_locks
            self.assembly = Assembly(conf.load(), self.host, self._scheduler_started, hint, self._history)
        return self.assembly

    # The beginning.

    def open(self) -> None:
        """Open the scheduler, without a thread; stand before the signal handlers that are there already."""
        try:
            assembly = self.current
        except ImproperlyConfigured:
            # The system checks say it, and so does the first queueing; a site that queues nothing shall start.
            return
        if self.layers is None:
            self.layers = SignalLayers(assembly.coordinator, self.host)
        if not self.host.serves:
            self._watches_over_another(assembly)
            return
        # A command that never queues anything shall die of SIGTERM at once, even inside a C call.
        self._stand_before_handlers(over_default=not isinstance(self.host, servers.CommandHost))
        self._hook_server_exit()

    def watches_over_another(self) -> None:
        """Take notice that this process starts the one that serves, and only watches over it; in the main thread."""
        if not self.host.serves:
            return
        self._set_host(servers.RunserverParentHost())
        if self.assembly is not None:
            self._watches_over_another(self.assembly)

    def _watches_over_another(self, assembly: Assembly) -> None:
        if assembly.settings.handle_signals:
            swallow_first_interrupt()

    def admit(self) -> Assembly:
        """Return the assembly for an item of now; look again at settings and host before its first one. Any thread.

        Raises:
            ImproperlyConfigured: settings.QBWI is wrong.
        """
        return holding(self._assembling, self._admit)

    def _admit(self) -> Assembly:
        assembly = self.current
        if not assembly.looked:
            assembly = self._with_settings_of_now(assembly)
            assembly.looked = True
            self.look_again()
            assembly.host_is(self.host)
        self.admitting = assembly
        return assembly

    def _with_settings_of_now(self, assembly: Assembly) -> Assembly:
        # They may have been assigned since `ready()`, which needs some for the signals.
        settings = conf.load()
        if settings == assembly.settings or assembly.scheduler.started or assembly.coordinator.signed:
            return assembly
        # It has no thread and no descriptor yet.
        self.assembly = None
        fresh = self.current
        if self.layers is not None:
            self.layers.tell(fresh.coordinator)
        assembly.scheduler.close()
        return fresh

    def look_again(self) -> None:
        """Look again at what hosts this process; any thread."""
        if not self.host.is_final:
            self._recognise()
            self._hook_server_exit()

    def first_request(self) -> None:
        """Look again at the server, which may have set its handlers after we were loaded; any thread."""
        self._recognise()
        if not self.host.is_server and not self.host.is_final:
            self._set_host(servers.after_first_request())
        self._hook_server_exit()
        self._stand_before_handlers()
        self.open_channel()

    def _recognise(self) -> None:
        for look in (_look_for_tests, servers.by_stack, servers.recognise, servers.recognise_on_loop):
            # A host may hold a file descriptor: none is made that cannot be taken.
            host = None if self.host.is_final else look()
            if host is not None and servers.knows_more(host, self.host):
                self._set_host(host)

    def _set_host(self, host: servers.ServerHost) -> None:
        self.host = host
        for assembly in (self.assembly, *self.overridden):
            if assembly is not None:
                assembly.host_is(host)
        if self.layers is not None:
            self.layers.host = host
        host.on_reload(self.file_changed)

    def _hook_server_exit(self) -> None:
        if not self._exit_hooked and self.host.has_exit_hook:
            self._exit_hooked = True
            last = self.host.exit_hook_is_last
            self.host.on_exit(lambda: self.hold(last=last))

    def _stand_before_handlers(self, *, over_default: bool = True, at_exit: bool = False) -> None:
        layers, assembly = self.layers, self.assembly
        if layers is None or assembly is None:
            return
        if not self.host.takes_handlers or not assembly.settings.handle_signals:
            self.top_handler = _getsignal(_SIGTERM)
        elif threading.get_ident() == self.main_ident:
            layers.install(over_default=over_default, at_exit=at_exit)
            if over_default:
                # Else the first queueing looks again.
                self.top_handler = _getsignal(_SIGTERM)

    # Queueing.

    def notice_handlers(self) -> None:
        """Notice handlers that a server set after us, where they can be changed: in the main thread."""
        if _getsignal(_SIGTERM) is not self.top_handler and threading.get_ident() == self.main_ident:
            self.stand_before_new_handlers()

    def stand_before_new_handlers(self) -> None:
        """Stand before a handler that was set after ours; in the main thread."""
        self._recognise()
        self._hook_server_exit()
        self._stand_before_handlers()

    def _scheduler_started(self) -> None:
        # In the reporter's thread, at the first item.
        self._warn_of_host()
        self.open_channel()

    def _warn_of_host(self) -> None:
        if self._host_warned:
            return
        self._host_warned = True
        texts = self.host.warnings(self.current.settings.shutdown_timeout)
        if self.host.holds_at_exit:
            texts = [*texts, *interpreter.warnings()]
        for text in texts:
            lifecycle_logger.warning("%s", text)

    def open_channel(self) -> None:
        """Let other processes of the site ask, if that is possible and wanted; once, any thread, off the items' way."""
        if self.host.opens_channel:
            self.visibility.open()
        self.current.tell_of_the_lost()

    # Settings for a block.

    def settings_changed(self, entered: bool) -> None:
        """Give a block of override_settings a scheduler of its own; drain it when the block is left."""
        # Under the lock, since another thread may be queueing its first item: what it assembles is either that of the
        # block, and ended here, or made from the settings of afterwards.
        left = holding(self._assembling, self._enter_block if entered else self._leave_block)
        if left is not None:
            left.end(_OVERRIDE_SECONDS)

    def _enter_block(self) -> None:
        self.admitting = None
        self.overridden.append(self.assembly)
        self.assembly = None

    def _leave_block(self) -> Assembly | None:
        self.admitting = None
        left, self.assembly = self.assembly, self.overridden.pop() if self.overridden else None
        return left

    def renew(self, timeout: float) -> None:
        """Give up what is left after `timeout` seconds, and open a new scheduler."""
        left = holding(self._assembling, self._take_out)
        if left is not None:
            left.end(timeout)
            if self.layers is not None:
                self.layers = None
                self.top_handler = None
            self.open()

    def _take_out(self) -> Assembly | None:
        left, self.assembly, self.admitting = self.assembly, None, None
        return left

    # The end.

    def file_changed(self) -> None:
        """Note that a reloader saw a change; the exit that follows soon is a reload."""
        self.end.file_changed()

    def stopped(self, signum: signal.Signals, status: Callable[[], int]) -> None:
        """Take notice of a stop signal that has left a command by an exception, with the `status` of its exit."""
        self.end.status = status
        # Python's own handler of SIGINT has none of ours before it.
        if self.assembly is not None and not self.assembly.coordinator.signed:
            self.assembly.coordinator.stop_signal(signum.name, signum, repeated=False)

    def hold(self, *, last: bool) -> None:
        """Hold the exit of this process as long as it is worth it and allowed."""
        assembly = self.assembly
        if assembly is None or os.getpid() != self.pid:
            return
        if last and not assembly.scheduler.started and assembly.scheduler.close_if_empty():
            return
        # A reloader may have begun after the first item, in a process that has answered no request.
        self._recognise()
        reloads = self.end.reloads
        self.end.sign(assembly, self.host, "the exit of the process", reloads)
        debt = None if self.layers is None else self.layers.debt
        if not assembly.scheduler.is_empty:
            # A server has restored the handlers that it found, and its master, or a control group, may signal again.
            self._stand_before_handlers(at_exit=True)
            if debt is not None:
                debt.release_interrupt()
        self.end.hold(assembly, self.host, debt, last=last, reloads=reloads)

    def serving_ends(self) -> tuple[DrainCoordinator | None, float | None]:
        """Take notice that the server has finished its requests, by its lifespan.

        Returns:
            What to hold the end of the lifespan for, None for nothing, and for how many seconds at the most.
        """
        assembly = self.assembly
        if assembly is None:
            return None, None
        self.end.sign(assembly, self.host, "the end of the server's lifespan", self.end.reloads)
        return assembly.coordinator, self.host.lifespan_seconds

    def hold_interpreter(self, steps: Iterable[Callable[[], object]]) -> None:
        """Hold the exit of the interpreter, then take `steps`; at the last moment, and once. Raises nothing."""
        if self.end.is_held:
            return
        self.end.is_held = True
        for step in (lambda: self.hold(last=True), *steps, self.visibility.close):
            without_exception(step)
        if self.layers is not None:
            self.layers.debt.pay()

    def after_fork_in_child(self) -> None:
        """Make the locks of this process anew, which is now that of the parent, and leave the rest to that."""
        for assembly in (self.assembly, *self.overridden):
            if assembly is not None:
                assembly.scheduler.after_fork_in_child()
        self.visibility.close_in_child()
        if self.layers is not None:
            self.layers.debt.after_fork_in_child()


def _look_for_tests() -> servers.ServerHost | None:
    return servers.test_run(sys.argv)
