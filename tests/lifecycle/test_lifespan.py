"""The lifespan: answered whatever happens, and held at its end without stopping the loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import pytest

from django_qbwi.core.admission import SchedulerState
from django_qbwi.lifecycle.drain import DrainCoordinator
from django_qbwi.lifecycle.lifespan import LifespanApplication
from tests.lifecycle.test_drain import Drain

COMPLETE = ["lifespan.startup.complete", "lifespan.shutdown.complete"]


class Server:
    """A server and the process around an application, which writes down what it hears."""

    def __init__(self, drain: Drain | None = None, at_most: float | None = None) -> None:
        self.drain = drain
        self.at_most = at_most
        self.begun = 0
        self.answers: list[str] = []
        self.passed_on: list[str] = []
        self.slept: list[float] = []
        self.application = LifespanApplication(
            self._serve, self, **({} if drain is None else {"clock": drain.clock, "sleep": self._sleep})
        )

    def serving_begins(self) -> None:
        self.begun += 1

    def serving_ends(self) -> tuple[DrainCoordinator | None, float | None]:
        if self.drain is None:
            return None, None
        self.drain.coordinator.sign("a test")
        return self.drain.coordinator, self.at_most

    def live(self) -> list[str]:
        """Let the application live from its startup to its shutdown, and return its answers."""
        messages = iter(["lifespan.startup", "lifespan.shutdown"])

        async def receive() -> Mapping[str, Any]:
            return {"type": next(messages)}

        async def send(message: Mapping[str, Any]) -> None:
            self.answers.append(message["type"])

        asyncio.run(self.application({"type": "lifespan"}, receive, send))
        return self.answers

    async def _sleep(self, seconds: float) -> None:
        assert self.drain is not None
        self.slept.append(seconds)
        # Each look at the drain is one second later.
        self.drain.advance(1.0)

    async def _serve(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        self.passed_on.append(scope["type"])


@pytest.fixture
def drain() -> Drain:
    """Return a scheduler with an item that runs."""
    drain = Drain()
    drain.running()
    return drain


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_connections_are_passed_on(kind: str) -> None:
    """Everything but the lifespan is the application's own."""
    server = Server()
    asyncio.run(server.application({"type": kind}, None, None))  # type: ignore[arg-type]
    assert server.passed_on == [kind]


def test_lifespan_is_answered() -> None:
    """The application behind, which knows none, does not see it; the begin is told once."""
    server = Server()
    assert (server.live(), server.passed_on, server.begun) == (COMPLETE, [], 1)


def test_nothing_to_wait_for_takes_no_time() -> None:
    """Without an item that was ever queued the end is answered at once."""
    server = Server(Drain())
    assert (server.live(), server.slept) == (COMPLETE, [])


def test_end_waits_for_the_items() -> None:
    """The loop goes on between two looks, the server's heart beats, and nothing is closed yet."""
    drain = Drain()
    item = drain.running()
    drain.at(4.0, lambda: drain.sync.finish(item))
    server = Server(drain)
    assert server.live() == COMPLETE
    assert len(server.slept) == drain.host.beats == 4
    assert drain.scheduler.state is SchedulerState.DRAINING


def test_end_is_answered_at_the_servers_own_limit(drain: Drain) -> None:
    """What goes on then is for the exit of the interpreter."""
    server = Server(drain, at_most=25.0)
    assert (server.live(), len(server.slept)) == (COMPLETE, 25)


def test_end_is_answered_at_the_limit_of_the_drain(drain: Drain) -> None:
    """88 of the 90 seconds: the last hook lets go."""
    server = Server(drain)
    assert (server.live(), len(server.slept)) == (COMPLETE, 88)


@pytest.mark.parametrize("moment", ["serving_begins", "serving_ends"])
def test_failure_is_logged_and_answered(
    moment: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A server starts and ends whatever we do wrong."""

    def fail() -> Any:
        raise ValueError("ours")

    server = Server()
    monkeypatch.setattr(server, moment, fail)
    assert server.live() == COMPLETE
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_repr_names_the_application() -> None:
    """The wrapper says what it stands before."""
    assert "_serve" in repr(Server().application)
