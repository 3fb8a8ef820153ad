"""The decorator, and what the system checks say of what was declared."""

from __future__ import annotations

import functools
from datetime import timedelta
from typing import Any

import pytest

from django_qbwi import InvalidWorkItem, background_work_item
from django_qbwi.contrib import schedules
from django_qbwi.contrib.schedules import checks, declared
from django_qbwi.contrib.schedules.declared import Declarations, Schedule
from django_qbwi.contrib.schedules.site import SiteSchedules
from tests.contrib.schedules import scheduled

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def declarations(monkeypatch: pytest.MonkeyPatch) -> Declarations:
    """Have a list of declarations for one test."""
    made = Declarations()
    monkeypatch.setattr(declared, "declarations", made)
    monkeypatch.setattr(checks, "declarations", made)
    return made


def problems(declarations: Declarations) -> list[str]:
    """Return what the checks say."""
    found = [str(message.msg) for message in checks.check_schedules(None)]
    assert found == declarations.sound()[1]
    return found


@pytest.mark.parametrize("function", [scheduled.plain, scheduled.decorated, scheduled.asynchronous])
def test_function_stays_what_it_is(declarations: Declarations, function: Any) -> None:
    """The decorator gives it back, and notes it under its name."""
    assert schedules.schedule(every=HOUR)(function) is function
    (found,), told = declarations.sound()
    assert (found.name, found.find(), told) == (f"{__package__}.scheduled.{function.__name__}", function, [])


def test_options_stand_above_or_below(declarations: Declarations, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is queued is what the module has in the end, with the options of `background_work_item`."""
    schedules.schedule(every=HOUR)(scheduled.plain)
    above = background_work_item(timeout=3)(scheduled.plain)
    monkeypatch.setattr(scheduled, "plain", above)
    assert declarations.sound()[0][0].find() is above


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "give one of them"),
        ({"every": HOUR, "cron": "* * * * *"}, "give one of them"),
        ({"every": 3600}, "every=3600"),
        ({"cron": 5}, "cron=5"),
        ({"every": HOUR, "timezone": "UTC"}, "timezone='UTC'"),
        ({"cron": "* * * * *", "timezone": 3}, "timezone=3"),
        ({"every": HOUR, "overlap": "no"}, "overlap='no'"),
        ({"every": HOUR, "name": 5}, "name=5"),
    ],
)
def test_wrong_use_is_refused_at_once(options: dict[str, Any], told: str) -> None:
    """The message names the value."""
    with pytest.raises(InvalidWorkItem) as refused:
        schedules.schedule(**options)
    assert told in str(refused.value)


@pytest.mark.parametrize("thing", [5, "shop.items.clean", functools.partial(scheduled.plain), scheduled.Thing.method])
def test_only_functions_are_decorated(thing: Any) -> None:
    """Anything else is refused at once, and named."""
    with pytest.raises(InvalidWorkItem, match="decorates functions"):
        schedules.schedule(every=HOUR)(thing)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"every": timedelta(0)}, "every=datetime.timedelta(0) is not between"),
        ({"cron": "0 25 * * *"}, "cron='0 25 * * *' does not say when: Bad hour"),
        ({"cron": "0 3 * * *", "timezone": "Mars/Base"}, "the time zone 'Mars/Base' is not known here"),
        ({"cron": "0,1" + ",1" * 200 + " 3 * * *"}, "is longer than 200 characters"),
        ({"every": HOUR, "name": ""}, "its name has 0 characters"),
        ({"every": HOUR, "name": "x" * 201}, "its name has 201 characters"),
    ],
)
def test_wrong_values_are_told_by_the_checks(declarations: Declarations, options: dict[str, Any], told: str) -> None:
    """The import goes on, and the schedule never runs."""
    schedules.schedule(**options)(scheduled.plain)
    (found,) = problems(declarations)
    assert told in found
    assert declarations.sound()[0] == []


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda token: None, "its module does not have it under its own name"),
        (scheduled.shadowed, "its module does not have it under its own name"),
        (scheduled.Thing().method, "its module does not have it under its own name"),
        (scheduled.wants_more, "what"),
        (scheduled.generates, "is a generator function"),
    ],
)
def test_functions_that_cannot_run_are_told_by_the_checks(declarations: Declarations, function: Any, told: str) -> None:
    """Nobody else would find them, or call them with a token alone."""
    schedules.schedule(every=HOUR, name="it")(function)
    (found,) = problems(declarations)
    assert found.startswith("The schedule 'it' never runs: ")
    assert told in found


def test_name_that_is_taken(declarations: Declarations) -> None:
    """Of two functions with one name, and of one function with two schedules, the first one runs."""
    schedules.schedule(every=HOUR, name="it")(scheduled.plain)
    schedules.schedule(every=HOUR, name="it")(scheduled.decorated)
    (found,) = problems(declarations)
    assert "scheduled.plain has a schedule of that name already" in found
    schedules.schedule(every=2 * HOUR, name="it")(scheduled.plain)
    assert len(problems(declarations)) == 2


def test_one_function_may_have_two_schedules(declarations: Declarations) -> None:
    """Under names of their own."""
    schedules.schedule(every=HOUR)(schedules.schedule(cron="0 3 * * *", name="at night")(scheduled.plain))
    assert [schedule.name for schedule in declarations.sound()[0]] == ["at night", f"{__package__}.scheduled.plain"]


def test_module_that_is_reloaded_declares_anew(declarations: Declarations, monkeypatch: pytest.MonkeyPatch) -> None:
    """The schedule of before is not there twice."""
    schedules.schedule(every=HOUR)(scheduled.plain)
    monkeypatch.setattr(scheduled, "plain", scheduled.plain)  # it is put back afterwards
    source = "def plain(token): ..."
    exec(compile(source, scheduled.__file__, "exec"), vars(scheduled))  # as a reload does
    schedules.schedule(every=2 * HOUR)(scheduled.plain)
    assert ([one.timing.text for one in declarations], problems(declarations)) == (["every 7200 s"], [])


def test_all_local_functions_are_told(declarations: Declarations) -> None:
    """Two lambdas have one name, and neither hides the other."""
    for _ in range(2):
        schedules.schedule(every=HOUR)(lambda token: None)
    assert len(problems(declarations)) == 2


def test_process_that_runs_no_checks_writes_it_once(
    declarations: Declarations, caplog: pytest.LogCaptureFixture
) -> None:
    """An ERROR for each, though it is looked at again and again."""
    schedules.schedule(every=timedelta(0))(scheduled.plain)
    site = SiteSchedules(declarations)
    assert (site.sound(), site.sound()) == ([], [])
    schedules.schedule(every=HOUR, name="later")(scheduled.decorated)
    assert [schedule.name for schedule in site.sound()] == ["later"]
    (record,) = caplog.records
    assert (record.levelname, "every=datetime.timedelta(0)" in record.getMessage()) == ("ERROR", True)


def test_repr_tells_what_it_is(declarations: Declarations) -> None:
    """The name and when."""
    schedules.schedule(every=HOUR, name="it")(scheduled.plain)
    assert (repr(declarations), repr(*declarations)) == ("<Declarations 1>", "<Schedule it every 3600 s>")
    assert isinstance(next(iter(declarations)), Schedule)
