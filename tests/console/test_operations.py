"""What an operator does, from inside a process: this one by a call, the others over the channel."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import override_settings

from django_qbwi import CancelReason, WorkItemHandle, WorkItemNotFound, hosting, queue_background_work_item
from django_qbwi.console import operations
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.hosting import asking
from django_qbwi.inspection.places import AbstractPlace
from django_qbwi.inspection.reader import Answers
from django_qbwi.inspection.subject import Subject
from django_qbwi.lifecycle.servers import CommandHost, ServerHost

PATIENCE = 30


@pytest.fixture
def gate() -> threading.Event:
    """Return what ends the held item."""
    return threading.Event()


@pytest.fixture
def held(gate: threading.Event) -> Iterator[WorkItemHandle]:
    """Return an item of this process that runs until the end of the test."""
    entered = threading.Event()

    def hold(token: Any) -> None:
        entered.set()
        # Let go by the plugin too, which cancels what a test has left before the fixtures are torn down.
        with token.register(lambda: token.reason is CancelReason.REQUESTED and gate.set()):
            assert gate.wait(PATIENCE)

    with override_settings(QBWI={}):
        handle = queue_background_work_item(hold, name="held")
        assert entered.wait(PATIENCE)
        yield handle
        gate.set()
        assert handle.wait(PATIENCE)


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, Any]]]:
    """Return a function that sets what other processes answer, and gives the list of what they are asked."""

    def answer(*answers: Any, unresponsive: tuple[int, ...] = (), refused: tuple[int, ...] = ()) -> list[Any]:
        asked: list[dict[str, Any]] = []

        def ask(place: Any, sites: Any, request: dict[str, Any], **options: Any) -> Answers:
            asked.append({**request, **options})
            return Answers(answers=list(answers), unresponsive=list(unresponsive), refused=list(refused))

        monkeypatch.setattr(asking, "ask", ask)
        monkeypatch.setattr(hosting.this_process(), "host", ServerHost())
        return asked

    return answer


def other_process(pid: int = 1) -> dict[str, Any]:
    """Return what an idle process says of itself."""
    return {**Subject(lambda: "gunicorn", lambda: None).overview(), "pid": pid}


def entry(item_id: str = "a") -> dict[str, Any]:
    """Return an item of another process with its stack."""
    now = "2026-01-01T00:00:00+00:00"
    item = {
        "attempt": 1,
        "priority": 0,
        **dict.fromkeys(
            ("started_at", "finished_at", "due_at", "expires_at", "timeout", "cancel_reason", "error", "origin"), None
        ),
        **dict.fromkeys(("request_id", "thread", "progress"), None),
        "id": item_id,
        "name": "n",
        "kind": "sync",
        "status": "running",
        "queued_at": now,
        "held": False,
        "pool": "default",
        "labels": {},
        "overdue": False,
        "pid": 1,
    }
    process = {"pid": 1, "host": "h", "server": "s", "state": "open", "age": None}
    return {"process": process, "item": item, "stack": "  here\n", "log": [], "trace_id": None}


def test_overview_has_the_schema_of_the_contract(held: WorkItemHandle) -> None:
    """The keys are those that the documentation promises, and all of it is JSON."""
    found = json.loads(json.dumps(operations.overview().to_dict()))
    (record,) = found.pop("processes")
    assert "ROOT_URLCONF tests.urls" in found.pop("site")
    assert found == {
        "schema": 1,
        "answered": 1,
        "other_sites": {"count": 0, "pids": []},
        "unresponsive": [],
        "refused": [],
        "strangers": [],
        "scope": "process",
        "problem": None,
        "registry": None,
        "stale": [],
        "truncated": False,
    }
    assert record.keys() >= {"pid", "host", "server", "started_at", "state", "running", "queued", "finished", "failed"}
    assert record["limits"]["max_workers"] == 4
    assert [item["id"] for item in record["items"]] == [held.id]


def test_other_processes_are_not_asked_under_test(held: WorkItemHandle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes of a parallel test run are one site; they must not see each other's items."""
    monkeypatch.setattr(asking, "ask", lambda *args, **options: pytest.fail("asked"))
    assert operations.overview().to_dict()["scope"] == "process"


def test_no_channel_is_opened_under_test(held: WorkItemHandle) -> None:
    """No listener stays behind a test."""
    assert hosting.this_process().visibility.publisher is None


def test_this_process_and_the_others_are_shown(held: WorkItemHandle, others: Callable[..., Any]) -> None:
    """By pid, this one without asking itself."""
    others((1, other_process()), unresponsive=(7,), refused=(8,))
    found = operations.overview().to_dict()
    assert [record["pid"] for record in found["processes"]] == [1, os.getpid()]
    assert (found["scope"], found["answered"], found["unresponsive"], found["refused"]) == ("machine", 2, [7], [8])


def test_foreign_answer_counts_as_unresponsive(others: Callable[..., Any]) -> None:
    """Another version of the package answers something that cannot be read."""
    others((1, {"schema": 2}), (2, None), unresponsive=(3,))
    assert operations.overview().to_dict()["unresponsive"] == [1, 2, 3]


def test_limit_is_passed_on_and_bounded(others: Callable[..., Any]) -> None:
    """500 items of each list at the most."""
    asked = others()
    operations.overview(limit=10)
    operations.overview(limit=10_000)
    operations.overview(limit=-1)
    assert [request["limit"] for request in asked] == [10, 500, 0]


def test_truncation_of_one_process_is_told(others: Callable[..., Any]) -> None:
    """The whole is truncated where a part is."""
    others((1, {**other_process(), "truncated": True}))
    assert operations.overview().to_dict()["truncated"] is True


def test_machine_without_a_listing_is_this_process(held: WorkItemHandle, monkeypatch: pytest.MonkeyPatch) -> None:
    """F43: where nobody can tell which processes there are, this one is shown, and the scope says so."""
    monkeypatch.setattr(hosting.this_process(), "host", ServerHost())
    monkeypatch.setattr(asking, "find_place", lambda: AbstractPlace("/nonexistent"))
    found = operations.overview().to_dict()
    assert (found["scope"], found["answered"]) == ("process", 1)


@pytest.mark.parametrize(
    "error", [ValueError("invalid literal\nfor int()"), OSError("no /proc"), IndexError("x" * 10_000), KeyError("site")]
)
def test_g32_error_of_discovery_is_one_sentence(
    held: WorkItemHandle, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Whatever goes wrong when processes are looked for, this one is shown, and the rest is told on one line."""

    def fail(sites: Any) -> Any:
        raise error

    place = AbstractPlace()
    monkeypatch.setattr(place, "find", fail)
    monkeypatch.setattr(hosting.this_process(), "host", ServerHost())
    monkeypatch.setattr(asking, "find_place", lambda: place)
    found = operations.overview().to_dict()
    assert found["problem"].startswith("the processes of this machine could not be looked for: ")
    assert ("\n" in found["problem"], len(found["problem"]) < 300, found["answered"]) == (False, True, 1)


@pytest.mark.parametrize("place", [None, AbstractPlace()])
def test_switched_off_or_impossible_is_this_process(
    monkeypatch: pytest.MonkeyPatch, place: AbstractPlace | None
) -> None:
    """Windows has no such sockets; INSPECTION = False switches them off."""
    monkeypatch.setattr(hosting.this_process(), "host", ServerHost())
    monkeypatch.setattr(asking, "find_place", lambda: place)
    with override_settings(QBWI={"INSPECTION": place is None}):
        assert operations.overview().to_dict()["scope"] == "process"


def test_idle_command_does_not_list_itself(others: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """`manage.py qbwi` is nobody's server."""
    others((1, other_process()))
    with override_settings(QBWI={}):
        monkeypatch.setattr(hosting.this_process(), "host", CommandHost())
        assert [record["pid"] for record in operations.overview().to_dict()["processes"]] == [1]


def test_busy_command_lists_itself(
    held: WorkItemHandle, others: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A management command that runs items is a process like any other."""
    others()
    monkeypatch.setattr(hosting.this_process(), "host", CommandHost())
    assert operations.overview().to_dict()["answered"] == 1


def test_item_of_this_process_is_found(held: WorkItemHandle) -> None:
    """With its process and its stack."""
    found = operations.find(held.id).to_dict()
    assert (found["process"]["pid"], found["item"]["name"], "gate.wait" in found["stack"]) == (
        os.getpid(),
        "held",
        True,
    )


def test_item_of_another_process_is_found(held: WorkItemHandle, others: Callable[..., Any]) -> None:
    """What others know is shown like what we know."""
    others((1, entry()), (2, None))
    assert operations.find("a").to_dict() == entry()


def test_unknown_item_is_an_error(held: WorkItemHandle, others: Callable[..., Any]) -> None:
    """The message names the processes that might know it, and did not answer."""
    others((1, None), unresponsive=(7,))
    with pytest.raises(WorkItemNotFound, match=r"'x'; no answer from process 7"):
        operations.find("x")


def test_items_are_cancelled_wherever_they_are(held: WorkItemHandle, others: Callable[..., Any]) -> None:
    """True, False and None: cancelled, too late, unknown; who did not answer is told beside."""
    others((1, {"a": True, "b": False, "uninvited": True}), unresponsive=(7,))
    results = operations.cancel([held.id, "a", "b", "c"], by="me")
    assert (results.outcomes, results.asked.unresponsive) == ({held.id: True, "a": True, "b": False, "c": None}, (7,))


def test_too_many_ids_are_refused() -> None:
    """Nothing is cut in silence."""
    with pytest.raises(ValueError, match="1000 ids"):
        operations.cancel((str(number) for number in range(1_001)), by="me")


def test_stacks_of_all_processes(held: WorkItemHandle, others: Callable[..., Any]) -> None:
    """Running items of this process and of the others."""
    others((1, [entry("a"), entry("b")]), (2, "nonsense"), unresponsive=(7,))
    found = operations.stacks()
    assert {entry.item["id"] for entry in found.entries} == {"a", "b", held.id}
    assert found.asked.unresponsive == (2, 7)


def test_drain_asks_the_given_processes(held: WorkItemHandle, others: Callable[..., Any]) -> None:
    """This one is left alone if it is not among them."""
    answer = {"pid": 1, "state": "draining", "remaining": 5, "waiting_for": 2, "ending": False}
    asked = others((1, answer))
    assert [process.to_dict() for process in operations.drain([1], by="me").processes] == [answer]
    assert (asked[0]["pids"], held.token.is_cancellation_requested) == ({1}, False)


def test_drain_of_all_includes_this_process(
    gate: threading.Event, held: WorkItemHandle, others: Callable[..., Any]
) -> None:
    """None means everybody."""
    others()
    (result,) = operations.drain(by="me").processes
    assert (result.pid, result.state, result.waiting_for) == (os.getpid(), "draining", 1)
    assert held.token.wait(PATIENCE)
    assert held.status is WorkItemStatus.RUNNING
    gate.set()
