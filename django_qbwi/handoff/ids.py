"""The id under which an engine stores what it gets."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from contextvars import ContextVar

_moving: ContextVar[str | None] = ContextVar("django_qbwi_id_of_moving_item", default=None)


def item_id() -> uuid.UUID:
    """Return the id of the item that moves, a new one where none does.

    For engines that take a function for the ids of their rows; for django-tasks-db it is
    `OPTIONS={"id_function": "django_qbwi.handoff.item_id"}`. With it the same item cannot be stored twice, and its
    result is found under the id that it has had here.
    """
    known = _moving.get()
    return uuid.uuid4() if known is None else uuid.UUID(hex=known)


@contextlib.contextmanager
def known_as(known: str) -> Iterator[None]:
    """Have `item_id()` return this id, of 32 hex digits, in this context."""
    reset = _moving.set(known)
    try:
        yield
    finally:
        _moving.reset(reset)


def same_id(one: str, other: object) -> bool:
    """Return whether two ids are the same UUID, however they are written."""
    return one.replace("-", "").lower() == str(other).replace("-", "").lower()
