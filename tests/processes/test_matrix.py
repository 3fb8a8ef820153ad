"""Each row of the matrix: what is promised for a server and an event, on the real server."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.processes.harness import Outcome, alien_lines
from tests.processes.matrix import ROWS, Row
from tests.processes.scenario import (
    BUSY,
    BUSY_CONTROL,
    ENDLESS_ITEMS,
    IDLE,
    IDLE_CONTROL,
    RESTED,
    SLOW_SECONDS,
    Play,
    Theatre,
)

pytestmark = pytest.mark.processes

LIMIT = 3.0
"""Seconds of a small SHUTDOWN_TIMEOUT."""
SLACK = 1.5 * float(os.environ.get("QBWI_SLACK", "1")) * (2 if sys.flags.dev_mode else 1)
"""Seconds that a process may take to end when nothing holds it: the interpreter's own work on a busy machine."""

CUT_OFF = f"""
[1970-01-01 00:00:00 -0000] [0] [ERROR] Error handling request GET /slow?seconds={SLOW_SECONDS}
Traceback (most recent call last):
SystemExit: 0
1970-01-01T00:00:00Z <greenlet.greenlet object at 0x0 (otid=0x0) current active started main> failed with SystemExit
"""
"""What gunicorn prints of a request that it cuts off, and gevent of a second exception there, requests or not."""

ENDLESS = Play(items=ENDLESS_ITEMS, settings=(("SHUTDOWN_TIMEOUT", LIMIT),))


def rows(*plays: Play, where: Callable[[Row], bool] = lambda row: True) -> Any:
    """Parametrise a test with the rows of the table, and announce how it has them played."""

    def decorate(test: Any) -> Any:
        test.plays = plays
        params = [pytest.param(row, id=row.id, marks=_marks(row)) for row in ROWS if where(row)]
        return pytest.mark.parametrize("row", params)(test)

    return decorate


def _marks(row: Row) -> list[Any]:
    marks = []
    if row.smoke:
        marks.append(pytest.mark.process_smoke)
    if row.fails is not None:
        marks.append(pytest.mark.xfail(reason=row.fails, strict=True))
    return marks


@rows(BUSY, BUSY_CONTROL)
def test_items_finish(row: Row, theatre: Theatre) -> None:
    """A sync and an async item that use the database to their last moment finish, and the process ends then."""
    _judge(row, BUSY, BUSY_CONTROL, _check_finish, _finished_late, theatre)


@rows(IDLE, IDLE_CONTROL, where=lambda row: row.fails is None)
def test_idle_process_ends_as_without_us(row: Row, theatre: Theatre) -> None:
    """With nothing queued the process ends as soon as without django_qbwi, and in the same way."""
    _check_no_delay(row, IDLE, theatre)


FIRST_ROWS = {row.server: row for row in reversed(ROWS) if row.fails is None}


@rows(RESTED, IDLE_CONTROL, where=lambda row: FIRST_ROWS.get(row.server) is row)
def test_process_at_rest_ends_as_without_us(row: Row, theatre: Theatre) -> None:
    """With items that have ended, and threads that wait for the next ones, it ends as soon, and in the same way."""
    _check_no_delay(row, RESTED, theatre)


def _check_no_delay(row: Row, how: Play, theatre: Theatre) -> None:
    outcome, control = theatre.outcome(row, how), theatre.outcome(row, IDLE_CONTROL)
    usual_statuses = row.either_status or (control.status,)
    assert outcome.status in usual_statuses, _story(f"status {outcome.status}, not {usual_statuses}", outcome)
    _check_stderr(row, outcome, control, IDLE_CONTROL, theatre)
    ours, usual = [outcome.seconds], [control.seconds]
    with contextlib.ExitStack() as stack:
        while min(ours) >= min(usual) + row.looks_every + 0.2 and len(ours) < 7:
            # Only a delay that is there each time is ours: what else runs on the machine slows both, now and then.
            if len(ours) == 3:
                stack.enter_context(theatre.alone(row))
            ours.append(theatre.once_more(row, how).seconds)
            usual.append(theatre.once_more(row, IDLE_CONTROL).seconds)
    assert min(ours) < min(usual) + row.looks_every + 0.2, _story(f"{ours}, without us {usual}", outcome)


@rows(ENDLESS, IDLE_CONTROL, where=lambda row: row.fails is None)
def test_endless_items_leave_at_the_limit(row: Row, theatre: Theatre) -> None:
    """Items that never end do not hold the process past the limit, and are named with their stacks."""
    _judge(row, ENDLESS, IDLE_CONTROL, _check_given_up, _left_late, theatre)


def _judge(
    row: Row,
    how: Play,
    without_us: Play,
    check: Callable[[Row, Outcome, Outcome, Theatre], None],
    lateness: Callable[[Row, Outcome, Outcome], str],
    theatre: Theatre,
) -> None:
    outcome, control = theatre.outcome(row, how), theatre.outcome(row, without_us)
    check(row, outcome, control, theatre)
    if lateness(row, outcome, control):
        # The other rows that are played meanwhile make everything late: without them it must be in time.
        with theatre.alone(row):
            outcome, control = theatre.once_more(row, how), theatre.once_more(row, without_us)
        check(row, outcome, control, theatre)
        late = lateness(row, outcome, control)
        assert not late, _story(late, outcome)


def _check_finish(row: Row, outcome: Outcome, control: Outcome, theatre: Theatre) -> None:
    for name in BUSY.items:
        assert outcome.at("finished", name), _story(f"{name} was lost", outcome)
    assert len(outcome.own_records("succeeded")) == 2, _story("records", outcome)
    _check_cancellation(row, outcome)
    _check_status(row, outcome, control)
    _check_stderr(row, outcome, control, BUSY_CONTROL, theatre)
    if row.server.is_command or not row.in_flight:
        return
    if row.requests == "have 5 s":
        assert control.slow != "done", _story("without us: done", control)
        assert outcome.slow == "done", _story(f"the request in flight: {outcome.slow}", outcome)
    elif row.requests == "finish":
        assert control.slow == "done", _story(f"without us: {control.slow}", control)
        assert outcome.slow == "done", _story(f"the request in flight: {outcome.slow}", outcome)
    elif row.requests == "are cut off":
        # Now and then such a request finishes, if the signal is noticed late: also without us.
        for _ in range(3):
            if control.slow != "done":
                return
            control = theatre.once_more(row, BUSY_CONTROL)
        assert control.slow != "done", _story("without us: done", control)


def _finished_late(row: Row, outcome: Outcome, control: Outcome) -> str:
    signs = outcome.signed_at + row.sign_after
    if row.cancelled_after_requests and row.in_flight:
        signs += SLOW_SECONDS
    for name in BUSY.items:
        for event in ("cancelled", "called back"):
            if row.cancelled_within is not None:
                after = outcome.at(event, name)[0] - signs
                if after >= row.cancelled_within + 0.1:
                    return f"{event} of {name} after {after:.2f} s"
    last = max(outcome.at("finished", name)[0] for name in BUSY.items)
    due = max(last, outcome.signed_at + max(SLOW_SECONDS, row.sign_after, control.seconds))
    return "late end" if outcome.ended_at - due >= SLACK else ""


def _check_given_up(row: Row, outcome: Outcome, control: Outcome, theatre: Theatre) -> None:
    assert outcome.seconds > LIMIT * 0.9 - 0.5, _story("too early", outcome)
    _check_status(row, outcome, control)
    given_up = "\n".join(outcome.own_records("abandoned"))
    for name in ENDLESS_ITEMS:
        # Those that wait for a thread may also end by their native cancellation, in the last moment.
        ends = [r for r in outcome.records if f"items.{name} status=" in r]
        assert len(ends) == 1, _story(f"{name} has {len(ends)} records", outcome)
    for name in ("endless_item", "stubborn_item"):
        assert f"{name} status=abandoned" in given_up, _story(f"{name} is not named", outcome)
    # Under gevent a sleeping thread shows its hub: the item's own frames are in a greenlet that is switched off.
    assert ("hub.py" if "gevent" in row.server.name else "time.sleep(600)") in given_up, _story("no stack", outcome)


def _left_late(row: Row, outcome: Outcome, control: Outcome) -> str:
    return "too late" if outcome.seconds >= max(row.sign_after + LIMIT, control.seconds) + SLACK else ""


def _check_cancellation(row: Row, outcome: Outcome) -> None:
    if row.cancelled_within is None:
        assert not any(outcome.at("cancelled", name) for name in BUSY.items), _story("cancelled", outcome)
        return
    for name in BUSY.items:
        for event in ("cancelled", "called back"):
            assert outcome.at(event, name), _story(f"no {event!r} of {name}", outcome)


def _check_status(row: Row, outcome: Outcome, control: Outcome) -> None:
    expected = row.either_status or (control.status if row.status is None else row.status,)
    assert outcome.status in expected, _story(f"status {outcome.status}, not {expected}", outcome)


def _check_stderr(row: Row, outcome: Outcome, control: Outcome, how: Play, theatre: Theatre) -> None:
    usual = control.stderr
    if row.server.name.startswith("gunicorn") and row.requests == "are cut off":
        # It is logged, or not, depending on whether a second SystemExit comes on the way out of the request.
        usual += CUT_OFF
    for _ in range(3):
        # Where signals come in pairs, what a server prints depends on which of its lines they hit.
        if not alien_lines(outcome.stderr, usual):
            return
        usual += theatre.once_more(row, how).stderr
    assert alien_lines(outcome.stderr, usual) == [], _story("stderr", outcome)


def _story(message: str, outcome: Outcome) -> str:
    start = outcome.signed_at
    lines = [
        f"{line['at'] - start:8.3f} {line['pid']} {line['event']} {line['name']}"
        + "".join(f" {key}={value}" for key, value in line.items() if key not in {"event", "name", "pid", "at"})
        for line in outcome.lines
    ]
    return "\n".join(
        [
            message,
            *lines,
            f"{outcome.seconds:8.3f} ended with status {outcome.status}; request in flight: {outcome.slow}",
            "--- records",
            *outcome.records,
            "--- stderr",
            outcome.stderr,
        ]
    )
