"""What an item reports, for people: a percentage, an amount, a bar."""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Mapping
from typing import Any

from django_qbwi.console.text import long_span, span
from django_qbwi.core.names import printable
from django_qbwi.core.progress import Progress


def percentage(progress: Progress) -> int | None:
    """Return how much of the total is done, in whole percent, 100 not before the end; None without a total."""
    fraction = progress.fraction
    if fraction is None:
        return None
    # 0.29 * 100 is a little less than 29.
    return 100 if fraction == 1.0 else min(99, math.floor(round(fraction * 100, 6)))


def amount(progress: Progress) -> str:
    """Return how much is done, such as 21 of 50."""
    done = _plain(progress.done)
    return done if progress.total is None else f"{done} of {_plain(progress.total)}"


def short(told: Mapping[str, Any] | None) -> str:
    """Return a report for a narrow column, such as 42 %; the amount where there is no total."""
    if told is None:
        return ""
    progress = Progress.from_dict(told)
    return _percent(progress) or amount(progress)


def sentence(told: Mapping[str, Any], now: datetime.datetime) -> str:
    """Return a report on one line, such as 42 %, 21 of 50, page 21, 0.4 s ago."""
    progress = Progress.from_dict(told)
    parts = (_percent(progress), amount(progress), printable(progress.text), f"{span(_age(progress, now))} ago")
    return ", ".join(part for part in parts if part)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A report for a page; `value` and `percent` are empty where there is no total, and so no bar."""

    value: str
    """The fraction for an attribute, whatever the language."""
    percent: str
    amount: str
    text: str
    at: datetime.datetime
    age: str

    @classmethod
    def of(cls, told: Mapping[str, Any] | None, now: datetime.datetime) -> Bar | None:
        """Describe a report, None where there was none."""
        if told is None:
            return None
        progress = Progress.from_dict(told)
        return cls(
            value="" if progress.fraction is None else f"{progress.fraction:.4f}",
            percent=_percent(progress),
            amount=amount(progress),
            text=printable(progress.text),
            at=progress.at,
            age=long_span(_age(progress, now)),
        )


def _percent(progress: Progress) -> str:
    found = percentage(progress)
    return "" if found is None else f"{found} %"


def _age(progress: Progress, now: datetime.datetime) -> float:
    return max(0.0, (now - progress.at).total_seconds())


def _plain(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:.6g}"
