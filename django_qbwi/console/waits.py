"""What an item waits for, for a page and a table: until when, and for how long still."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any

from django_qbwi.console.text import long_span, seconds_from


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """When an item that waits is due, and until when it may start; None, and no span, where there is no such moment."""

    due_at: datetime.datetime | None = None
    expires_at: datetime.datetime | None = None
    due_in: str = ""
    expires_in: str = ""

    @classmethod
    def of(cls, item: Mapping[str, Any], now: datetime.datetime) -> Wait:
        """Read it from what a process tells of an item; one of another version may say nothing of it."""
        due_at, expires_at = (
            None if item.get(name) is None else datetime.datetime.fromisoformat(item[name])
            for name in ("due_at", "expires_at")
        )
        return cls(due_at=due_at, expires_at=expires_at, due_in=_left(due_at, now), expires_in=_left(expires_at, now))

    def notes(self) -> list[str]:
        """Return it in words."""
        spans = {"due": self.due_in, "expires": self.expires_in}
        return [f"{word} in {left}" for word, left in spans.items() if left]


def _left(moment: datetime.datetime | None, now: datetime.datetime) -> str:
    return "" if moment is None else long_span(seconds_from(now, moment))
