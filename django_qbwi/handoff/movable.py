"""What an item needs to move to its engine: the call as the engine gets it, and how that has ended."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any, Protocol

from django.utils import timezone

from django_qbwi.core.calls import Options
from django_qbwi.core.checkpoints import CheckpointToken
from django_qbwi.core.exceptions import WorkItemRejected
from django_qbwi.core.failures import message_of, type_of
from django_qbwi.core.items import WorkItem
from django_qbwi.core.scheduler import WorkItemScheduler
from django_qbwi.handoff.calls import EngineCall


class Moves(Protocol):
    """Who moves items."""

    scheduler: WorkItemScheduler

    def take_over(
        self, item: WorkItem, refusal: WorkItemRejected, tell: Callable[[], object]
    ) -> WorkItemRejected | None:
        """Move an item that is refused here, in its caller's thread."""

    def hold(self, item: WorkItem) -> None:
        """Move an item that was taken out already, soon."""


class MovableItem:
    """How one item moves; see `core.ports.Movable`."""

    __slots__ = ("_call", "_fresh_id", "_mover", "alias", "delay", "engine_id", "problem")

    def __init__(self, mover: Moves, call: EngineCall, delay: float, *, fresh_id: bool = False) -> None:
        """Make it; with `fresh_id` the engine has the item's own id already, and stores the rest under another."""
        self._mover = mover
        self._call: EngineCall | None = call
        self._fresh_id = mover.scheduler.make_id(16) if fresh_id else None
        self.alias = call.engine.alias
        self.delay = delay
        """Seconds from queueing on before which it shall not begin."""
        self.engine_id: str | None = None
        """Its id there, once it was accepted."""
        self.problem = f"{call.engine.alias!r} has not answered"
        """Why it was not accepted yet."""

    def __repr__(self) -> str:
        return f"<MovableItem {self._call!r} engine_id={self.engine_id}>"

    @property
    def target(self) -> str:
        """See `Movable`."""
        return self.problem if self.engine_id is None else f"{self.alias!r} as {self.engine_id}"

    def take_over(
        self, item: WorkItem, refusal: WorkItemRejected, tell: Callable[[], object]
    ) -> WorkItemRejected | None:
        """See `Movable`."""
        return self._mover.take_over(item, refusal, tell)

    def remember(self, state: dict[str, Any]) -> None:
        """See `Movable`."""
        if self._call is not None:
            self._call.go_on_from(state)

    def go_on(self, item: WorkItem, state: dict[str, Any]) -> None:
        """See `Movable`."""
        self.remember(state)
        self.delay = 0.0
        self._mover.hold(item)

    def send(self, item: WorkItem, due: float, clean_up: Callable[[], object]) -> None:
        """Have the engine accept `item`, which may begin at the monotonic second `due`; blocks.

        Raises:
            Exception: It has not, as far as can be known.
            BaseException: What a signal handler, or the engine's code, has raised; `engine_id` says if it was accepted.
        """
        call = self._call
        if call is None:
            return
        known = self._fresh_id or item.id
        wait = due - item.owner.clock()
        moment = timezone.now() + datetime.timedelta(seconds=wait) if wait > 0 else None
        try:
            self.engine_id = call.send(known, moment, item.options.priority)
        except BaseException as error:
            # The engine's code, and that of receivers, returns to us here.
            clean_up()
            # Without a line of its class, which may raise where it is asked for its text.
            why = f"{type_of(error)}: {message_of(error)}"
            self.problem = f"{call.engine.alias!r} may have accepted it, and cannot be asked: {why}"
            if not call.engine.has(known):
                self.problem = f"{call.engine.alias!r} has not accepted it: {why}"
                raise
            # The reply was lost, or something behind the commit has failed.
            self.engine_id = known
            if not isinstance(error, Exception):
                raise

    def forget(self) -> None:
        """Drop the call, which may be large, at the end of the item."""
        self._call = None

    def prove(self, state: dict[str, Any]) -> None:
        """Raise InvalidWorkItem at a state of a checkpoint from which it could not go on."""
        if self._call is not None:
            self._call.with_state(state)


def make_movable(item: WorkItem, movable: MovableItem) -> None:
    """Let a new item be one that can move, before anybody has asked for its token."""
    options = item.options
    item.options = Options(
        name=options.name,
        timeout=options.timeout,
        lane=options.lane,
        priority=options.priority,
        movable=movable,
        retry=options.retry,
        expires=options.expires,
        keyed=options.keyed,
        labels=options.labels,
    )
    item.run.token = CheckpointToken(item.owner.stop, movable.prove, moves=True)
    item.add_waiter(movable.forget)


def movable_of(item: WorkItem) -> MovableItem:
    """Return how an item moves that was made to."""
    movable = item.options.movable
    assert isinstance(movable, MovableItem)
    return movable
