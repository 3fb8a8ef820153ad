"""The composition root: the one scheduler of this process, its start, its end, its renewal after a fork.

The only module state of django_qbwi lives here: one `Process` for each pid, so that after any fork, with or without
fork hooks, everything of the parent is simply not found.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from asgiref.sync import SyncToAsync
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import request_started, setting_changed

from django_qbwi import conf
from django_qbwi.connections import (
    ConnectionEnvironment,
    in_test_transaction,
    open_transaction,
    thread_state,
    under_test,
)
from django_qbwi.core.exceptions import NotHosted, WorkItemWarning
from django_qbwi.core.items import WorkItem, WorkItemHandle, WorkItemInfo
from django_qbwi.core.loop_executor import LoopExecutor
from django_qbwi.core.primitives import new_rlock
from django_qbwi.core.scheduler import WorkItemScheduler
from django_qbwi.core.service_thread import ServiceThread
from django_qbwi.core.stacks import caller_level
from django_qbwi.core.thread_executor import ThreadExecutor
from django_qbwi.identity import sites
from django_qbwi.immediate import executor_of_sync_code, run_immediately, run_in_a_thread
from django_qbwi.inspection.channel import find_place
from django_qbwi.inspection.publisher import Publisher
from django_qbwi.inspection.registry import Registry
from django_qbwi.inspection.subject import Inspected, Subject
from django_qbwi.lifecycle import interpreter, servers
from django_qbwi.lifecycle.drain import DrainCoordinator
from django_qbwi.lifecycle.os_signals import SignalLayers, swallow_first_interrupt
from django_qbwi.signals import DrainRecords, SignalsAndRecords, inspection_logger, lifecycle_logger, scheduler_logger
from django_qbwi.snapshots.carriers import load_carriers
from django_qbwi.snapshots.guard import is_simple
from django_qbwi.snapshots.intake import Call, Intake, origin_of

_CURES = (
    'Run items at the call with QBWI = {"IMMEDIATE": True} in the test settings or '
    "django_qbwi.testing.immediate_work_items()"
)
_RELOAD_SECONDS = 10.0
_OVERRIDE_SECONDS = 5.0
_WATCH_EVERY = 0.1
_LAST_RESORT_AFTER = 1.0
_RELOAD_EXIT_CODE = 3
_SIGTERM = int(signal.SIGTERM)
_SHOWN_LIMITS = ("max_workers", "max_async_in_flight", "max_queued", "item_timeout", "shutdown_timeout")

_processes: dict[int, Process] = {}
_current: Process | None = None
"""That of this pid, where a fork hook is sure to take it away in a child; it saves a system call for each item."""
_inherited: list[Process] = []
_hooked: list[bool] = []
_registries: list[Registry] = []
"""None, or the one that shows this process to other hosts."""

# On the path of every item; a name of this module is found faster than an attribute of another.
_get_ident = threading.get_ident
_thread_state = thread_state
_getsignal = _signal.getsignal
_modules = sys.modules

Interceptor = Callable[[Callable[..., Any], tuple[Any, ...], bool, "str | None", "float | None"], WorkItemHandle]


class Assembly:
    """One scheduler with all that it needs: settings, executors, service threads, drain."""

    def __init__(
        self, settings: conf.Settings, host: servers.ServerHost, started: Callable[[], object] = lambda: None
    ) -> None:
        """Put it together; `started` is called by the reporter when the first item was accepted."""
        self.settings = settings
        self._started = started
        self.host = host
        self.item_timeout = settings.item_timeout
        self.refusal = host.refusal()
        self.unusual = settings.immediate or self.refusal is not None or isinstance(host, servers.RunserverParentHost)
        """Whether items are not simply queued here."""
        self.warns_in_transaction = settings.warn_in_transaction
        self.environment = ConnectionEnvironment(lambda alias: process().hint_at_locks(alias))
        self.intake = Intake(settings.request_capture, load_carriers(settings.context))
        self.carries = bool(settings.context)
        """Whether there are carriers to ask at each queueing."""
        self.keeper = ServiceThread("qbwi-keeper")
        self.reporter = ServiceThread("qbwi-reporter")
        self.scheduler = WorkItemScheduler(
            max_queued=settings.max_queued,
            overdue_after=settings.overdue_after,
            accept_while_draining=settings.accept_while_draining,
            history_size=settings.history_size,
            observer=SignalsAndRecords(self._schedule),
            keeper=self.keeper,
            start=self._start_services,
        )
        self.loop_executor = LoopExecutor(
            self.scheduler, max_in_flight=settings.max_async_in_flight, environment=self.environment
        )
        self.thread_executor = ThreadExecutor(
            self.scheduler,
            max_workers=settings.max_workers,
            environment=self.environment,
            adopt=self.loop_executor.adopt,
        )
        self.scheduler.attach(self.thread_executor, self.loop_executor)
        self.coordinator = DrainCoordinator(
            self.scheduler,
            self.reporter,
            DrainRecords(),
            host,
            shutdown_timeout=settings.shutdown_timeout,
            cancel_after=settings.cancel_after,
        )

    def __repr__(self) -> str:
        return f"<Assembly {self.scheduler!r} host={self.host!r}>"

    def end(self, timeout: float) -> None:
        """Drain within `timeout` seconds, close, and let the threads end; blocks."""
        self.coordinator.sign("the end of its settings", at_most=timeout)
        self.coordinator.hold(last=True)
        self.loop_executor.join(_LAST_RESORT_AFTER)
        for service in (self.keeper, self.reporter):
            # Callbacks and receivers that run there may have opened connections.
            service.post(self.environment.thread_ended)
            service.stop()

    def _start_services(self) -> None:
        self.keeper.start()
        self.reporter.start()
        self.reporter.post(self._warn_of_host)
        self.reporter.post(self._started)

    def _warn_of_host(self) -> None:
        for text in self.host.warnings(self.settings.shutdown_timeout):
            lifecycle_logger.warning("%s", text)

    def _schedule(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        loop = self.loop_executor.loop
        if loop is None or loop.is_closed():
            # Items run at the call, or none runs any more.
            run_in_a_thread(lambda: asyncio.run(coroutine))
            return
        asyncio.run_coroutine_threadsafe(coroutine, loop)


class Process:
    """What django_qbwi is in one process: the host around it, the scheduler in it, the way to its end."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.host = servers.identify(sys.argv, dict(os.environ))
        self.assembly: Assembly | None = None
        # Of this process only, so no forked child finds it taken: two threads that queue at once make one scheduler.
        self._assembling = new_rlock()
        self.layers: SignalLayers | None = None
        self.interceptors: list[Interceptor] = []
        self._overridden: list[Assembly | None] = []
        self.main_ident = threading.main_thread().ident
        self.top_handler: Any = None
        self._watching = False
        self._exit_hooked = False
        self.exit_held = False
        self._file_changed_at: float | None = None
        self.test_warned = False
        self.transaction_warned = False
        self.subject = Subject(lambda: self.host.name, self._inspected)
        self.publisher: Publisher | None = None

    def __repr__(self) -> str:
        return f"<Process pid={self.pid} host={self.host!r} assembly={self.assembly!r}>"

    @property
    def current(self) -> Assembly:
        """The assembly for the settings that hold now.

        Raises:
            ImproperlyConfigured: settings.QBWI is wrong.
        """
        assembly = self.assembly
        if assembly is None:
            with self._assembling:
                assembly = self.assembly
                if assembly is None:
                    assembly = self.assembly = Assembly(conf.load(), self.host, self.open_channel)
        return assembly

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
        if isinstance(self.host, servers.RunserverParentHost):
            if assembly.settings.handle_signals:
                swallow_first_interrupt()
            return
        # A command that never queues anything shall die of SIGTERM at once, even inside a C call.
        self._stand_before_handlers(over_default=not isinstance(self.host, servers.CommandHost))
        self._hook_server_exit()

    def first_request(self) -> None:
        """Look again at the server, which may have set its handlers after we were loaded; any thread."""
        self._recognise()
        if not self.host.is_server:
            self._set_host(servers.after_first_request())
        self._hook_server_exit()
        self._stand_before_handlers()
        self.open_channel()

    def _recognise(self) -> None:
        for host in (servers.recognise(), servers.recognise_on_loop()):
            if host is not None and servers.knows_more(host, self.host):
                self._set_host(host)

    def _set_host(self, host: servers.ServerHost) -> None:
        self.host = host
        for assembly in (self.assembly, *self._overridden):
            if assembly is not None:
                assembly.host = assembly.coordinator.host = host
        if self.layers is not None:
            self.layers.host = host

    def _hook_server_exit(self) -> None:
        if not self._exit_hooked and isinstance(self.host, servers.GunicornHost | servers.UwsgiHost):
            self._exit_hooked = True
            last = self.host.exit_hook_is_last
            self.host.on_exit(lambda: self.hold(last=last))

    def _stand_before_handlers(self, *, over_default: bool = True) -> None:
        layers, assembly = self.layers, self.assembly
        if layers is None or assembly is None or not assembly.settings.handle_signals:
            return
        if not self.host.takes_handlers:
            self.top_handler = _getsignal(_SIGTERM)
        elif threading.get_ident() == self.main_ident:
            layers.install(over_default=over_default)
            if over_default:
                # Else the first queueing looks again.
                self.top_handler = _getsignal(_SIGTERM)

    # Queueing.

    def stand_before_new_handlers(self) -> None:
        """Stand before a handler that was set after ours; in the main thread."""
        self._recognise()
        self._hook_server_exit()
        self._stand_before_handlers()

    def watch(self) -> None:
        """Look at the server's stop flag, now and until nothing is queued or running any more."""
        if not self._watching:
            self._watching = True
            self._watch()

    def _watch(self) -> None:
        # Only while something is queued or running: an idle worker has no wakeups.
        coordinator = self.current.coordinator
        if coordinator.signed and coordinator.scheduler.is_empty:
            return
        if self.host.is_stopping():
            if not coordinator.signed:
                coordinator.sign(f"{self.host.name} stops this process")
            return
        coordinator.scheduler.keeper.call_at(time.monotonic() + _WATCH_EVERY, self._watch_again)

    def _watch_again(self) -> None:
        scheduler = self.current.scheduler
        if scheduler.is_empty:
            self._watching = False
            # Looked at again: an item may have come in between, whose queueing saw us watching.
            if not scheduler.queued_count + scheduler.running_count or self._watching:
                return
            self._watching = True
        self._watch()

    def warn_of_test_transaction(self, item: WorkItem) -> None:
        """Warn once if a test queues from inside the transaction that hides its data from other threads."""
        if _in_test_transaction():
            self.test_warned = True
            warnings.warn(
                f"{item.name} was queued inside a TestCase's transaction: it runs in another thread, which does not "
                f"see the test's data, and may find a table locked. {_CURES}, or use TransactionTestCase (pytest: "
                "django_db(transaction=True)).",
                WorkItemWarning,
                stacklevel=caller_level(),
            )

    def warn_of_transaction(self, item: WorkItem) -> None:
        """Warn, once, of an item that is queued inside an open transaction, which may be rolled back."""
        alias = open_transaction()
        if alias is None:
            return
        self.transaction_warned = True
        warnings.warn(
            f"{item.name} was queued inside an open transaction (database {alias!r}): it may run before the commit and "
            "runs after a rollback too. Use queue_on_commit. If the item has nothing to do with the database, silence "
            'this with QBWI = {"WARN_IN_TRANSACTION": False}.',
            WorkItemWarning,
            stacklevel=caller_level(),
        )

    def hint_at_locks(self, alias: str) -> None:
        """Say once that a test shares its in-memory SQLite database with a thread of ours; called in that thread."""
        if not self.test_warned:
            self.test_warned = True
            scheduler_logger.warning(
                "A work item uses the in-memory SQLite database %r of the tests in a thread of its own: what the test "
                'and the item do there at the same time can fail with "database table is locked". %s, call '
                'django_qbwi.testing.drain() before the test goes on, or keep the test database in a file: "TEST": '
                '{"NAME": ...}',
                alias,
                _CURES,
            )

    # Inspection.

    def open_channel(self) -> None:
        """Let other processes of the site ask, if that is possible and wanted; once, any thread, off the items' path.

        Not under test: the processes of a parallel test run are one site, and would see each other's items.
        """
        if under_test():
            return
        self._listen()
        # After it, for the registry tells where this process can be asked.
        self._share()

    def _share(self) -> None:
        try:
            for registry in _registries if self.current.settings.inspection else ():
                registry.open(self.subject)
        except (RuntimeError, ImproperlyConfigured) as error:
            inspection_logger.debug("Other hosts cannot see this process: %r", error)

    def _listen(self) -> None:
        if self.publisher is not None:
            return
        try:
            place = find_place()
            if place is None or not self.current.settings.inspection:
                return
            with self._assembling:
                if self.publisher is None:
                    publisher = Publisher(place, sites(), self.subject)
                    publisher.open()
                    self.publisher = publisher
        except (OSError, RuntimeError, ImproperlyConfigured) as error:
            inspection_logger.debug("Other processes cannot look into this one: %r", error)

    def _inspected(self) -> Inspected | None:
        assembly = self.assembly
        if assembly is None:
            return None
        settings = assembly.settings
        return Inspected(
            scheduler=assembly.scheduler,
            limits={name: getattr(settings, name) for name in _SHOWN_LIMITS},
            drain_seconds=settings.shutdown_timeout,
            close_connections=assembly.environment.thread_ended,
        )

    # Settings for a block.

    def settings_changed(self, entered: bool) -> None:
        """Give a block of override_settings a scheduler of its own; drain it when the block is left."""
        if entered:
            self._overridden.append(self.assembly)
            self.assembly = None
            return
        left = self.assembly
        self.assembly = self._overridden.pop() if self._overridden else None
        if left is not None:
            left.end(_OVERRIDE_SECONDS)

    def renew(self, timeout: float) -> None:
        """Give up what is left after `timeout` seconds, and open a new scheduler."""
        left, self.assembly = self.assembly, None
        if left is not None:
            left.end(timeout)
            if self.layers is not None:
                self.layers = None
                self.top_handler = None
            self.open()

    # The end.

    def file_changed(self) -> None:
        """Note that runserver's reloader saw a change; the exit that follows within a second is a reload."""
        self._file_changed_at = time.monotonic()

    def hold(self, *, last: bool) -> None:
        """Hold the exit of this process as long as it is worth it and allowed."""
        assembly = self.assembly
        if assembly is None or os.getpid() != self.pid:
            return
        coordinator = assembly.coordinator
        reloads = self._reloads()
        if not coordinator.signed and assembly.scheduler.started:
            if reloads:
                coordinator.restart(_RELOAD_SECONDS)
            else:
                cancel = self.host.is_server or _ended_by_interrupt()
                coordinator.sign("the exit of the process", cancel=cancel)
        if not assembly.scheduler.is_empty:
            # A server has restored the handlers that it found, and its master, or a control group, may signal again.
            self._stand_before_handlers()
            if self.layers is not None:
                self.layers.release_interrupt()
        coordinator.hold(last=last)
        if not last or not assembly.scheduler.started:
            return
        if coordinator.gave_up:
            self._arm_last_resort(assembly, reloads)
        assembly.loop_executor.join(0.5)
        if _ended_by_interrupt():
            _keep_interrupt_status()

    def _reloads(self) -> bool:
        changed_at = self._file_changed_at
        return changed_at is not None and time.monotonic() - changed_at < 2.0

    def _arm_last_resort(self, assembly: Assembly, reloads: bool) -> None:
        # A stuck thread of somebody's executor is joined by the interpreter without limit; the server's limit stands.
        owed = None if self.layers is None else self.layers.owed
        code = _RELOAD_EXIT_CODE if reloads else 0 if owed is None else 128 + owed
        pid = self.pid

        def leave() -> None:
            if os.getpid() == pid and "mod_wsgi" not in sys.modules:
                os._exit(code)

        assembly.keeper.call_at(time.monotonic() + _LAST_RESORT_AFTER, leave)


def start() -> None:
    """Open the scheduler of this process and arrange for its end; called by the app config's `ready()`."""
    if not _hooked:
        _hooked.append(True)
        interpreter.call_at_exit(_at_exit)
        interpreter.call_in_forked_child(_in_forked_child)
        setting_changed.connect(_on_setting_changed, dispatch_uid="django_qbwi.hosting")
        request_started.connect(_on_request_started, dispatch_uid="django_qbwi.hosting")
        if "runserver" in sys.argv[1:2]:
            from django.utils.autoreload import file_changed  # only where it is in use

            file_changed.connect(_on_file_changed, dispatch_uid="django_qbwi.hosting")
    # Where nothing can run (eventlet), the first queueing says so; the site shall start.
    with contextlib.suppress(NotHosted):
        _this_process()


def share(registry: Registry) -> None:
    """Have the processes of this site write themselves down in `registry` too, from their first request or item on."""
    _registries[:] = [registry]


def registry() -> Registry | None:
    """Return what shows the processes of other hosts, None if there is nothing."""
    return _registries[0] if _registries else None


def process() -> Process:
    """Return the state of this process, a new one after a fork.

    Raises:
        NotHosted: The app is not installed, its `ready()` has not run, or nothing can run here.
    """
    return _current or _this_process()


def scheduler() -> WorkItemScheduler:
    """Return the scheduler for the settings that hold now."""
    return process().current.scheduler


def take(work_item: Callable[..., Any], args: tuple[Any, ...], is_async: bool) -> Call:
    """Prepare a call that was validated, in the caller's thread: copy its request, refuse one that is carried along.

    Raises:
        InvalidWorkItem: It carries a request, or one cannot be copied.
        ImproperlyConfigured: settings.QBWI is wrong.
    """
    work_item, args, _ = process().current.intake.take(work_item, args, is_async)
    return work_item, args


def queue(
    work_item: Callable[..., Any],
    args: tuple[Any, ...],
    is_async: bool,
    name: str | None,
    timeout: float | None,
    taken: bool = False,
) -> WorkItemHandle:
    """Queue a call that was validated; the heart of the public functions, and the path of every item.

    Args:
        work_item: What to call.
        args: Its arguments after the token.
        is_async: Whether it is a coroutine function.
        name: For display.
        timeout: In seconds.
        taken: Whether the call went through `take` before a commit.

    Raises:
        InvalidWorkItem: It carries a request, or one cannot be copied.
        WorkItemRejected, and its subclasses: Refused; nothing was queued.
        ImproperlyConfigured: settings.QBWI is wrong.
    """
    here = _current or _this_process()
    assembly = here.assembly or here.current
    origin = None
    if taken:
        origin = origin_of(work_item, args)
    elif assembly.carries or not is_simple(work_item, args):
        work_item, args, origin = assembly.intake.take(work_item, args, is_async)
    if here.interceptors:
        return here.interceptors[-1](work_item, args, is_async, name, timeout)
    item = WorkItem(
        assembly.scheduler, work_item, args, is_async, name, assembly.item_timeout if timeout is None else timeout
    )
    if origin is not None:
        item.origin = origin
    if (assembly.unusual or "django.test.utils" in _modules) and _queue_unusually(here, assembly, item):
        return WorkItemHandle(item)
    if _thread_state.opened and assembly.warns_in_transaction and not (here.transaction_warned or taken):
        here.warn_of_transaction(item)
    # Handlers that a server set after us are noticed here, where they can be changed: in the main thread.
    if _get_ident() == here.main_ident and _getsignal(_SIGTERM) is not here.top_handler:
        here.stand_before_new_handlers()
    if here.host.watched:
        here.watch()
    assembly.scheduler.queue(item)
    return WorkItemHandle(item)


def is_busy() -> bool:
    """Return whether something is queued or running in this process; creates nothing."""
    here = _processes.get(os.getpid())
    return here is not None and here.assembly is not None and not here.assembly.scheduler.is_empty


def live_items() -> list[WorkItemInfo]:
    """Return what runs and what is queued in this process, oldest first."""
    return [item.info() for item in scheduler().live_items()]


def recent_items() -> list[WorkItemInfo]:
    """Return the items of this process that ended last, newest first, at most QBWI["HISTORY_SIZE"]."""
    return [item.info() for item in scheduler().finished_items()]


@contextlib.contextmanager
def intercept(interceptor: Interceptor) -> Iterator[None]:
    """Have `interceptor` called in place of queueing, in this whole process, for the time of a block."""
    here = process()
    here.interceptors.append(interceptor)
    try:
        yield
    finally:
        here.interceptors.remove(interceptor)


def _in_test_transaction() -> bool:
    if in_test_transaction():
        return True
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    # The connections of an async view are in the thread of its sync code. It is asked with a limit, since it may be
    # waiting for this loop.
    try:
        answer = executor_of_sync_code().submit(in_test_transaction)
        return answer.result(1.0)
    except (TimeoutError, RuntimeError):
        return False


def _queue_unusually(here: Process, assembly: Assembly, item: WorkItem) -> bool:
    """Handle the cases in which queueing is not what it is elsewhere; True if the item was dealt with."""
    if assembly.settings.immediate:
        run_immediately(assembly.scheduler, item, assembly.environment.scope)
        return True
    if assembly.refusal is not None:
        refusal = NotHosted(f"{item.name} was not queued: {assembly.refusal}")
        assembly.scheduler.observer.rejected(item, refusal)
        raise refusal
    if isinstance(here.host, servers.RunserverParentHost):
        # A user's ready() queues in both processes of runserver; this one only watches the other.
        if scheduler_logger.isEnabledFor(logging.DEBUG):
            scheduler_logger.debug("Work item name=%s discarded: runserver's parent runs none", item.name)
        item.owner.discard(item)
        return True
    if not here.test_warned and under_test():
        here.warn_of_test_transaction(item)
    return False


def _this_process() -> Process:
    global _current
    if not _hooked:
        raise NotHosted(
            'There is no scheduler in this process: add "django_qbwi" to INSTALLED_APPS, and queue after '
            "django.setup(), which servers and manage.py call"
        )
    _refuse_eventlet()
    pid = os.getpid()
    found = _processes.get(pid)
    if found is None:
        # Without a lock, which a forked child could find taken for ever: two threads may both make one, one stays.
        found = _processes.setdefault(pid, Process())
        found.open()
    if hasattr(os, "register_at_fork") and "uwsgi" not in sys.modules:
        # uWSGI forks without running the hooks: there, as on Windows, the pid is asked for each time.
        _current = found
    return found


def _refuse_eventlet() -> None:
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is not None and patcher.is_monkey_patched("thread"):
        raise NotHosted(
            "eventlet has replaced the threads of this process, and work items need real ones: use gunicorn's "
            "gthread or gevent workers"
        )


def _ended_by_interrupt() -> bool:
    """Tell whether Ctrl-C ended the main thread, whose traceback is printed before the exit begins."""
    last = getattr(sys, "last_exc", None)
    kind = type(last) if last is not None else getattr(sys, "last_type", None)
    return kind is not None and issubclass(kind, KeyboardInterrupt)


def _keep_interrupt_status() -> None:
    # CPython dies of SIGINT after an unhandled KeyboardInterrupt if a flag still says so, which every compilation of a
    # string in any thread resets: a named tuple, a dataclass that an item imports. This sets it again.
    with contextlib.suppress(KeyboardInterrupt):
        exec("raise KeyboardInterrupt")


def _at_exit() -> None:
    here = _processes.get(os.getpid())
    if here is None or here.exit_held:
        return
    here.exit_held = True
    try:
        here.hold(last=True)
    except BaseException:
        # It would skip the exit hooks of other libraries.
        lifecycle_logger.exception("Holding the exit of the process failed")
    for registry in _registries:
        registry.close()
    if here.publisher is not None:
        here.publisher.close()
    if here.layers is not None:
        here.layers.finish()


def _in_forked_child() -> None:
    global _current
    _current = None
    for parent in _processes.values():
        for assembly in (parent.assembly, *parent._overridden):
            if assembly is not None:
                assembly.scheduler.after_fork_in_child()
                assembly.loop_executor.stop_in_child()
        if parent.publisher is not None:
            parent.publisher.close_in_child()
        if parent.layers is not None:
            parent.layers.after_fork_in_child()
        # Kept, not dropped: finalizers of the parent's loop and threads have no business in the child.
        _inherited.append(parent)
    _processes.clear()


def _on_setting_changed(*, setting: str, enter: bool, **kwargs: Any) -> None:
    here = _processes.get(os.getpid())
    if setting == conf.SETTING and here is not None:
        here.settings_changed(enter)


def _on_file_changed(**kwargs: Any) -> None:
    here = _processes.get(os.getpid())
    if here is not None:
        here.file_changed()


def _on_request_started(sender: Any, **kwargs: Any) -> None:
    if not _is_real_handler(sender):
        return
    request_started.disconnect(dispatch_uid="django_qbwi.hosting")
    here = process()
    here.first_request()
    # Under ASGI this runs in a thread of asgiref's, while handlers can be set in the main one only: that of the loop.
    loop = getattr(SyncToAsync.threadlocal, "main_event_loop", None) if "scope" in kwargs else None
    if loop is not None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(here.first_request)


def _is_real_handler(sender: Any) -> bool:
    # The handlers of the test client are siblings of these two.
    return isinstance(sender, type) and any(
        base.__module__.startswith("django.core.handlers.") and base.__name__ in {"WSGIHandler", "ASGIHandler"}
        for base in sender.__mro__
    )
