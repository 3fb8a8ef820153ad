"""The view that tells how far an item is, to whoever has its signed id."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
from django.core import signing
from django.core.exceptions import ImproperlyConfigured
from django.test import AsyncClient, Client, override_settings
from django.urls import reverse

from django_qbwi import (
    NotHosted,
    ProcessUnreachable,
    WorkItemHandle,
    hosting,
    queue_background_work_item,
    views,
)
from django_qbwi.console import following, operations
from django_qbwi.console.results import FoundItem
from django_qbwi.core.exceptions import InspectionError, WorkItemNotFound
from django_qbwi.inspection.publisher import answer
from tests.support.gates import PATIENCE, Gate

pytestmark = pytest.mark.urls("tests.progress.urls")

ELSEWHERE = 4711
"""The pid of another process."""


def address(signed: str, name: str = "progress") -> str:
    """Return where to ask."""
    return reverse(name, args=[signed])


def ask(signed: str, name: str = "progress") -> tuple[int, dict[str, Any]]:
    """Ask as a browser does; return status and JSON."""
    response = Client().get(address(signed, name))
    return response.status_code, response.json()


def signed_for(item_id: str, pid: int | None = ELSEWHERE) -> str:
    """Return the signed id of an item of another process."""
    with mock.patch.object(signing, "dumps", wraps=signing.dumps) as dumps:
        views.signed_id(item_id)
    return signing.dumps([item_id, pid], salt=dumps.call_args.kwargs["salt"])


@pytest.fixture
def told(reporting: WorkItemHandle) -> Any:
    """Return what a process tells another of the item, behind the channel."""
    request = {"operation": "find", "id": reporting.id, "stack": False}
    return json.loads(json.dumps(answer(hosting.this_process().subject, request, 10, "a test")))


@pytest.fixture
def registered() -> Iterator[None]:
    """Have a registry of all hosts, whatever it is."""
    with mock.patch.object(hosting, "registry", return_value=object()):
        yield


def test_running_item(reporting: WorkItemHandle) -> None:
    """Its status and what it has reported, and nothing else of it."""
    assert reporting.progress is not None
    report = {"done": 21, "total": 50, "fraction": 0.42, "percent": 42, "text": "page 21"}
    expected = {
        "status": "running",
        "ended": False,
        "progress": {**report, "at": reporting.progress.at.isoformat()},
    }
    assert ask(views.signed_id(reporting)) == (200, expected)


@pytest.mark.parametrize("of", [lambda handle: handle, lambda handle: handle.info, lambda handle: handle.id])
def test_a_handle_an_info_and_an_id_can_be_signed(reporting: WorkItemHandle, of: Callable[[Any], Any]) -> None:
    """Whichever the site has at hand."""
    assert ask(views.signed_id(of(reporting)))[0] == 200


@pytest.mark.parametrize("value", [None, 5, b"id", [], object()])
def test_anything_else_cannot_be_signed(value: Any) -> None:
    """The message says what can."""
    with pytest.raises(TypeError, match="takes the handle of a work item, its info or its id, not a "):
        views.signed_id(value)


def test_ended_item(reporting: WorkItemHandle, gate: Gate) -> None:
    """It is told that nothing follows; the last report stays."""
    gate.open()
    assert reporting.wait(PATIENCE)
    status, found = ask(views.signed_id(reporting))
    assert (status, found["status"], found["ended"], found["progress"]["done"]) == (200, "succeeded", True, 21)


def test_nothing_of_a_failure_is_told() -> None:
    """No name, no message, no traceback: whoever has the link sees status and progress."""

    def fail(token: Any) -> None:
        raise ValueError("a secret")

    with override_settings(QBWI={}):
        handle = queue_background_work_item(fail, name="a secret")
        assert handle.wait(PATIENCE)
        assert ask(views.signed_id(handle)) == (200, {"status": "failed", "ended": True, "progress": None})


def test_answer_is_never_cached(reporting: WorkItemHandle) -> None:
    """Neither one that says something, nor a refusal."""
    for signed in (views.signed_id(reporting), "forged"):
        assert "no-store" in Client().get(address(signed)).headers["Cache-Control"]


@pytest.mark.parametrize(("method", "status"), [("get", 200), ("head", 200), ("post", 405), ("delete", 405)])
def test_only_safe_methods(reporting: WorkItemHandle, method: str, status: int) -> None:
    """It changes nothing."""
    response = getattr(Client(), method)(address(views.signed_id(reporting)))
    assert response.status_code == status


def test_under_asgi(reporting: WorkItemHandle) -> None:
    """It is answered there as well, in a thread of Django's."""

    async def ask_there() -> Any:
        return await AsyncClient().get(address(views.signed_id(reporting)))

    response = asyncio.run(ask_there())
    assert (response.status_code, response.json()["progress"]["percent"]) == (200, 42)


# Who may ask.


@pytest.mark.parametrize(
    "change",
    [
        lambda signed: "forged",
        lambda signed: signed[:-1],
        lambda signed: signed + "x",
        lambda signed: signed.swapcase(),
        lambda signed: f"x{signed}",
        lambda signed: signed.partition(":")[0],
        lambda signed: ":::",
        lambda signed: "\u202e\ud7ff\x00",
        lambda signed: "x" * 5_000,
        lambda signed: signing.dumps(["an id", None]),
        lambda signed: signing.dumps(["an id", None], salt="another purpose"),
    ],
)
def test_forged_address(reporting: WorkItemHandle, change: Callable[[str], str]) -> None:
    """403, and nobody is asked; a signature for another purpose is none."""
    status, found = ask(change(views.signed_id(reporting)))
    assert (status, found["error"]) == (403, "bad_signature")
    assert reporting.id not in json.dumps(found)


def test_the_plain_id_opens_nothing(reporting: WorkItemHandle) -> None:
    """It has to be signed."""
    assert ask(reporting.id)[0] == 403


def test_address_grows_old(reporting: WorkItemHandle) -> None:
    """After a day, or as the URLconf says; 403 with a reason of its own."""
    signed = views.signed_id(reporting)
    now = time.time()
    for name, age in (("progress", following.MAX_AGE), ("short", 60)):
        with mock.patch.object(time, "time", lambda age=age: now + age - 2):
            assert ask(signed, name)[0] == 200
        with mock.patch.object(time, "time", lambda age=age: now + age + 2):
            status, found = ask(signed, name)
        assert (status, found["error"]) == (403, "expired")


def test_keys_can_be_rotated(reporting: WorkItemHandle) -> None:
    """An address that was made with the key before is good as long as that is among the fallbacks."""
    with override_settings(SECRET_KEY="the key before"):
        signed = views.signed_id(reporting)
    assert ask(signed)[0] == 403
    with override_settings(SECRET_KEY_FALLBACKS=["the key before"]):
        assert ask(signed)[0] == 200


# Items of other processes.


def test_item_of_another_process(told: Any, others: Any) -> None:
    """The process that the address names is asked, and no other; without the stack."""
    asked = others({**told, "item": {**told["item"], "id": "elsewhere"}})
    status, found = ask(signed_for("elsewhere"))
    assert (status, found["progress"]["percent"]) == (200, 42)
    assert asked == [({"operation": "find", "id": "elsewhere", "stack": False}, {ELSEWHERE})]
    assert told["stack"] is None


def test_all_are_asked_for_an_id_alone(told: Any, others: Any) -> None:
    """Of which nobody knows where it is."""
    asked = others(None, told)
    assert ask(views.signed_id("elsewhere"))[0] == 200
    assert [pids for _, pids in asked] == [None]


def test_item_of_this_process_needs_nobody_else(reporting: WorkItemHandle, others: Any) -> None:
    """Nobody is asked, so that nothing is waited for."""
    asked = others(InspectionError("no"))
    assert [ask(views.signed_id(reporting))[0], ask(views.signed_id(reporting.id))[0]] == [200, 200]
    assert asked == []


def test_process_of_an_older_version(told: Any, others: Any) -> None:
    """It tells the status, and no progress."""
    del told["item"]["progress"]
    others(told)
    assert ask(signed_for("elsewhere")) == (200, {"status": "running", "ended": False, "progress": None})


@pytest.mark.parametrize(
    ("answers", "gaps", "expected"),
    [
        ((), {}, (404, "not_found")),
        ((None,), {}, (404, "not_found")),
        ((), {"unresponsive": [ELSEWHERE]}, (503, "no_answer")),
        ((), {"refused": [ELSEWHERE]}, (503, "no_answer")),
        (({"item": {"id": 5}},), {}, (503, "no_answer")),
        (("text",), {}, (503, "no_answer")),
        ((InspectionError("off"),), {}, (503, "not_asked")),
        ((ImproperlyConfigured("QBWI"),), {}, (503, "not_asked")),
        ((OSError("no files"),), {}, (503, "no_answer")),
        ((RuntimeError("strange"),), {}, (503, "no_answer")),
        ((ProcessUnreachable("strange"),), {}, (503, "not_asked")),
    ],
)
def test_item_that_is_not_found(others: Any, answers: Any, gaps: Any, expected: tuple[int, str]) -> None:
    """Whether it is gone for certain, or may be known to somebody who said nothing, or was not asked."""
    others(*answers, **gaps)
    response = Client().get(address(signed_for("elsewhere")))
    assert (response.status_code, response.json()["error"]) == expected
    assert ("Retry-After" in response.headers) == (response.status_code == 503)
    assert str(ELSEWHERE) not in response.text


def test_forgotten_item_of_this_process(others: Any) -> None:
    """Nobody else can know it."""
    asked = others(InspectionError("no"))
    assert ask(signed_for("gone", hosting.this_process().pid))[0] == 404
    assert asked == []


def test_inspection_is_off() -> None:
    """An item of this process is told of all the same, one of another is not: 503, for the next request may find it."""
    with override_settings(QBWI={"INSPECTION": False}):
        handle = queue_background_work_item(lambda token: None)
        assert handle.wait(PATIENCE)
        assert ask(views.signed_id(handle))[0] == 200
        with mock.patch.object(type(hosting.this_process().host), "opens_channel", True):
            status, found = ask(signed_for("elsewhere"))
    assert (status, found["error"]) == (503, "not_asked")
    assert 'QBWI["INSPECTION"]' in found["detail"]


def test_wrong_settings() -> None:
    """503, as for the probe."""
    with (
        mock.patch.object(type(hosting.this_process().host), "opens_channel", True),
        override_settings(QBWI={"MAX_WORKERS": 0}),
    ):
        assert ask(signed_for("elsewhere"))[0] == 503


def test_process_that_hosts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under eventlet, for instance."""
    monkeypatch.setattr(hosting, "this_process", mock.Mock(side_effect=NotHosted("a test")))
    assert ask(signed_for("elsewhere"))[0] == 503


def test_item_of_another_host(told: Any, others: Any, registered: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is a registry of all hosts it is looked for there too; what that says is certain or not."""
    others()
    monkeypatch.setattr(operations, "find", lambda item_id: FoundItem(**told))
    assert ask(signed_for("elsewhere"))[0] == 200
    for is_certain, status in ((True, 404), (False, 503)):
        error = WorkItemNotFound("no")
        error.is_certain = is_certain
        monkeypatch.setattr(operations, "find", mock.Mock(side_effect=error))
        assert ask(signed_for("elsewhere"))[0] == status


def test_older_clients_get_the_stack(reporting: WorkItemHandle) -> None:
    """A request that does not say otherwise is answered as before."""
    subject = hosting.this_process().subject
    assert answer(subject, {"operation": "find", "id": reporting.id}, 10, "a test")["stack"]
    assert answer(subject, {"operation": "find", "id": reporting.id, "stack": "no"}, 10, "a test")["stack"]
