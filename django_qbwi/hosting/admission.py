"""What happens between a call and the scheduler, in the caller's thread; the path of every item."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import signal
import threading
from collections.abc import Callable
from typing import Any

from django.db import DEFAULT_DB_ALIAS

from django_qbwi.core.calls import NO_ORIGIN, Origin
from django_qbwi.core.items import WorkItem, WorkItemHandle, handle_of
from django_qbwi.database.connections import in_test_transaction, thread_state
from django_qbwi.hosting.assembly import Assembly
from django_qbwi.hosting.process import Process
from django_qbwi.hosting.unusual import nothing, queue_from, queue_unusually
from django_qbwi.intake.callables import examine
from django_qbwi.intake.familiar import FamiliarCalls, is_simple
from django_qbwi.intake.intake import origin_of
from django_qbwi.intake.options import Start

_SIGTERM = int(signal.SIGTERM)

# A name of this module is found faster than an attribute of another.
_get_ident = threading.get_ident
_thread_state = thread_state
_getsignal = _signal.getsignal


class Admission:
    """Takes calls, and puts them before the scheduler of this process.

    The face of the room has the one instance; `queue` is a method of it, so that an item passes nothing else there.
    """

    __slots__ = ("_familiar", "_find", "_recognise", "here")

    def __init__(self, find: Callable[[], Process]) -> None:
        """Make it; `find` returns the state of this process, and is called wherever `here` is None."""
        self._find = find
        self.here: Process | None = None
        """That of this pid, where a fork hook is sure to take it away in a child: it saves a system call an item."""
        self._familiar = FamiliarCalls()
        self._recognise = self._familiar.recognise

    def __repr__(self) -> str:
        return f"<Admission here={self.here!r}>"

    def take(
        self, work_item: Callable[..., Any], args: tuple[Any, ...], is_async: bool
    ) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Prepare a call that was validated: copy its request, refuse one that is carried along.

        Raises:
            InvalidWorkItem: It carries a request, or one cannot be copied.
            ImproperlyConfigured: settings.QBWI is wrong.
        """
        work_item, args, _ = (self.here or self._find()).admit().intake.take(work_item, args, is_async)
        return work_item, args

    def queue(
        self,
        work_item: Callable[..., Any],
        args: tuple[Any, ...],
        name: str | None,
        timeout: float | None,
        taken: bool | None = None,
        start: Start | None = None,
    ) -> WorkItemHandle:
        """Queue a call whose options were validated; of one that went through `take`, `taken` says if it is async.

        Of `start` only labels count where items are run at the call, or captured. Raises as the public function.
        """
        is_new = (is_async := self._recognise(work_item, args)) is None
        if is_async is None:
            # A wrong call is refused before anything else, as in the original.
            is_async = examine(work_item, args) if taken is None else taken
        here = self.here or self._find()
        assembly = here.admitting or here.admit()
        origin = None
        if is_new or assembly.carries or taken is not None:
            work_item, args, origin = self._look_at(assembly, work_item, args, is_async, taken is not None)
        start = start and assembly.start_of(start, work_item, args)
        if here.interceptors:
            return here.interceptors[-1](work_item, args, is_async, name, timeout, start.labels if start else ())
        is_plain = name is None and timeout is None and start is None
        options = assembly.options if is_plain else assembly.options_of(name, timeout, start, is_async)
        item = WorkItem(assembly.scheduler, work_item, args, is_async, origin or NO_ORIGIN, options)
        if not is_plain:
            assembly.prepare(item, start)
        if assembly.unusual and queue_unusually(here, assembly, item, start=start):
            return handle_of(item)
        if _thread_state.opened and assembly.warns_in_transaction and taken is None:
            here.hints.warn_of_transaction(item)
        # Handlers that a server set after us are noticed here, where they can be changed: in the main thread.
        if _getsignal(_SIGTERM) is not here.top_handler and _get_ident() == here.main_ident:
            here.stand_before_new_handlers()
        if here.host.watched:
            here.watch()
        if start is not None:
            return handle_of(queue_from(assembly, item, nothing, start))
        assembly.scheduler.queue(item)
        handle = WorkItemHandle()  # as `handle_of(item)`, without its frame
        handle._item = item
        return handle

    def runs_before_commit(self, using: str | None) -> bool:
        """Say whether an item that waits for a commit is run at the call: where that commit would never come.

        So under IMMEDIATE and in `immediate_work_items(on_commit=True)`, inside the transaction of a TestCase.
        """
        here = self.here or self._find()
        if here.interceptors:
            wanted = bool(getattr(here.interceptors[-1], "on_commit", False))
        else:
            wanted = here.current.settings.immediate
        return wanted and in_test_transaction(using or DEFAULT_DB_ALIAS)

    def _look_at(
        self, assembly: Assembly, work_item: Callable[..., Any], args: tuple[Any, ...], is_async: bool, taken: bool
    ) -> tuple[Callable[..., Any], tuple[Any, ...], Origin | None]:
        """Prepare a call that is not familiar; return it as it will be run, and its origin."""
        if taken:
            return work_item, args, origin_of(work_item, args)
        simple = is_simple(work_item, args)
        if simple:
            self._familiar.learn(work_item, args, is_async)
        if simple and not assembly.carries:
            return work_item, args, None
        return assembly.intake.take(work_item, args, is_async)
