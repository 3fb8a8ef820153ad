"""The policy of retries: which failures are followed by another attempt, how often, and after how long.

The words are those proposed for `django.tasks`. It is pure: nothing here waits, counts or knows an item.
"""

from __future__ import annotations

import dataclasses
import random
import sys
from collections.abc import Callable
from typing import Any

from django_qbwi.core.exceptions import InvalidWorkItem
from django_qbwi.core.failures import is_a

Backoff = Callable[[int, BaseException], float]
"""Gets the number of the attempt that has failed, 1 for the first, and what it has raised; returns seconds."""


@dataclasses.dataclass(frozen=True, slots=True)
class Exponential:
    """Seconds that grow by a factor with each attempt, up to the longest; see `exponential`."""

    first: float
    factor: float
    longest: float
    jitter: float

    def __call__(self, attempt: int, error: BaseException) -> float:
        """Return the seconds until the attempt behind this one."""
        try:
            seconds = min(self.first * self.factor ** (attempt - 1), self.longest)
        except OverflowError:
            seconds = self.longest
        # No secret: it only keeps items that have failed together from coming again together.
        return seconds * (1.0 - self.jitter * random.random())


def exponential(
    first: float = 1.0, factor: float = 2.0, longest: float = 300.0, jitter: float = 0.5
) -> Callable[[int, BaseException], float]:
    """Return a backoff: `first` seconds, then each time `factor` times as many, never more than `longest`.

    Args:
        first: Seconds before the second attempt.
        factor: 1 or more.
        longest: Seconds.
        jitter: The part of the pause, from 0 to 1, of which a random share is left out, so that what has failed
            together does not come again together.

    Raises:
        InvalidWorkItem: One of them makes no sense.
    """
    _check("first", first, 0.0, sys.float_info.max)
    _check("factor", factor, 1.0, sys.float_info.max)
    _check("longest", longest, 0.0, sys.float_info.max)
    _check("jitter", jitter, 0.0, 1.0)
    return Exponential(float(first), float(factor), float(longest), float(jitter))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """What follows a failed attempt of an item: `retry=Retry(max_attempts=3, on=(SMTPException,))`.

    - Each attempt is a run of its own, with a new token, in a context of its own.
    - A failed one that is followed by another is a WARNING with its traceback, and the signal `work_item_retried`; the
      last one is FAILED.
    - While an item waits for its next attempt it holds no worker, as a delayed one.
    - Cancellation is never retried, nor what fails once its token is cancelled.
    - An attempt that could not begin before the process ends is left out: the item is FAILED.

    Raises:
        InvalidWorkItem: One of its values makes no sense.
    """

    max_attempts: int = 3
    """All of them, the first one included; 1 or more."""
    on: type[BaseException] | tuple[type[BaseException], ...] = (Exception,)
    """Which exceptions are followed by another attempt; one class, or a tuple of them, which it is from then on."""
    backoff: Callable[[int, BaseException], float] = dataclasses.field(default_factory=exponential)
    """`backoff(attempt, exception)` returns the seconds until the next one; called in the thread of the item."""

    def __post_init__(self) -> None:
        """Look at the values."""
        attempts = self.max_attempts
        if type(attempts) is not int or attempts < 1:
            raise InvalidWorkItem(f"max_attempts is {attempts!r}: give a whole number, 1 or more")
        on: Any = self.on
        classes: tuple[Any, ...] = on if type(on) is tuple else (on,)
        if not classes or not all(isinstance(one, type) and issubclass(one, BaseException) for one in classes):
            raise InvalidWorkItem(f"on is {on!r}: give a class of exceptions, or a tuple of them")
        object.__setattr__(self, "on", classes)
        if not callable(self.backoff):
            raise InvalidWorkItem(
                f"backoff is {self.backoff!r}: give a function of the attempt's number and its exception, as "
                "exponential(first=1.0) makes one"
            )

    def seconds_until_next(self, attempt: int, error: BaseException) -> float | None:
        """Return the seconds until the next attempt, None if there is none; raises what `backoff` does."""
        on = self.on if isinstance(self.on, tuple) else (self.on,)
        if attempt >= self.max_attempts or not any(is_a(error, one) for one in on):
            return None
        seconds: Any = self.backoff(attempt, error)
        if seconds is None:
            # None is our word for no other attempt, and not that of a function which has forgotten its `return`.
            raise InvalidWorkItem("it returned None: return a number of seconds, 0 or more")
        return seconds  # type: ignore[no-any-return]


def _check(name: str, value: Any, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        upper = "" if most == sys.float_info.max else f" and at most {most:g}"
        raise InvalidWorkItem(f"{name} is {value!r}: give a number of at least {least:g}{upper}")
