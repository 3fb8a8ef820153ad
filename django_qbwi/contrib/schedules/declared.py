"""The decorator, and the schedules that were declared with it; imports no model."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, overload

from django_qbwi.contrib.schedules.timing import Cron, Every, Timing
from django_qbwi.core.calls import found_at, import_path_of
from django_qbwi.core.cancellation import CancellationToken
from django_qbwi.core.exceptions import InvalidWorkItem
from django_qbwi.core.names import FunctionWrapper, is_partial, name_of, printable
from django_qbwi.decorator import BackgroundMethod
from django_qbwi.intake.callables import examine

MAX_NAME = 200
MAX_WHEN = 200

F = TypeVar("F", bound=Callable[[CancellationToken], Any])


class Schedule:
    """A function, and when it runs. Never changes."""

    __slots__ = ("function", "name", "overlap", "timing")

    def __init__(self, function: Callable[..., Any], timing: Timing, overlap: bool, name: str | None) -> None:
        self.function = function
        """As the decorator got it: what its module has may be another one, with options around it."""
        self.timing = timing
        self.overlap = overlap
        """Whether a run begins while the one before it is not over."""
        self.name = name_of(function) if name is None else name

    def __repr__(self) -> str:
        return f"<Schedule {self.name} {self.timing.text}>"

    def find(self) -> Callable[..., Any]:
        """Return what is queued: what the module has under the function's name, with its options.

        Raises:
            InvalidWorkItem: The function is not found there, or cannot be called with a token alone.
        """
        path = import_path_of(self.function)
        found: Any = self.function if path is None else found_at(path)
        if path is None or isinstance(found, BackgroundMethod):
            raise InvalidWorkItem(
                f"{name_of(self.function)} is scheduled, and its module does not have it under its own name: schedule "
                "a function that stands at the top of a module, no lambda, no method and none of another function"
            )
        examine(found, ())
        return found  # type: ignore[no-any-return]

    def problem(self) -> str:
        """Return what is wrong with it, with the value; "" if nothing is."""
        if not 0 < len(self.name) <= MAX_NAME:
            return f"its name has {len(self.name)} characters: give one of 1 to {MAX_NAME} by name="
        found = self.timing.problem()
        if not found and len(self.timing.text) > MAX_WHEN:
            found = f"{self.timing.text[:80]!r}... is longer than {MAX_WHEN} characters"
        if not found:
            try:
                self.find()
            except Exception as error:
                # What a module raises that is half imported is its own.
                found = str(error)
        return found


class Declarations:
    """All schedules that were declared in this process, in order. Filled where modules are imported."""

    def __init__(self) -> None:
        self._all: list[Schedule] = []
        self.version = 0
        """Another one after each declaration."""

    def __repr__(self) -> str:
        return f"<Declarations {len(self._all)}>"

    def __iter__(self) -> Iterator[Schedule]:
        return iter(list(self._all))

    def add(self, schedule: Schedule) -> None:
        """Add one; in the place of that of the same names, which a module that is reloaded declares anew."""
        function = _inner(schedule.function)
        same = (name_of(function), schedule.name)
        self._all = [
            one
            for one in self._all
            # Of one function, two of the same name are a mistake; and all lambdas of a module have the same one.
            if (name_of(one.function), one.name) != same or _inner(one.function) is function or "<" in same[0]
        ]
        self._all.append(schedule)
        self.version += 1

    def sound(self) -> tuple[list[Schedule], list[str]]:
        """Return those that can run, by name, and what is wrong with the others."""
        found: dict[str, Schedule] = {}
        problems = []
        for schedule in self:
            problem = schedule.problem()
            if not problem and schedule.name in found:
                other = name_of(found[schedule.name].function)
                problem = f"{other} has a schedule of that name already: give one of them another by name="
            if problem:
                problems.append(f"The schedule {printable(schedule.name)!r} never runs: {printable(problem)}")
            else:
                found[schedule.name] = schedule
        return [found[name] for name in sorted(found)], problems


# What is declared has to outlive the import that declares it, as receivers of signals do.
declarations = Declarations()


@overload
def schedule(*, every: datetime.timedelta, overlap: bool = False, name: str | None = None) -> Callable[[F], F]: ...


@overload
def schedule(
    *, cron: str, timezone: str | None = None, overlap: bool = False, name: str | None = None
) -> Callable[[F], F]: ...


def schedule(
    *,
    every: datetime.timedelta | None = None,
    cron: str | None = None,
    timezone: str | None = None,
    overlap: bool = False,
    name: str | None = None,
) -> Callable[[F], F]:
    """Run a function by the clock: once per site and tick, as a work item of whichever serving process is first.

    Above or below `background_work_item`, whose options hold for each run; the function gets a token and nothing else.
    It stays what it is, and can be queued and called as before. Wrong values are told by the system checks, and by an
    ERROR record of the processes that serve: the schedule never runs.

    Args:
        every: The time between two ticks, at least a second. The first one comes that long after the schedule is new.
        cron: Five fields, or six with the seconds first, as Debian's cron and `cronsim` read them.
        timezone: The IANA name of the time zone for `cron`, default: `settings.TIME_ZONE`.
        overlap: Whether a run begins while the one before it is not over, on any host; else that tick is left out.
        name: The name of the schedule, default: module and qualified name of the function.

    Raises:
        InvalidWorkItem: There is not exactly one of `every` and `cron`, or a value is of another type.
    """
    timing = _timing(every, cron, timezone)
    for option, value, kind in (("overlap", overlap, bool), ("name", name, str | None)):
        if not isinstance(value, kind):
            raise InvalidWorkItem(f"schedule() got {option}={value!r}: give a {option} of the right type")

    def declare(function: F) -> F:
        decorated = is_partial(type(function)) or isinstance(function, BackgroundMethod)
        if decorated or not callable(function):
            raise InvalidWorkItem(f"schedule() decorates functions, not {function!r}")
        declarations.add(Schedule(function, timing, overlap, name))
        return function

    return declare


def _timing(every: Any, cron: Any, timezone: Any) -> Timing:
    if (every is None) is (cron is None):
        raise InvalidWorkItem(
            f"schedule() got every={every!r} and cron={cron!r}: give one of them, as in "
            '@schedule(every=timedelta(minutes=10)) or @schedule(cron="0 3 * * *")'
        )
    if every is not None:
        if not isinstance(every, datetime.timedelta):
            raise InvalidWorkItem(f"schedule() got every={every!r}: give a datetime.timedelta")
        if timezone is not None:
            raise InvalidWorkItem(f"schedule() got timezone={timezone!r} with every=, which knows none: leave it out")
        return Every(every)
    if not isinstance(cron, str):
        raise InvalidWorkItem(f'schedule() got cron={cron!r}: give a str, as in cron="0 3 * * *"')
    if timezone is not None and not isinstance(timezone, str):
        raise InvalidWorkItem(f'schedule() got timezone={timezone!r}: give a name, as in timezone="Europe/Berlin"')
    return Cron(cron, timezone)


def _inner(function: Any) -> Any:
    """Return the function inside of our decorators."""
    while isinstance(function, FunctionWrapper):
        function = function.function
    return function
