"""A call that runs in a helper: what the proxy's thread does from the call to its end."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from typing import Any, Protocol

from django_qbwi.core.cancellation import CancellationToken, OperationCancelled
from django_qbwi.core.checkpoints import CheckpointReached
from django_qbwi.core.exceptions import HelperDied
from django_qbwi.core.failures import message_of, type_of
from django_qbwi.core.items import WorkItem, current_item
from django_qbwi.core.names import FunctionWrapper, name_of
from django_qbwi.executors.processes.frames import Message
from django_qbwi.executors.processes.process import HelperProcess
from django_qbwi.machine.loggers import SafeLogger

logger = SafeLogger("django_qbwi.scheduler")


class Packed(Protocol):
    """A call that was packed where it was queued."""

    @property
    def payload(self) -> bytes:
        """What the helper unpickles."""

    def with_arguments(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> Packed:
        """Return it with these arguments."""


class ProcessCall(FunctionWrapper):
    """Stands in an item where its function stands elsewhere, and has that called in a helper."""

    __slots__ = ("_function", "_packed", "_run")

    def __init__(self, function: Callable[..., Any], packed: Packed, run: Callable[[WorkItem, bytes], None]) -> None:
        self._function = function
        self._packed = packed
        self._run = run

    def __repr__(self) -> str:
        return f"<ProcessCall {name_of(self._function)}>"

    @property
    def function(self) -> Callable[..., Any]:
        """The function that was queued."""
        return self._function

    def __call__(self, token: CancellationToken, *args: Any, **kwargs: Any) -> None:
        """Have it called there, in the thread of a proxy, and wait for its end."""
        item = current_item()
        assert item is not None
        self._run(item, self._packed.with_arguments(args, kwargs).payload)


class HelperTracebackError(Exception):
    """Stands as the cause of what an item has raised in its helper, and has the text of the traceback there."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"


class RemoteRun:
    """One run of an item in a helper, in the thread of its proxy; `tell_remaining` may be called in any."""

    __slots__ = ("_moves", "_number", "helper", "item")

    def __init__(self, helper: HelperProcess, item: WorkItem) -> None:
        self.helper = helper
        self.item = item
        self._number = helper.items
        self._moves: CheckpointReached | None = None

    def __repr__(self) -> str:
        return f"<RemoteRun {self.item!r} {self.helper!r}>"

    def run(self, payload: bytes) -> None:
        """Have it run, and return or raise as it does.

        Raises:
            OperationCancelled: It has ended by that of its token, or was ended since it did not.
            HelperDied: Its helper has ended in the middle of it.
            BaseException: What it has raised.
        """
        item, token = self.item, self.item.token
        about: dict[str, Any] = {"name": item.name, "id": item.id, "timeout": item.timeout}
        about |= {"origin": item.origin, "attempt": item.run.attempt}
        try:
            self.helper.call(("call", self._number, about, token.remaining(), payload))
        except OSError:
            # It was killed while it had nothing to do, or just now: what follows says so.
            pass
        with token.register(self._tell_cancellation):
            message = self._hear()
        if message is None:
            raise self._death()
        if message[0] == "cancelled":
            raise self._moves or OperationCancelled(token)
        if message[0] == "raised":
            raise _error_of(*message[1:])

    def tell_remaining(self) -> None:
        """Have it know the seconds until the deadline, which has changed."""
        self.helper.tell(("remaining", self._number, self.item.token.remaining()))

    def _tell_cancellation(self) -> None:
        token = self.item.token
        self.helper.tell(("cancel", self._number, token.remaining(), str(token.reason), token.message))

    def _hear(self) -> Message | None:
        """Return how it has ended; None if its helper is gone before."""
        while True:
            try:
                message = self.helper.receive()
            except Exception as error:
                # A record or the like with a class that this process cannot make.
                logger.debug("Something that helper process %d has said is lost: %r", self.helper.pid, error)
                continue
            if message is None or message[0] in ("ended", "cancelled", "raised"):
                return message
            try:
                self._heed(*message)
            except Exception:
                # A handler or a filter of the log; nothing keeps an item from its end.
                logger.exception("What helper process %d has said was not heeded: %s", self.helper.pid, message[0])

    def _heed(self, kind: str, *rest: Any) -> None:
        if kind == "record":
            record = logging.makeLogRecord(rest[0])
            log = logging.getLogger(record.name)
            if log.isEnabledFor(record.levelno):
                log.handle(record)
        elif kind == "progress":
            self.item.token.report(*rest)
        elif kind == "stack":
            self.helper.answer(rest[0])
        elif kind == "cancel":
            self.item.owner.cancel(self.item, rest[0])
        elif kind == "checkpoint":
            self._checkpoint(rest[0])

    def _checkpoint(self, state: dict[str, Any]) -> None:
        error: BaseException | None = None
        try:
            self.item.token.checkpoint(**state)
        except CheckpointReached as moves:
            self._moves = moves
        except Exception as refusal:
            error = refusal
        self.helper.tell(("checkpoint", self._number, self._moves is not None, error))

    def _death(self) -> BaseException:
        token, helper = self.item.token, self.helper
        if helper.is_ended and token.is_cancellation_requested:
            # By us, since it did not end by itself.
            return OperationCancelled(token)
        return HelperDied(f"helper process {helper.pid} has ended while it ran {self.item.name}: {helper.reason}")


def _error_of(pickled: bytes | None, why: str, kind: str, message: str, text: str) -> BaseException:
    """Return what an item has raised, as far as it crosses."""
    error: BaseException | None = None
    if pickled is not None:
        try:
            error = pickle.loads(pickled)
        except BaseException as refusal:
            # Code of its class; or it is not known here.
            why = f"{type_of(refusal)}: {message_of(refusal)}"
    if not isinstance(error, BaseException):
        error = RuntimeError(f"{kind}: {message} (the exception itself cannot be pickled: {why})")
    error.__cause__ = HelperTracebackError(text)
    return error
