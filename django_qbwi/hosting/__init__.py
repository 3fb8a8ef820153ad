"""The composition root: the one scheduler of this process, its start, its end, its renewal after a fork.

The only module state of django_qbwi lives here: one `Process` for each pid, so that after any fork, with or without
fork hooks, everything of the parent is simply not found.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from asgiref.sync import SyncToAsync
from django.core.signals import request_started, setting_changed
from django.db import DEFAULT_DB_ALIAS
from django.utils.autoreload import autoreload_started, file_changed

from django_qbwi import conf
from django_qbwi.connections import in_test_transaction, thread_state, under_test
from django_qbwi.core.calls import NO_ORIGIN, Options
from django_qbwi.core.exceptions import NotHosted
from django_qbwi.core.items import WorkItem, WorkItemHandle, WorkItemInfo
from django_qbwi.core.scheduler import WorkItemScheduler
from django_qbwi.hosting.assembly import Assembly
from django_qbwi.hosting.forked import free_locals
from django_qbwi.hosting.hints import reason_not_ready
from django_qbwi.hosting.immediate import run_immediately
from django_qbwi.hosting.process import Interceptor, Process
from django_qbwi.inspection.registry import Registry
from django_qbwi.inspection.subject import Subject
from django_qbwi.intake.callables import examine
from django_qbwi.intake.familiar import FamiliarCalls, is_simple
from django_qbwi.intake.intake import Origin, origin_of
from django_qbwi.lifecycle import interpreter, servers
from django_qbwi.signals import lifecycle_logger, scheduler_logger

_SIGTERM = int(signal.SIGTERM)
_MAX_SIGNALS = 5

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
_familiar = FamiliarCalls()
_recognise = _familiar.recognise


def start() -> None:
    """Open the scheduler of this process and arrange for its end; called by the app config's `ready()`."""
    if not _hooked:
        _hooked.append(True)
        interpreter.call_at_exit(_at_exit)
        interpreter.call_in_forked_child(_in_forked_child)
        setting_changed.connect(_on_setting_changed, dispatch_uid="django_qbwi.hosting")
        request_started.connect(_on_request_started, dispatch_uid="django_qbwi.hosting")
        file_changed.connect(_on_file_changed, dispatch_uid="django_qbwi.hosting")
        autoreload_started.connect(_on_autoreload_started, dispatch_uid="django_qbwi.hosting")
        servers.tell_the_parent(_on_autoreload_of_another)
    # Where nothing can run (eventlet), the first queueing says so; the site shall start.
    with contextlib.suppress(NotHosted):
        _find_process()


def share(registry: Registry) -> None:
    """Have the processes of this site write themselves down in `registry` too, from their first request or item on."""
    _registries[:] = [registry]


def registry() -> Registry | None:
    """Return what shows the processes of other hosts, None if there is nothing."""
    return _registries[0] if _registries else None


def this_process() -> Process:
    """Return the state of this process, a new one after a fork.

    Raises:
        NotHosted: The app is not installed, its `ready()` has not run, or nothing can run here.
    """
    return _current or _find_process()


def scheduler() -> WorkItemScheduler:
    """Return the scheduler for the settings that hold now."""
    return this_process().current.scheduler


def take(
    work_item: Callable[..., Any], args: tuple[Any, ...], is_async: bool
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Prepare a call that was validated, in the caller's thread: copy its request, refuse one that is carried along.

    Raises:
        InvalidWorkItem: It carries a request, or one cannot be copied.
        ImproperlyConfigured: settings.QBWI is wrong.
    """
    work_item, args, _ = this_process().admit().intake.take(work_item, args, is_async)
    return work_item, args


def queue(
    work_item: Callable[..., Any],
    args: tuple[Any, ...],
    name: str | None,
    timeout: float | None,
    taken: bool | None = None,
) -> WorkItemHandle:
    """Queue a call whose options were validated; the heart of the public functions, and the path of every item.

    Args:
        work_item: What to call.
        args: Its arguments after the token.
        name: For display.
        timeout: In seconds.
        taken: Of a call that went through `take` before a commit, whether it is async.

    Raises:
        InvalidWorkItem: It cannot be called so, it carries a request, or one cannot be copied.
        WorkItemRejected, and its subclasses: Refused; nothing was queued.
        ImproperlyConfigured: settings.QBWI is wrong.
    """
    is_async = _recognise(work_item, args)
    is_new = is_async is None
    if is_async is None:
        # A wrong call is refused before anything else, as in the original.
        is_async = examine(work_item, args) if taken is None else taken
    here = _current or _find_process()
    assembly = here.admitting or here.admit()
    origin = None
    if is_new or assembly.carries or taken is not None:
        work_item, args, origin = _look_at(assembly, work_item, args, is_async, taken is not None)
    if here.interceptors:
        return here.interceptors[-1](work_item, args, is_async, name, timeout)
    options = (
        assembly.options
        if name is None and timeout is None
        else Options(name, assembly.item_timeout if timeout is None else timeout)
    )
    item = WorkItem(assembly.scheduler, work_item, args, is_async, origin or NO_ORIGIN, options)
    if (assembly.unusual or "django.test.utils" in _modules) and _queue_unusually(here, assembly, item):
        return WorkItemHandle(item)
    if _thread_state.opened and assembly.warns_in_transaction and taken is None and not here.hints.transaction_warned:
        here.hints.warn_of_transaction(item)
    # Handlers that a server set after us are noticed here, where they can be changed: in the main thread.
    if _getsignal(_SIGTERM) is not here.top_handler and _get_ident() == here.main_ident:
        here.stand_before_new_handlers()
    if here.host.watched:
        here.watch()
    assembly.scheduler.queue(item)
    return WorkItemHandle(item)


def runs_before_commit(using: str | None) -> bool:
    """Say whether an item that waits for a commit is run at the call: under test, where that commit would never come.

    So under IMMEDIATE and in `immediate_work_items(on_commit=True)`, inside the transaction of a TestCase.
    """
    if "django.test.utils" not in _modules:
        return False
    here = this_process()
    if here.interceptors:
        wanted = bool(getattr(here.interceptors[-1], "on_commit", False))
    else:
        wanted = here.current.settings.immediate
    return wanted and in_test_transaction(using or DEFAULT_DB_ALIAS)


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
    here = this_process()
    here.interceptors.append(interceptor)
    try:
        yield
    finally:
        here.interceptors.remove(interceptor)


def _look_at(
    assembly: Assembly, work_item: Callable[..., Any], args: tuple[Any, ...], is_async: bool, taken: bool
) -> tuple[Callable[..., Any], tuple[Any, ...], Origin | None]:
    """Prepare a call that is not familiar; return it as it will be run, and its origin."""
    if taken:
        return work_item, args, origin_of(work_item, args)
    simple = is_simple(work_item, args)
    if simple:
        _familiar.learn(work_item, args, is_async)
    if simple and not assembly.carries:
        return work_item, args, None
    return assembly.intake.take(work_item, args, is_async)


def _queue_unusually(here: Process, assembly: Assembly, item: WorkItem) -> bool:
    """Handle the cases in which queueing is not what it is elsewhere; True if the item was dealt with."""
    if assembly.settings.immediate:
        run_immediately(assembly.scheduler, item, assembly.environment.scope)
        return True
    if assembly.refusal is not None:
        refusal = NotHosted(f"{item.name} was not queued: {assembly.refusal}")
        assembly.scheduler.observer.rejected(item, refusal)
        raise refusal
    if not here.host.serves:
        # A user's ready() queues in both processes of runserver; this one only watches the other.
        if scheduler_logger.isEnabledFor(logging.DEBUG):
            scheduler_logger.debug("Work item name=%s discarded: runserver's parent runs none", item.name)
        assembly.scheduler.discard(item)
        return True
    if not here.hints.test_warned and under_test():
        here.hints.warn_of_test_transaction(item)
    return False


def _find_process() -> Process:
    global _current
    if not _hooked:
        raise NotHosted(reason_not_ready())
    refusal = servers.refusal_of_threads()
    if refusal is not None:
        raise NotHosted(refusal)
    pid = os.getpid()
    found = _processes.get(pid)
    if found is None:
        # Without a lock, which a forked child could find taken for ever: two threads may both make one, one stays.
        found = _processes.setdefault(pid, Process(_open_registry))
        found.open()
    if hasattr(os, "register_at_fork") and found.host.has_fork_hooks:
        # Else the pid is asked for each time, as on Windows.
        _current = found
    return found


def _open_registry(subject: Subject) -> None:
    for registry in _registries:
        registry.open(subject)


def _at_exit() -> None:
    here = _processes.get(os.getpid())
    if here is None or here.exit_held:
        return
    here.exit_held = True
    _without_exception(lambda: here.hold(last=True))
    for registry in _registries:
        _without_exception(registry.close)
    if here.publisher is not None:
        _without_exception(here.publisher.close)
    if here.layers is not None:
        here.layers.debt.pay()


def _without_exception(step: Callable[[], object]) -> None:
    # One that got out would skip the exit hooks of other libraries. Handlers of signals raise SystemExit and
    # KeyboardInterrupt in any of our lines; the steps can be taken again, but not for ever.
    for _ in range(_MAX_SIGNALS):
        try:
            step()
        except Exception:
            lifecycle_logger.exception("A step of the exit of the process failed")
        except BaseException:
            continue
        return


def _in_forked_child() -> None:
    global _current
    _current = None
    free_locals()
    for parent in _processes.values():
        for assembly in (parent.assembly, *parent.overridden):
            if assembly is not None:
                assembly.scheduler.after_fork_in_child()
        if parent.publisher is not None:
            parent.publisher.close_in_child()
        if parent.layers is not None:
            parent.layers.debt.after_fork_in_child()
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


def _on_autoreload_started(**kwargs: Any) -> None:
    # In the main thread of the process that serves, whichever command has led there.
    here = _processes.get(os.getpid())
    if here is not None:
        here.look_again()


def _on_autoreload_of_another() -> None:
    here = _processes.get(os.getpid())
    if here is not None:
        here.watches_over_another()


def _on_request_started(sender: Any, **kwargs: Any) -> None:
    if not _is_real_handler(sender):
        return
    request_started.disconnect(dispatch_uid="django_qbwi.hosting")
    here = this_process()
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
