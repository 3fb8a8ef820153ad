"""Django's ASGI application with a lifespan, in the process-wide scheduler, and the check that suggests it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from asgiref.testing import ApplicationCommunicator
from django.core.checks import run_checks
from django.test import override_settings

from django_qbwi import CancelReason, NotHosted, checks, hosting, queue_background_work_item
from django_qbwi.asgi import get_asgi_application
from django_qbwi.lifecycle import servers

PATIENCE = 30
T = TypeVar("T")


@pytest.fixture
def here(outside_of_tests: None) -> Iterator[hosting.Process]:
    """Return the state of this process, which is taken for no server again afterwards."""
    here = hosting.this_process()
    host = here.host
    yield here
    here._set_host(host)


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    # Not by asyncio.run(), which sets a handler of SIGINT that ours then stands before.
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        return loop.run_until_complete(coroutine)


async def _talk(communicator: ApplicationCommunicator, event: str) -> str:
    await communicator.send_input({"type": f"lifespan.{event}"})
    answer: dict[str, Any] = await communicator.receive_output(PATIENCE)
    return str(answer["type"])


def test_startup_looks_at_the_server(here: hosting.Process) -> None:
    """As the first request does: from then on the process is a server's."""

    async def start() -> str:
        communicator = ApplicationCommunicator(get_asgi_application(), {"type": "lifespan"})
        answer = await _talk(communicator, "startup")
        communicator.stop()
        return answer

    assert not here.host.is_server
    assert _run(start()) == "lifespan.startup.complete"
    assert here.host.is_server


def test_shutdown_cancels_and_waits(here: hosting.Process) -> None:
    """It is the first sign, if there was none, and is answered when the items have ended; the loop goes on."""
    ended: list[CancelReason | None] = []
    begun, gate = threading.Event(), threading.Event()

    def work(token: Any) -> None:
        # One that begins behind the first sign would be spared for a while.
        begun.set()
        assert token.wait(PATIENCE)
        assert gate.wait(PATIENCE)
        ended.append(token.reason)

    async def live() -> tuple[str, int]:
        communicator = ApplicationCommunicator(get_asgi_application(), {"type": "lifespan"})
        await _talk(communicator, "startup")
        queue_background_work_item(work)
        assert begun.wait(PATIENCE)
        answer = asyncio.ensure_future(_talk(communicator, "shutdown"))
        while not here.current.coordinator.signed:
            await asyncio.sleep(0)
        before = len(ended)
        gate.set()
        return await answer, before

    assert _run(live()) == ("lifespan.shutdown.complete", 0)
    assert ended == [CancelReason.SHUTDOWN]


def test_shutdown_after_a_sign_is_none(here: hosting.Process) -> None:
    """The clock of the first sign goes on."""

    async def live() -> str:
        communicator = ApplicationCommunicator(get_asgi_application(), {"type": "lifespan"})
        await _talk(communicator, "startup")
        return await _talk(communicator, "shutdown")

    queue_background_work_item(lambda token: None).wait(PATIENCE)
    here.current.coordinator.sign("a test", at_most=10.0)
    deadline = here.current.scheduler.stop.deadline
    assert _run(live()) == "lifespan.shutdown.complete"
    assert here.current.scheduler.stop.deadline == deadline


def test_site_without_the_app_starts_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told so when it queues."""

    def refuse() -> hosting.Process:
        raise NotHosted("not installed")

    async def live() -> list[str]:
        communicator = ApplicationCommunicator(get_asgi_application(), {"type": "lifespan"})
        return [await _talk(communicator, event) for event in ("startup", "shutdown")]

    monkeypatch.setattr(hosting, "this_process", refuse)
    assert _run(live()) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


# The check.

PLAIN = "from django.core.asgi import get_asgi_application\napplication = get_asgi_application()\n"
WRAPPED = "from django_qbwi.asgi import get_asgi_application\napplication = get_asgi_application()\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of the asgi.py of a project that can be imported, and is not."""
    package = tmp_path / "suggested_project"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.startswith("suggested_project")]:
        monkeypatch.delitem(sys.modules, name)
    return package / "asgi.py"


def _found(name: str | None = "suggested_project.asgi.application") -> list[str]:
    with override_settings(ASGI_APPLICATION=name):
        return [str(message.id) for message in checks.check_lifespan(None)]


@pytest.mark.parametrize(
    "source",
    [
        PLAIN,
        "from django.core import asgi\napplication = asgi.get_asgi_application()\n",
        "import django.core.asgi\napplication = django.core.asgi.get_asgi_application()\n",
    ],
)
def test_check_suggests_the_lifespan(project: Path, source: str) -> None:
    """qbwi.W004: the site says that it runs under ASGI, with Django's own application; nothing is imported for it."""
    project.write_text(source)
    assert _found() == ["qbwi.W004"]
    assert "suggested_project.asgi" not in sys.modules


def test_check_is_registered(project: Path) -> None:
    """`manage.py check` shows it."""
    project.write_text(PLAIN)
    with override_settings(ASGI_APPLICATION="suggested_project.asgi.application"):
        assert "qbwi.W004" in [message.id for message in run_checks()]


@pytest.mark.parametrize(
    "source",
    [
        WRAPPED,
        PLAIN + "import django_qbwi.asgi\n",
        "from channels.routing import ProtocolTypeRouter\n" + PLAIN,
        "application = print\n",
        "this is no Python\n",
        "\0",
    ],
)
def test_check_is_silent_where_it_is_not_certain(project: Path, source: str) -> None:
    """The application is ours already, is routed by another one, is somebody's own, or cannot be read."""
    project.write_text(source)
    assert _found() == []


@pytest.mark.parametrize(
    "name", [None, "application", "suggested_project.absent.application", "absent.asgi.application"]
)
def test_check_is_silent_without_a_module(project: Path, name: str | None) -> None:
    """A site that names no ASGI application is a WSGI site; a wrong name is for others to tell."""
    assert _found(name) == []


def test_check_is_silent_under_daphne(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """daphne speaks no lifespan."""
    project.write_text(PLAIN)
    monkeypatch.setattr(checks, "_may_speak_lifespan", lambda: servers.speaks_lifespan(["shop", "daphne"]))
    assert _found() == []
