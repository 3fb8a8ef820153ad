"""The composition root: the one scheduler of this process, its start, its end, its renewal after a fork.

The only module state of django_qbwi lives here: one `Process` for each pid, so that after any fork, with or without
fork hooks, everything of the parent is simply not found.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

from asgiref.sync import SyncToAsync
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import request_started, setting_changed
from django.utils.autoreload import autoreload_started, file_changed

from django_qbwi import conf
from django_qbwi.core.admission import SchedulerState
from django_qbwi.core.exceptions import NotHosted
from django_qbwi.core.records import WorkItemInfo
from django_qbwi.core.scheduler import WorkItemScheduler
from django_qbwi.hosting import asking
from django_qbwi.hosting.admission import Admission
from django_qbwi.hosting.forked import free_locals
from django_qbwi.hosting.hints import reason_not_ready
from django_qbwi.hosting.history import History
from django_qbwi.hosting.prepared import PreparedCalls
from django_qbwi.hosting.process import Interceptor, Process
from django_qbwi.hosting.tracking import Tracking
from django_qbwi.inspection.reader import Answers
from django_qbwi.inspection.registry import Registry
from django_qbwi.inspection.schedules import Schedules
from django_qbwi.inspection.subject import Subject
from django_qbwi.lifecycle import interpreter, servers
from django_qbwi.logs import lines
from django_qbwi.signals import scheduler_logger

_processes: dict[int, Process] = {}
_inherited: list[Process] = []
_hooked: list[bool] = []
_registries: list[Registry] = []
"""None, or the one that shows this process to other hosts."""
_histories: list[History] = []
"""None, or the one that keeps what ended badly."""
_LAST_WRITES_SECONDS = 0.5
_schedules: list[Schedules] = []
"""None, or what starts items by the clock in processes that serve."""
_admission = Admission(lambda: _find_process())
_prepared = PreparedCalls(lambda: this_process())
_tracking = Tracking(lambda: this_process())

take = _admission.take
queue = _admission.queue
queue_prepared = _prepared.queue_prepared
surround = _prepared.surround
prove = _prepared.prove
run_for_engine = _prepared.run_for_engine
track = _tracking.track
runs_before_commit = _admission.runs_before_commit


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
        lines.install(_most_lines)
    # Where nothing can run (eventlet), the first queueing says so; the site shall start.
    with contextlib.suppress(NotHosted):
        _find_process()


def share(registry: Registry) -> None:
    """Have the processes of this site write themselves down in `registry` too, from their first request or item on."""
    _registries[:] = [registry]


def registry() -> Registry | None:
    """Return what shows the processes of other hosts, None if there is nothing."""
    return _registries[0] if _registries else None


def keep_history(history: History) -> None:
    """Have the items of this site that end badly, or move, kept in `history`."""
    _histories[:] = [history]


def history() -> History | None:
    """Return what keeps the items that ended badly, None if nothing does."""
    return _histories[0] if _histories else None


def offer_schedules(schedules: Schedules) -> None:
    """Have `schedules` begin in this process, and those that are forked from it, once it is known to serve."""
    _schedules[:] = [schedules]
    begin_schedules()


def schedules() -> Schedules | None:
    """Return what starts items by the clock, None if there is nothing."""
    return _schedules[0] if _schedules else None


def begin_schedules() -> None:
    """Have the schedules begin, if this process is known to answer requests itself; any thread, more than once."""
    here = _processes.get(os.getpid())
    for offered in _schedules if here is not None and here.host.answers_requests else ():
        try:
            offered.begin()
        except RuntimeError as error:
            scheduler_logger.warning("Nothing is started by the clock in this process: %s", error)


def is_open() -> bool:
    """Return whether this process takes on new items of its own accord: it can run them, and has not begun to end."""
    try:
        here = this_process()
        assembly = here.current
    except (NotHosted, ImproperlyConfigured):
        return False
    goes_on = assembly.scheduler.state is SchedulerState.OPEN and not here.host.is_stopping()
    return goes_on and here.host.serves and assembly.refusal is None


def this_process() -> Process:
    """Return the state of this process, a new one after a fork.

    Raises:
        NotHosted: The app is not installed, its `ready()` has not run, or nothing can run here.
    """
    return _admission.here or _find_process()


def scheduler() -> WorkItemScheduler:
    """Return the scheduler for the settings that hold now."""
    return this_process().current.scheduler


def end(*, interrupted: bool, status: Callable[[], int]) -> None:
    """Hold the exit of this process now, which follows: a stop signal has left what ran in its main thread.

    Args:
        interrupted: Whether it was a Ctrl-C.
        status: Returns the exit status of the process, for an exit that gets stuck.
    """
    this_process().stopped(signal.SIGINT if interrupted else signal.SIGTERM, status)
    _at_exit()


def is_busy() -> bool:
    """Return whether something is queued or running in this process; creates nothing."""
    here = _processes.get(os.getpid())
    return here is not None and here.assembly is not None and not here.assembly.scheduler.is_empty


def ask_others(request: dict[str, Any], pids: set[int] | None = None) -> Answers | None:
    """Return what the other processes of the site say; see `asking.ask_others`."""
    return asking.ask_others(this_process(), request, pids)


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


def _find_process() -> Process:
    if not _hooked:
        raise NotHosted(reason_not_ready())
    refusal = servers.refusal_of_threads()
    if refusal is not None:
        raise NotHosted(refusal)
    pid = os.getpid()
    found = _processes.get(pid)
    if found is None:
        # Without a lock, which a forked child could find taken for ever: two threads may both make one, one stays.
        found = _processes.setdefault(pid, Process(_open_registry, history))
        found.open()
    if hasattr(os, "register_at_fork") and found.host.has_fork_hooks:
        # Else the pid is asked for each time, as on Windows.
        _admission.here = found
    return found


def _open_registry(subject: Subject) -> None:
    for registry in _registries:
        registry.open(subject)


def _most_lines() -> int:
    return this_process().current.settings.log_lines


def _at_exit() -> None:
    here = _processes.get(os.getpid())
    if here is not None:
        # What ended at the call, where no scheduler has started, is in no drain.
        steps = [offered.end for offered in _schedules]
        closes = [registry.close for registry in _registries]
        here.hold_interpreter([*steps, *closes, *map(_last_writes, _histories)])


def _last_writes(history: History) -> Callable[[], object]:
    return lambda: history.write(time.monotonic() + _LAST_WRITES_SECONDS)


def _in_forked_child() -> None:
    _admission.here = None
    free_locals()
    for parent in _processes.values():
        parent.after_fork_in_child()
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
        begin_schedules()


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
    begin_schedules()
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
