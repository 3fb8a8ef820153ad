"""How far an item is: what it says of itself by `token.report`, as plain values that nothing changes."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any, Self

from django_qbwi.core.exceptions import InvalidWorkItem
from django_qbwi.core.names import name_of, printable

MAX_AMOUNT = 2**63
"""The most of anything that can be reported: what every reader of JSON has a number for."""


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """How far an item was at one moment."""

    done: float
    total: float | None
    """None where nobody knows it."""
    text: str
    """What it does, on one line; empty if it did not say."""
    at: datetime.datetime
    """When it said so: an aware UTC datetime."""

    @property
    def fraction(self) -> float | None:
        """How much of `total` is done, from 0.0 to 1.0; None without a total."""
        if self.total is None:
            return None
        # More than a total that was only estimated, or all of nothing.
        return 1.0 if self.done >= self.total else self.done / self.total

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON: the time as ISO 8601 string."""
        return {"done": self.done, "total": self.total, "text": self.text, "at": self.at.isoformat()}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Self:
        """Return what `to_dict` was made of; what others sent has to be checked before."""
        return cls(told["done"], told["total"], told["text"], datetime.datetime.fromisoformat(told["at"]))


def progress_of(done: Any, total: Any, text: Any) -> Progress:
    """Return what an item reports now.

    Raises:
        InvalidWorkItem: One of them is wrong; the message says what to give.
    """
    return Progress(
        _amount("done", done, "0 or more"),
        None if total is None else _amount("total", total, "0 or more, or None where nobody knows it"),
        _line(text),
        datetime.datetime.now(tz=datetime.UTC),
    )


def _amount(name: str, value: Any, cure: str) -> float:
    kind = type(value)
    # Numbers of a class of their own become plain ones, without its code: that of numpy's floats, or an enum's.
    plain: Any = None
    if kind is int or kind is float:
        plain = value
    elif kind is not bool and issubclass(kind, int):
        plain = int.__int__(value)
    elif issubclass(kind, float):
        plain = float.__float__(value)
    # Not a number included.
    if plain is None or not 0 <= plain <= MAX_AMOUNT:
        raise InvalidWorkItem(f"{name} is {_shown(value)}: report an int or float, {cure}")
    return plain  # type: ignore[no-any-return]


def _line(text: Any) -> str:
    if not issubclass(type(text), str):
        raise InvalidWorkItem(f"text is {_shown(text)}: report a str, such as str(...) of it, or leave it out")
    return printable(str.__str__(text))


def _shown(value: Any) -> str:
    try:
        return printable(repr(value))
    except Exception:
        # Its own code; for an int of thousands of digits it is Python's.
        return f"a {name_of(type(value))}"
