"""The view for readiness probes."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import RequestFactory, override_settings

from django_qbwi import NotHosted, hosting, queue_background_work_item
from django_qbwi.console import operations
from django_qbwi.executors.loop_thread import LoopExecutor
from django_qbwi.executors.threads import ThreadExecutor
from django_qbwi.views import readiness
from tests.support.strikes import kill

PATIENCE = 30


@pytest.fixture
def scheduler() -> Iterator[None]:
    """Give the test a scheduler of its own."""
    with override_settings(QBWI={}):
        yield


def probe(method: str = "get") -> HttpResponse:
    """Ask as a load balancer does."""
    return readiness(getattr(RequestFactory(), method)("/ready"))


def seen(response: HttpResponse) -> tuple[int, str]:
    """Return status and state."""
    return response.status_code, json.loads(response.content)["state"]


def test_open_process_is_ready(scheduler: None) -> None:
    """Also before its first item; the answer is not cached."""
    response = probe()
    assert seen(response) == (200, "open")
    assert "no-store" in response.headers["Cache-Control"]


def test_ending_process_is_not_ready(scheduler: None) -> None:
    """From the first sign of its end on."""
    hosting.this_process().current.coordinator.sign("a test")
    assert seen(probe()) == (503, "draining")


def test_drained_process_is_not_ready_until_it_is_empty(scheduler: None) -> None:
    """A drain that an operator asked for: requests go elsewhere meanwhile."""
    gate = threading.Event()

    def hold(token: Any) -> None:
        assert gate.wait(PATIENCE)

    handle = queue_background_work_item(hold)
    operations.drain(by="a test")
    during = seen(probe())
    gate.set()
    assert handle.wait(PATIENCE)
    assert (during, seen(probe())) == ((503, "draining"), (200, "open"))


def test_closed_process_is_not_ready(scheduler: None) -> None:
    """Its background work has ended."""
    hosting.scheduler().close()
    assert seen(probe()) == (503, "closed")


def test_wrong_settings_are_not_ready() -> None:
    """Nothing could be queued."""
    with override_settings(QBWI={"MAX_WORKERS": 0}):
        assert seen(probe()) == (503, "broken")


def test_process_that_cannot_run_items_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under eventlet, for instance."""

    def refuse() -> None:
        raise NotHosted("a test")

    monkeypatch.setattr(hosting, "this_process", refuse)
    assert seen(probe()) == (503, "broken")


def test_server_without_threads_is_not_ready(scheduler: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """uWSGI without enable-threads: every item is refused."""
    monkeypatch.setattr(hosting.this_process().current, "refusal", "no threads here")
    assert seen(probe()) == (503, "broken")


def test_process_without_a_free_thread_is_not_ready(scheduler: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """F56: too many sync items ignore their timeouts; what is queued would never start."""
    monkeypatch.setattr(ThreadExecutor, "is_stuck", True)
    assert seen(probe()) == (503, "broken")
    hosting.scheduler().close()
    assert seen(probe()) == (503, "closed")


def test_g5_process_whose_loop_stands_still_is_not_ready(scheduler: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """G5: an async item blocks the event loop for seconds; ready again when it goes on."""
    with monkeypatch.context() as patch:
        patch.setattr(LoopExecutor, "is_stuck", True)
        assert seen(probe()) == (503, "broken")
    assert seen(probe()) == (200, "open")


@pytest.mark.parametrize("name", ["keeper", "reporter"])
def test_g5_dead_service_is_started_again_by_the_probe(
    scheduler: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """G5: not ready while a service thread is dead and no thread can be had; the first probe that gets one is 200."""
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    handle = queue_background_work_item(lambda token: None)
    assert handle.wait(PATIENCE)
    service = getattr(hosting.this_process().current, name)
    found: list[threading.Thread] = []
    service.post(lambda: found.append(threading.current_thread()))
    assert service.flush(PATIENCE)
    kill(service._thread, found[0], service._mailbox.put, None)
    with monkeypatch.context() as patch:
        patch.setattr(service._thread, "_spawn", refuse_thread)
        assert seen(probe()) == (503, "broken")
    assert seen(probe()) == (200, "open")
    assert service.flush(PATIENCE)


def refuse_thread(*args: object) -> None:
    """Stand in for a system that gives no thread."""
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize(("method", "status"), [("head", 200), ("post", 405)])
def test_only_safe_methods_are_allowed(scheduler: None, method: str, status: int) -> None:
    """A probe changes nothing."""
    assert probe(method).status_code == status
