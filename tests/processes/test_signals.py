"""More than one signal, handlers and hooks of the user's own, requests that queue while the process ends."""

from __future__ import annotations

import dataclasses
import signal
from typing import Any

import pytest

from tests.processes.harness import Outcome
from tests.processes.matrix import (
    CHEROOT,
    COMMAND,
    CTRL_C,
    DAPHNE,
    GRANIAN_ASGI,
    GUNICORN_ASGI,
    GUNICORN_GEVENT,
    GUNICORN_GTHREAD,
    GUNICORN_GTHREAD_PRELOAD,
    GUNICORN_SYNC,
    GUNICORN_UVICORN,
    HUP,
    HYPERCORN_0,
    INT,
    QUIT,
    RUNSERVER,
    RUNSERVER_NORELOAD,
    TERM,
    TERM_WORKER,
    UVICORN,
    WAITRESS,
    Row,
)
from tests.processes.scenario import BUSY, ENDLESS_ITEMS, IDLE_CONTROL, Play, Theatre

pytestmark = pytest.mark.processes

AGAIN = 1.4
"""Seconds until the second signal: it counts as one after a second."""
SLACK = 3.0


def rows(plays: tuple[Play, ...], *of: tuple[Any, Any] | Row) -> Any:
    """Parametrise a test with rows, and announce how it has them played."""
    made = [row if isinstance(row, Row) else Row(server=row[0], event=row[1]) for row in of]

    def decorate(test: Any) -> Any:
        test.plays = plays
        return pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in made])(test)

    return decorate


FORCED = Play(items=("endless_item", "stubborn_item"), again=((AGAIN, signal.SIGINT),), again_target="group")
STAYING_COMMAND = Row(server=COMMAND, event=CTRL_C, extra_options="--stay 60")


@rows(
    (FORCED,),
    (RUNSERVER, CTRL_C),
    (RUNSERVER_NORELOAD, CTRL_C),
    (GUNICORN_GTHREAD, CTRL_C),
    (UVICORN, INT),
    (UVICORN, TERM),
    STAYING_COMMAND,
    (GUNICORN_SYNC, TERM),
    (GUNICORN_GTHREAD, TERM),
    (GUNICORN_GEVENT, TERM),
    (GUNICORN_ASGI, TERM),
    (GUNICORN_UVICORN, TERM),
    (HYPERCORN_0, TERM),
    (DAPHNE, TERM),
    (WAITRESS, TERM),
    (CHEROOT, INT),
    (GRANIAN_ASGI, TERM),
    Row(server=COMMAND, event=TERM, extra_options="--stay 60"),
)
def test_second_ctrl_c_forces(row: Row, theatre: Theatre) -> None:
    """A Ctrl-C to the whole group, a second after the first sign, lets go of the items at once (F33)."""
    outcome = theatre.outcome(row, FORCED)
    assert AGAIN < outcome.seconds < AGAIN + SLACK, outcome
    assert len(outcome.own_records("abandoned")) == 2, outcome


TERMINATED_TWICE = dataclasses.replace(
    BUSY, slow="", again=((AGAIN, signal.SIGTERM),), again_target="worker", seconds=AGAIN + 1.5
)


@rows(
    (TERMINATED_TWICE, IDLE_CONTROL),
    (RUNSERVER_NORELOAD, TERM),
    (GUNICORN_SYNC, TERM),
    (GUNICORN_GTHREAD, TERM_WORKER),
    (GUNICORN_GTHREAD, HUP),
    (GUNICORN_GTHREAD_PRELOAD, TERM),
    (UVICORN, TERM),
    (GUNICORN_GEVENT, TERM),
    (GUNICORN_UVICORN, TERM),
    (GUNICORN_ASGI, HUP),
    (HYPERCORN_0, TERM),
    (DAPHNE, TERM),
    (CHEROOT, TERM),
    (GRANIAN_ASGI, TERM),
    Row(server=WAITRESS, event=TERM, status=0),
    Row(server=COMMAND, event=TERM, status=143, extra_options="--stay 60"),
)
def test_repeated_sigterm_does_not_force(row: Row, theatre: Theatre) -> None:
    """Masters repeat SIGTERM, and control groups send it to everyone: the items finish all the same (F33)."""
    outcome = theatre.outcome(row, TERMINATED_TWICE)
    assert len(outcome.own_records("succeeded")) == 2, outcome
    control = theatre.outcome(row, IDLE_CONTROL)
    assert outcome.status == (control.status if row.status is None else row.status), outcome


@pytest.mark.parametrize("moment", ["ready", "before", "after"])
@pytest.mark.parametrize(
    "row",
    [
        pytest.param(Row(server=server, event=event), id=f"{server.name}: {event.name}")
        for server, event in [
            (GUNICORN_SYNC, TERM),
            (GUNICORN_GTHREAD, TERM),
            (GUNICORN_GTHREAD, QUIT),
            (UVICORN, TERM),
            (UVICORN, INT),
        ]
    ],
)
def test_users_handler_runs_once(row: Row, moment: str, theatre: Theatre) -> None:
    """A user's handler, set before or after ours and chaining to what it found, runs once; so does ours (F51)."""
    play = dataclasses.replace(BUSY, environ=(("QBWI_SITE_HANDLER", moment),))
    control = dataclasses.replace(play, items=(), hosted=False)
    outcome, alone = theatre.outcome(row, play), theatre.outcome(row, control)
    assert _handled(outcome) == _handled(alone), outcome
    assert len(outcome.own_records("succeeded")) == 2, outcome
    assert outcome.status == alone.status, outcome


@rows((BUSY,), (GUNICORN_SYNC, INT), (GUNICORN_GTHREAD, QUIT), (GUNICORN_GTHREAD, TERM))
def test_gunicorns_hooks_run(row: Row, theatre: Theatre) -> None:
    """worker_int and worker_exit of the user's configuration are called as ever, before the wait."""
    outcome = theatre.outcome(row, BUSY)
    assert len(outcome.at("hook", "worker_exit")) == 1, outcome
    assert len(outcome.at("hook", "worker_int")) == (0 if row.event is TERM else 1), outcome
    assert outcome.at("hook", "worker_exit") < outcome.at("finished", "sync_item"), outcome


LATE = dataclasses.replace(BUSY, slow="seconds=1&item=quick_item")
LATE_REFUSED = dataclasses.replace(LATE, settings=(("ACCEPT_WHILE_DRAINING", False),))


@rows((LATE,), (GUNICORN_GTHREAD, TERM), (GUNICORN_SYNC, TERM), (UVICORN, TERM))
def test_request_in_flight_may_queue(row: Row, theatre: Theatre) -> None:
    """A request that is still served when the end has begun queues, and its item runs with a cancelled token."""
    outcome = theatre.outcome(row, LATE)
    assert outcome.slow == "done", outcome
    assert outcome.at("queued", "quick_item"), outcome
    assert len(outcome.own_records("succeeded")) == 3, outcome


@rows((LATE_REFUSED,), (GUNICORN_GTHREAD, TERM), (UVICORN, TERM))
def test_request_in_flight_is_refused(row: Row, theatre: Theatre) -> None:
    """With ACCEPT_WHILE_DRAINING = False queueing is refused from the first sign on."""
    outcome = theatre.outcome(row, LATE_REFUSED)
    rejected = [line for line in outcome.lines if line["event"] == "rejected"]
    assert [line["error"] for line in rejected] == ["SchedulerDraining"], outcome
    assert len(outcome.own_records("succeeded")) == 2, outcome


GRACEFUL = Play(items=ENDLESS_ITEMS, options="--graceful-timeout 4")


@rows((GRACEFUL, IDLE_CONTROL), (GUNICORN_SYNC, TERM), (GUNICORN_GTHREAD, TERM), (GUNICORN_GTHREAD, QUIT))
def test_gunicorns_limit_counts(row: Row, theatre: Theatre) -> None:
    """The records of what is given up are out before gunicorn's SIGKILL at --graceful-timeout."""
    outcome = theatre.outcome(row, GRACEFUL)
    assert 3.0 < outcome.seconds < 4.0 + SLACK, outcome
    assert any("endless_item status=abandoned" in record for record in outcome.own_records("abandoned")), outcome
    assert any("Drained" in record for record in outcome.records), outcome
    assert any("--graceful-timeout 90" in record for record in outcome.records), outcome


UNHANDLED = dataclasses.replace(BUSY, slow="", settings=(("HANDLE_SIGNALS", False),))


@rows((UNHANDLED,), (GUNICORN_SYNC, TERM), (GUNICORN_GTHREAD, TERM), (UVICORN, INT))
def test_without_handlers_of_ours(row: Row, theatre: Theatre) -> None:
    """With HANDLE_SIGNALS = False the exit is still held, by the server's own hooks and the interpreter's."""
    outcome = theatre.outcome(row, UNHANDLED)
    assert len(outcome.own_records("succeeded")) == 2, outcome


def _handled(outcome: Outcome) -> list[str]:
    return [line["name"] for line in outcome.lines if line["event"] == "user's handler"]
