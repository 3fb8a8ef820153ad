"""One process: the host around it, the scheduler in it, the way to its end."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import asyncio
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from django_qbwi import conf
from django_qbwi.connections import in_test_transaction, open_transaction, under_test
from django_qbwi.core.exceptions import WorkItemWarning
from django_qbwi.core.items import WorkItem, WorkItemHandle
from django_qbwi.hosting.assembly import Assembly
from django_qbwi.hosting.identity import sites
from django_qbwi.hosting.immediate import executor_of_sync_code
from django_qbwi.inspection.places import Place, find_place
from django_qbwi.inspection.publisher import Publisher
from django_qbwi.inspection.subject import Inspected, Subject
from django_qbwi.lifecycle import interpreter, servers
from django_qbwi.lifecycle.drain import DrainCoordinator
from django_qbwi.lifecycle.layers import SignalLayers
from django_qbwi.lifecycle.runserver_parent import swallow_first_interrupt
from django_qbwi.machine.primitives import holding, new_rlock
from django_qbwi.machine.stacks import caller_level
from django_qbwi.signals import inspection_logger, lifecycle_logger, scheduler_logger

_CURES = (
    'Run items at the call with QBWI = {"IMMEDIATE": True} in the test settings or '
    "django_qbwi.testing.immediate_work_items()"
)
_RELOAD_SECONDS = 10.0
_OVERRIDE_SECONDS = 5.0
_WATCH_EVERY = 0.1
_LAST_RESORT_AFTER = 1.0
_FAREWELL_SECONDS = 0.5
_RELOAD_EXIT_CODE = 3
_SIGTERM = int(signal.SIGTERM)
_SHOWN_LIMITS = ("max_workers", "max_async_in_flight", "max_queued", "item_timeout", "shutdown_timeout")

# What `hosting.queue` compares with: `signal.getsignal` makes another object of SIG_DFL and SIG_IGN.
_getsignal = _signal.getsignal

Interceptor = Callable[[Callable[..., Any], tuple[Any, ...], bool, "str | None", "float | None"], WorkItemHandle]


class Process:
    """What django_qbwi is in one process: the host around it, the scheduler in it, the way to its end."""

    def __init__(self, share: Callable[[Subject], object] = lambda subject: None) -> None:
        """Make it; `share` is called with the first request or item, off the items' path, to show it to other hosts."""
        self._share = share
        self.pid = os.getpid()
        self.host = servers.identify(sys.argv, dict(os.environ))
        self.assembly: Assembly | None = None
        self.admitting: Assembly | None = None
        """That of now, once it was looked at for its first item; it saves a look for each of the others."""
        # Of this process only, so no forked child finds it taken: two threads that queue at once make one scheduler.
        self._assembling = new_rlock()
        self.layers: SignalLayers | None = None
        self.interceptors: list[Interceptor] = []
        self.overridden: list[Assembly | None] = []
        self.main_ident = threading.main_thread().ident
        self.top_handler: Any = None
        self._watching = False
        self._exit_hooked = False
        self.exit_held = False
        self._file_changed_at: float | None = None
        self._host_warned = False
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
            assembly = holding(self._assembling, self._assemble)
        return assembly

    def _assemble(self) -> Assembly:
        # Looked at again: another thread may have been here in between.
        if self.assembly is None:
            self.assembly = Assembly(conf.load(), self.host, self._scheduler_started, self.hint_at_locks)
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
        with self._assembling:
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
        if not self.host.is_server:
            self._set_host(servers.after_first_request())
        self._hook_server_exit()
        self._stand_before_handlers()
        self.open_channel()

    def _recognise(self) -> None:
        for look in (servers.by_stack, servers.recognise, servers.recognise_on_loop):
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
            warnings.warn(
                f"{item.name} was queued inside a TestCase's transaction: it runs in another thread, which does not "
                f"see the test's data, and may find a table locked. {_CURES}, or use TransactionTestCase (pytest: "
                "django_db(transaction=True)).",
                WorkItemWarning,
                stacklevel=caller_level(),
            )
            # Not before: as an error the warning refuses the item, and so it shall refuse the next one.
            self.test_warned = True

    def warn_of_transaction(self, item: WorkItem) -> None:
        """Warn, once, of an item that is queued inside an open transaction, which may be rolled back."""
        alias = open_transaction()
        if alias is None:
            return
        warnings.warn(
            f"{item.name} was queued inside an open transaction (database {alias!r}): it may run before the commit and "
            "runs after a rollback too. Use queue_on_commit. If the item has nothing to do with the database, silence "
            'this with QBWI = {"WARN_IN_TRANSACTION": False}.',
            WorkItemWarning,
            stacklevel=caller_level(),
        )
        # As above.
        self.transaction_warned = True

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

    def _scheduler_started(self) -> None:
        # In the reporter's thread, at the first item.
        self._warn_of_host()
        self.open_channel()

    def _warn_of_host(self) -> None:
        if self._host_warned:
            return
        self._host_warned = True
        texts = self.host.warnings(self.current.settings.shutdown_timeout)
        if not under_test():
            # There nothing is left for the exit of the interpreter.
            texts = [*texts, *interpreter.warnings()]
        for text in texts:
            lifecycle_logger.warning("%s", text)

    # Inspection.

    def open_channel(self) -> None:
        """Let other processes of the site ask, if that is possible and wanted; once, any thread, off the items' path.

        Not under test: the processes of a parallel test run are one site, and would see each other's items.
        """
        if under_test():
            return
        self._listen()
        try:
            # After it, for a registry tells where this process can be asked.
            if self.current.settings.inspection:
                self._share(self.subject)
        except (RuntimeError, ImproperlyConfigured) as error:
            inspection_logger.debug("Other hosts cannot see this process: %r", error)

    def _listen(self) -> None:
        if self.publisher is not None:
            return
        try:
            place = find_place()
            if place is None or not self.current.settings.inspection:
                return
            holding(self._assembling, self._publish, place)
        except (OSError, RuntimeError, ImproperlyConfigured) as error:
            inspection_logger.debug("Other processes cannot look into this one: %r", error)

    def _publish(self, place: Place) -> None:
        if self.publisher is None:
            publisher = Publisher(place, sites(), self.subject)
            publisher.open()
            self.publisher = publisher

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
        # Under the lock, since another thread may be queueing its first item: what it assembles is either that of the
        # block, and ended here, or made from the settings of afterwards.
        with self._assembling:
            self.admitting = None
            if entered:
                self.overridden.append(self.assembly)
                self.assembly = None
                return
            left = self.assembly
            self.assembly = self.overridden.pop() if self.overridden else None
        if left is not None:
            left.end(_OVERRIDE_SECONDS)

    def renew(self, timeout: float) -> None:
        """Give up what is left after `timeout` seconds, and open a new scheduler."""
        with self._assembling:
            left, self.assembly, self.admitting = self.assembly, None, None
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
        coordinator, scheduler = assembly.coordinator, assembly.scheduler
        if last and not scheduler.started and scheduler.close_if_empty():
            return
        # A reloader may have begun after the first item, in a process that has answered no request.
        self._recognise()
        reloads = self._reloads()
        self._sign(assembly, "the exit of the process", reloads)
        if not scheduler.is_empty:
            # A server has restored the handlers that it found, and its master, or a control group, may signal again.
            self._stand_before_handlers(at_exit=True)
            if self.layers is not None:
                self.layers.debt.release_interrupt()
        coordinator.hold(last=last)
        if not last:
            return
        if coordinator.gave_up:
            self._arm_last_resort(assembly, reloads)
        ends_by = coordinator.ends_by
        left = _FAREWELL_SECONDS if ends_by is None else max(0.0, ends_by - time.monotonic())
        assembly.join(min(_FAREWELL_SECONDS, left))
        interpreter.keep_interrupt_status()

    def serving_ends(self) -> tuple[DrainCoordinator | None, float | None]:
        """Take notice that the server has finished its requests, by its lifespan.

        Returns:
            What to hold the end of the lifespan for, None for nothing, and for how many seconds at the most.
        """
        assembly = self.assembly
        if assembly is None:
            return None, None
        self._sign(assembly, "the end of the server's lifespan", self._reloads())
        return assembly.coordinator, self.host.lifespan_seconds

    def _sign(self, assembly: Assembly, name: str, reloads: bool) -> None:
        coordinator = assembly.coordinator
        if coordinator.signed or not assembly.scheduler.started:
            return
        if reloads:
            coordinator.restart(_RELOAD_SECONDS)
        else:
            coordinator.sign(name, cancel=self.host.is_server or interpreter.ended_by_interrupt())

    def _reloads(self) -> bool:
        changed_at = self._file_changed_at
        return changed_at is not None and time.monotonic() - changed_at < 2.0

    def _arm_last_resort(self, assembly: Assembly, reloads: bool) -> None:
        # A stuck thread of somebody's executor is joined by the interpreter without limit; the server's limit stands.
        stopped_by = None if self.layers is None else self.layers.debt.stopped_by
        code = _RELOAD_EXIT_CODE if reloads else interpreter.exit_code(stopped_by)
        pid = self.pid

        def leave() -> None:
            if os.getpid() == pid and not self.host.shares_its_process:
                os._exit(code)

        # In both: a callback of an item, or a handler of records, may be stuck in one of them.
        for service in (assembly.keeper, assembly.reporter):
            service.call_at(time.monotonic() + _LAST_RESORT_AFTER, leave)


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
