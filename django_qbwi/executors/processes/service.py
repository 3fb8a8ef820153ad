"""What a helper does: it sets up the site, and then runs one item after the other, in its main thread.

Threads: the main one runs the items, as their code may expect; one reads what the parent says, cancels tokens and tells
where the main one is; one tells of progress, if items report any.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import queue
import signal
import sys
import threading
import types
from contextvars import Context
from typing import Any

from django_qbwi.core.calls import found_at
from django_qbwi.core.cancellation import CancelReason
from django_qbwi.core.exceptions import InvalidWorkItem
from django_qbwi.core.failures import is_a, message_of, traceback_text, type_of
from django_qbwi.core.items import enter_item
from django_qbwi.core.names import FunctionWrapper, name_of
from django_qbwi.core.results import to_wait_for
from django_qbwi.executors.processes.frames import Frames, Message
from django_qbwi.executors.processes.outbox import Outbox, forward_records
from django_qbwi.executors.processes.work import HelperToken, item_of
from django_qbwi.machine.stacks import stack_of_thread
from django_qbwi.machine.thread_state import ThreadState

_FROM_THE_PARENT = 1
"""The exit status of a helper that has lost its parent."""


def serve(start: dict[str, Any], inbox: int, outbox: int) -> int:
    """Run items until the parent says the end; return the exit status of the process.

    Args:
        start: How it is set up: `site` is the path of what knows Django, which gets `settings` and `context`.
        inbox, outbox: The descriptors of the pipes from and to the parent.
    """
    told = Outbox(outbox)
    try:
        site = found_at(start["site"])(start["settings"], start["context"])
        forward_records(told)
    except BaseException as error:
        # User code returns to us here: settings, and the apps' ready().
        told.send(("failed", f"{type_of(error)}: {message_of(error)}", traceback_text(error)))
        return 1
    told.send(("ready", os.getpid()))
    service = _Service(site, told)
    signal.signal(signal.SIGTERM, service.heed_sigterm)
    threading.Thread(target=service.hear, args=(Frames(inbox),), name="qbwi-parent", daemon=True).start()
    service.run()
    return 0


class _Service:
    """Runs what the parent sends.

    Each call has its number: what the parent says of an item that has just ended does not reach the next one.
    """

    def __init__(self, site: Any, outbox: Outbox) -> None:
        self._site = site
        self._outbox = outbox
        self._calls: queue.SimpleQueue[tuple[HelperToken, Message] | None] = queue.SimpleQueue()
        self._token: HelperToken | None = None
        self._pid = os.getpid()
        self._main = threading.get_ident()
        self._is_told_to_go = False
        self._state = ThreadState()

    def run(self) -> None:
        """Run items, one after the other, until the parent says the end."""
        while True:
            called = self._calls.get()
            if called is None:
                self._site.thread_ended()
                return
            token, (_, _, about, _, payload) = called
            ended = Context().run(self._run, token, about, payload)
            del called, payload
            self._token = None
            with contextlib.suppress(Exception):
                # What it has printed is seen when it has ended, and not lost if the process is ended.
                sys.stdout.flush()
            self._outbox.tell_progress()
            self._outbox.send(ended)

    def heed_sigterm(self, signum: int, frame: types.FrameType | None) -> None:
        """Die of SIGTERM, if the parent has said so; anybody else's is ignored, as in `helper`."""
        if self._is_told_to_go:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)

    def _run(self, token: HelperToken, about: dict[str, Any], payload: bytes) -> Message:
        self._state.begin()
        self._site.before()
        ended: Message = ("ended",)
        try:
            path, args, keywords, carried = pickle.loads(payload)
            function = _bare(found_at(path))
            enter_item(item_of(about, function, token, self._outbox))
            with self._site.surroundings(args, carried):
                result = function(token, *args, **keywords)
                if result is not None and to_wait_for(result) is not None:
                    raise _not_awaited(function, result)
        except BaseException as error:
            # User code returns to us here: SystemExit, KeyboardInterrupt and the like end the item, not the helper.
            ended = _failure_of(error, token)
        # They keep large objects alive.
        args = keywords = carried = result = None
        if os.getpid() != self._pid:
            # A child that the item has forked and let return: it is nobody's helper.
            os._exit(0)
        self._site.after()
        self._state.renew(about["name"])
        return ended

    # In the thread that hears the parent.

    def hear(self, frames: Frames) -> None:
        """Do what the parent says, until it says the end, or is gone: then this process goes, whatever it does."""
        while True:
            message = frames.receive()
            if message is None:
                os._exit(_FROM_THE_PARENT)
            kind, *rest = message
            if kind == "call":
                number, _, remaining, _ = rest
                self._token = HelperToken(self._outbox, number, remaining)
                self._calls.put((self._token, message))
            elif kind == "end":
                self._calls.put(None)
            elif kind == "terminate":
                self._is_told_to_go = True
                # The main thread heeds it, or whatever handler the item has set.
                os.kill(os.getpid(), signal.SIGTERM)
            elif kind == "stack":
                self._outbox.send(("stack", stack_of_thread(self._main)))
            else:
                self._tell_token(kind, *rest)

    def _tell_token(self, kind: str, number: int, *rest: Any) -> None:
        token = self._token
        if token is None or token.number != number:
            # Its item has just ended.
            return
        if kind == "cancel":
            remaining, reason, message = rest
            token.set_remaining(remaining)
            token._cancel(CancelReason(reason), message)
        elif kind == "remaining":
            token.set_remaining(*rest)
        else:
            token.answer(*rest)


def _bare(found: Any) -> Any:
    """Return the function inside of our wrappers, whose work was done where it was queued."""
    while isinstance(found, FunctionWrapper):
        found = found.function
    return found


def _not_awaited(function: Any, result: Any) -> InvalidWorkItem:
    close = getattr(result, "close", None)
    if asyncio.iscoroutine(result) and close is not None:
        close()
    return InvalidWorkItem(
        f'{name_of(function)} has executor="process" and returned a {name_of(type(result))}, for which nobody waits in '
        "a helper process: run it there, as asyncio.run(...) does, or leave the executor out"
    )


def _failure_of(error: BaseException, token: HelperToken) -> Message:
    if is_a(error, asyncio.CancelledError) and token.is_cancellation_requested:
        return ("cancelled",)
    text = traceback_text(error)
    try:
        pickled = pickle.dumps(error, pickle.HIGHEST_PROTOCOL)
        # An exception whose class takes other arguments is pickled, and cannot be made again.
        pickle.loads(pickled)
    except BaseException as refusal:
        # Code of its class.
        return ("raised", None, f"{type_of(refusal)}: {message_of(refusal)}", type_of(error), message_of(error), text)
    return ("raised", pickled, "", type_of(error), message_of(error), text)
