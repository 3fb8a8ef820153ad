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
    GRANIAN_WSGI,
    GUNICORN_ASGI,
    GUNICORN_GEVENT,
    GUNICORN_GEVENT_PRELOAD,
    GUNICORN_GTHREAD,
    GUNICORN_GTHREAD_PRELOAD,
    GUNICORN_SYNC,
    GUNICORN_SYNC_PRELOAD,
    GUNICORN_UVICORN,
    GUNICORN_UVICORN_PRELOAD,
    HUP,
    HYPERCORN_0,
    HYPERCORN_1,
    HYPERCORN_2,
    INT,
    MOD_WSGI,
    QUIT,
    RUNSERVER,
    RUNSERVER_NORELOAD,
    TERM,
    TERM_WORKER,
    UVICORN,
    UVICORN_RELOAD,
    UVICORN_WORKERS,
    UWSGI,
    UWSGI_GRACEFUL,
    WAITRESS,
    Row,
)
from tests.processes.scenario import BUSY, ENDLESS_ITEMS, IDLE_CONTROL, Play, Theatre

pytestmark = pytest.mark.processes

AGAIN = 1.4
"""Seconds until the second signal: it counts as one after a second."""
LATE_AGAIN = AGAIN + 0.6
"""The same where the server may take half a second to tell its workers of the first one: they count from there."""
SLACK = 3.0


def rows(plays: tuple[Play, ...], *of: tuple[Any, Any] | Row) -> Any:
    """Parametrise a test with rows, and announce how it has them played."""
    made = [row if isinstance(row, Row) else Row(server=row[0], event=row[1]) for row in of]

    def decorate(test: Any) -> Any:
        test.plays = plays
        return pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in made])(test)

    return decorate


FORCED = Play(items=("endless_item", "stubborn_item"), again=((LATE_AGAIN, signal.SIGINT),), again_target="group")
STAYING_COMMAND = Row(server=COMMAND, event=CTRL_C, extra_options="--stay 60")


@rows(
    (FORCED, IDLE_CONTROL),
    (RUNSERVER, CTRL_C),
    (RUNSERVER_NORELOAD, CTRL_C),
    (RUNSERVER_NORELOAD, TERM),
    (GUNICORN_GTHREAD, CTRL_C),
    (UVICORN, INT),
    (UVICORN, TERM),
    *((server, event) for server in (UVICORN_WORKERS, UVICORN_RELOAD) for event in (CTRL_C, TERM)),
    STAYING_COMMAND,
    (GUNICORN_SYNC, TERM),
    (GUNICORN_GTHREAD, TERM),
    (GUNICORN_GEVENT, TERM),
    (GUNICORN_ASGI, TERM),
    (GUNICORN_UVICORN, TERM),
    # gunicorn sets its handlers after ours there.
    *(
        (server, event)
        for server in (GUNICORN_SYNC_PRELOAD, GUNICORN_GTHREAD_PRELOAD, GUNICORN_GEVENT_PRELOAD)
        for event in (CTRL_C, TERM)
    ),
    (GUNICORN_UVICORN_PRELOAD, TERM),
    (HYPERCORN_0, TERM),
    (HYPERCORN_0, INT),
    (DAPHNE, TERM),
    (DAPHNE, INT),
    Row(server=WAITRESS, event=TERM, status=0),
    (WAITRESS, INT),
    (CHEROOT, TERM),
    (CHEROOT, INT),
    (GRANIAN_ASGI, TERM),
    Row(server=COMMAND, event=TERM, status=143, extra_options="--stay 60"),
)
def test_second_ctrl_c_forces(row: Row, theatre: Theatre) -> None:
    """A Ctrl-C to the whole group, a second after the first sign, lets go of the items at once (F33).

    The exit status is that of the first signal without django_qbwi.
    """
    outcome = theatre.outcome(row, FORCED)
    if outcome.seconds >= LATE_AGAIN + SLACK:
        # What else is played meanwhile makes everything late, the signals too.
        with theatre.alone(row):
            outcome = theatre.once_more(row, FORCED)
    assert LATE_AGAIN < outcome.seconds < LATE_AGAIN + SLACK, outcome
    assert len(outcome.own_records("abandoned")) == 2, outcome
    control = theatre.outcome(row, IDLE_CONTROL)
    assert outcome.status == (control.status if row.status is None else row.status), outcome


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
    (UVICORN_WORKERS, TERM),
    (HYPERCORN_0, TERM),
    (HYPERCORN_1, TERM),
    (HYPERCORN_2, TERM),
    (DAPHNE, TERM),
    (CHEROOT, TERM),
    (GRANIAN_ASGI, TERM),
    (GRANIAN_WSGI, TERM),
    (UWSGI, TERM),
    (UWSGI_GRACEFUL, TERM),
    (MOD_WSGI, TERM_WORKER),
    Row(server=WAITRESS, event=TERM, status=0),
    Row(server=COMMAND, event=TERM, status=143, extra_options="--stay 60"),
)
def test_repeated_sigterm_does_not_force(row: Row, theatre: Theatre) -> None:
    """Masters repeat SIGTERM, and control groups send it to everyone: the items finish all the same (F33)."""
    outcome = theatre.outcome(row, TERMINATED_TWICE)
    assert len(outcome.own_records("succeeded")) == 2, outcome
    control = theatre.outcome(row, IDLE_CONTROL)
    assert outcome.status == (control.status if row.status is None else row.status), outcome


ANY_MOMENT = ("ready", "before", "after")
OVER_OURS = ("ready", "after")
"""Where a handler that is set before ours ends the process: it finds the default action, and goes on to that."""
HANDLERS: list[tuple[Row, tuple[str, ...]]] = [
    *(
        (Row(server=server, event=event), ANY_MOMENT)
        for server, event in (
            (GUNICORN_SYNC, TERM),
            (GUNICORN_GTHREAD, TERM),
            (GUNICORN_GTHREAD, QUIT),
            (GUNICORN_GEVENT, TERM),
            (GUNICORN_GEVENT, QUIT),
            (UVICORN, TERM),
            (UVICORN, INT),
            # daphne sets handlers of its own, but not over one of SIGINT; hypercorn and granian leave none in place.
            (DAPHNE, INT),
            (WAITRESS, INT),
            (CHEROOT, INT),
            (RUNSERVER_NORELOAD, CTRL_C),
            (RUNSERVER_NORELOAD, TERM),
        )
    ),
    (Row(server=WAITRESS, event=TERM, status=0), OVER_OURS),
    (Row(server=CHEROOT, event=TERM), OVER_OURS),
    (STAYING_COMMAND, ("ready",)),
]


def _with_handler(moment: str) -> tuple[Play, Play]:
    play = dataclasses.replace(BUSY, slow="", environ=(("QBWI_SITE_HANDLER", moment),))
    return play, dataclasses.replace(play, items=(), hosted=False)


@pytest.mark.parametrize(
    ("row", "plays"),
    [
        pytest.param(row, _with_handler(moment), id=f"{row.id}: {moment}")
        for row, moments in HANDLERS
        for moment in moments
    ],
)
def test_users_handler_runs_once(row: Row, plays: tuple[Play, Play], theatre: Theatre) -> None:
    """A user's handler, set before or after ours and chaining to what it found, runs once; so does ours (F51)."""
    outcome, alone = (theatre.outcome(row, play) for play in plays)
    assert len(_handled(alone)) == 1, alone
    assert _handled(outcome) == _handled(alone), outcome
    assert len(outcome.own_records("succeeded")) == 2, outcome
    assert outcome.status == (alone.status if row.status is None else row.status), outcome


@pytest.mark.parametrize(
    ("row", "plays"),
    [
        pytest.param(row, _with_handler(moment), id=f"{row.id}: {moment}")
        for row, moment in (
            (Row(server=WAITRESS, event=TERM), "before"),
            (Row(server=CHEROOT, event=TERM), "before"),
            (Row(server=COMMAND, event=TERM, extra_options="--stay 60"), "ready"),
        )
    ],
)
def test_users_handler_may_end_the_process(row: Row, plays: tuple[Play, Play], theatre: Theatre) -> None:
    """A user's handler below ours that goes on to the default action ends the process at once, as without us."""
    outcome, alone = (theatre.outcome(row, play) for play in plays)
    assert _handled(outcome) == _handled(alone) == ["SIGTERM"], outcome
    assert outcome.status == alone.status == -signal.SIGTERM, outcome
    assert outcome.seconds < SLACK, outcome
    assert not outcome.at("finished", "sync_item"), outcome


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
    """A request that is still served when the end has begun queues, and its item begins undisturbed (G45)."""
    outcome = theatre.outcome(row, LATE)
    assert outcome.slow == "done", outcome
    assert outcome.at("queued", "quick_item"), outcome
    started = [line for line in outcome.lines if line["event"] == "started" and line["name"] == "quick_item"]
    assert [line["cancelled"] for line in started] == [False], outcome
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
