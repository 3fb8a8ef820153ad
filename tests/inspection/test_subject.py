"""What can be asked of a process, and done to it."""

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from django_qbwi.core.exceptions import ProcessUnreachable
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.inspection import cancelling
from django_qbwi.inspection.subject import Subject, own_frames
from tests.inspection.conftest import PATIENCE, Inspection
from tests.support.gates import until


async def awaiting(token: Any) -> None:
    """Wait for the cancellation."""
    await token.cancelled()


def failing(token: Any) -> None:
    """Fail, with a long traceback."""
    raise ValueError("x" * 5_000)


def test_idle_process_is_described(inspection: Inspection) -> None:
    """A process without items has a state, limits and zeros."""
    found = inspection.subject.overview()
    counts = [found[name] for name in ("running", "queued", "finished", "failed", "items", "recent", "truncated")]
    assert (found["state"], found["server"], found["remaining"], counts) == (
        "open",
        "tests",
        None,
        [0, 0, 0, 0, [], [], False],
    )


def test_process_without_scheduler_is_described() -> None:
    """Before its scheduler is made a process can be looked at all the same."""
    subject = Subject(lambda: "tests", lambda: None)
    assert (subject.overview()["state"], subject.find("x"), subject.stacks(), subject.cancel(["x"], "me")) == (
        "open",
        None,
        [],
        {},
    )


def test_running_items_come_first(inspection: Inspection) -> None:
    """Running, then queued items, with their counts."""
    handles = [*inspection.queue_held(), inspection.queue(inspection.hold), inspection.queue(inspection.hold)]
    found = inspection.subject.overview()
    assert [item["id"] for item in found["items"]] == [handle.id for handle in handles]
    assert (found["running"], found["queued"]) == (1, 2)


def test_recent_items_come_newest_first(inspection: Inspection) -> None:
    """Ended items, failed ones counted apart."""
    handles = [inspection.queue(failing), inspection.queue(len, name="also failing")]
    for handle in handles:
        assert handle.wait(PATIENCE)
    assert inspection.scheduler.wait_until_empty(PATIENCE)
    found = inspection.subject.overview()
    assert [item["id"] for item in found["recent"]] == [handle.id for handle in reversed(handles)]
    assert (found["finished"], found["failed"]) == (2, 2)


def test_lists_are_capped(inspection: Inspection) -> None:
    """F25: more items than asked for are counted, not listed, and the answer says so."""
    inspection.queue_held()
    for _ in range(5):
        inspection.queue(inspection.hold)
    found = inspection.subject.overview(limit=2)
    assert (len(found["items"]), found["queued"], found["truncated"]) == (2, 5, True)


def test_listing_does_not_wait_for_the_lock(inspection: Inspection) -> None:
    """F25: the items are copied while another thread holds the scheduler's lock."""
    inspection.queue_held()
    inspection.queue(inspection.hold)
    found: list[int] = []
    with inspection.scheduler.lock:
        thread = threading.Thread(target=lambda: found.append(len(inspection.scheduler.live_items())))
        thread.start()
        thread.join(PATIENCE)
    assert found == [2]


def test_listed_traceback_is_short(inspection: Inspection) -> None:
    """A list has the end of a traceback; the item itself has more of it."""
    handle = inspection.queue(failing)
    assert handle.wait(PATIENCE)
    assert inspection.scheduler.wait_until_empty(PATIENCE)
    listed = inspection.subject.overview()["recent"][0]["error"]["traceback"]
    found = inspection.subject.find(handle.id)
    assert found is not None
    assert len(listed) == 2_000 < len(found["item"]["error"]["traceback"])


def test_running_item_is_found_with_its_stack(inspection: Inspection) -> None:
    """The stack of a sync item is that of its thread."""
    (handle,) = inspection.queue_held()
    found = inspection.subject.find(handle.id)
    assert found is not None
    assert (found["item"]["status"], "self.gate.wait" in found["stack"]) == ("running", True)


def test_async_item_is_found_with_its_await_chain(inspection: Inspection) -> None:
    """The stack of an async item shows what it awaits."""
    handle = inspection.queue(awaiting)

    def stack() -> str:
        found = inspection.subject.find(handle.id)
        return "" if found is None or found["stack"] is None else found["stack"]

    # It counts as running a moment before its task has begun.
    until(lambda: "await token.cancelled()" in stack())
    inspection.subject.cancel([handle.id], "me")


@pytest.mark.parametrize("queued", [True, False])
def test_item_that_does_not_run_has_no_stack(inspection: Inspection, queued: bool) -> None:
    """Neither before its start nor after its end."""
    if queued:
        inspection.queue_held()
    handle = inspection.queue(inspection.hold)
    if not queued:
        inspection.gate.set()
        assert handle.wait(PATIENCE)
    found = inspection.subject.find(handle.id)
    assert found is not None
    assert found["stack"] is None


def test_unknown_item_is_not_found(inspection: Inspection) -> None:
    """Looking for an id does not make ids for items that nobody has looked at."""
    (handle,) = inspection.queue_held()
    assert inspection.subject.find("0" * 24) is None
    assert handle._item._id is None


def test_stack_begins_with_the_item(inspection: Inspection) -> None:
    """The frames of threads and of ours, which are above it, tell nobody anything; those below it stay."""
    (handle,) = inspection.queue_held()
    found = inspection.subject.find(handle.id)
    assert found is not None
    assert found["stack"].splitlines()[0].endswith("in hold")
    assert "threading.py" in found["stack"]


def test_stack_of_an_async_item_begins_with_it(inspection: Inspection) -> None:
    """So it does where the item is a chain of coroutines, of which the outer ones are ours."""
    handle = inspection.queue(awaiting)

    def first_line() -> str:
        found = inspection.subject.find(handle.id)
        assert found is not None
        return str(found["stack"]).splitlines()[0]

    # It may not have come to its own code yet.
    until(lambda: first_line().endswith("in awaiting"))
    handle.cancel()


def test_stack_of_several_parts_is_cut_in_each() -> None:
    """An async item may be shown with its task and with the thread that it waits for."""
    ours = '  File "/a/django_qbwi/executors/async_run.py", line 1, in _call\n    await call()\n'
    part = (
        f'  File "/a/threading.py", line 1, in run\n    run()\n{ours}  File "/b/items.py", line 2, in send\n    x()\n'
    )
    item = '  File "/b/items.py", line 2, in send\n    x()\n'
    assert own_frames(f"{part}in its executor thread:\n{part}") == f"{item}in its executor thread:\n{item}"


def test_stack_of_nothing_stays() -> None:
    """A stack without frames of the item is shown as it is."""
    assert own_frames("  <no stack>\n") == "  <no stack>\n"


def test_stacks_are_those_of_running_items(inspection: Inspection) -> None:
    """A queued item is nowhere."""
    (handle,) = inspection.queue_held()
    inspection.queue(inspection.hold)
    assert [entry["item"]["id"] for entry in inspection.subject.stacks()] == [handle.id]


def test_queued_item_is_cancelled(inspection: Inspection) -> None:
    """It never starts."""
    inspection.queue_held()
    handle = inspection.queue(inspection.hold)
    assert inspection.subject.cancel([handle.id], "me") == {handle.id: True}
    assert handle.status is WorkItemStatus.CANCELLED


def test_running_item_sees_its_cancellation(inspection: Inspection) -> None:
    """Its token says who it was; the second time is too late."""
    (handle,) = inspection.queue_held()
    done = [inspection.subject.cancel([handle.id], by) for by in ("me", "you")]
    assert done == [{handle.id: True}, {handle.id: False}]
    assert handle.token.message == "cancelled by me"


def test_unknown_ids_are_left_out(inspection: Inspection) -> None:
    """Only what is known here is answered for: another process may know the rest."""
    (handle,) = inspection.queue_held()
    assert inspection.subject.cancel(["0" * 24, handle.id], "me") == {handle.id: True}


def test_cancelling_is_recorded(inspection: Inspection, caplog: pytest.LogCaptureFixture) -> None:
    """S16, S14: who cancelled what is in the log, without control characters."""
    (handle,) = inspection.queue_held()
    with caplog.at_level(logging.INFO, "django_qbwi.inspection"):
        inspection.subject.cancel([handle.id], "me\n\x1b[31mroot")
    assert [record.getMessage() for record in caplog.records] == [
        f"Work item id={handle.id} name={handle.name} cancellation requested by me??[31mroot"
    ]


def test_connections_of_the_caller_stay_open(inspection: Inspection) -> None:
    """A page that cancels is in the middle of its request, and of its transaction."""
    (handle,) = inspection.queue_held()
    inspection.subject.cancel([handle.id], "me")
    assert inspection.left.wait(PATIENCE)
    assert threading.get_ident() not in inspection.closed_in


class Blocking:
    """Items whose callbacks block until the gate opens."""

    def __init__(self, inspection: Inspection, count: int) -> None:
        self.gate = threading.Event()
        self.handles = [inspection.queue(inspection.hold) for _ in range(count)]
        for handle in self.handles:
            handle.token.register(lambda: self.gate.wait(PATIENCE))

    @property
    def ids(self) -> list[str]:
        return [handle.id for handle in self.handles]


@pytest.mark.parametrize("blocking", [1, 3, 5])
def test_g34_blocking_callbacks_hold_up_nobody(inspection: Inspection, blocking: int) -> None:
    """The items before and behind them are cancelled, and so are they: the token decides, not its callbacks."""
    inspection.queue_held()
    first, stuck, last = inspection.queue(inspection.hold), Blocking(inspection, blocking), inspection.queue(len)
    ids = [first.id, *stuck.ids, last.id]
    assert inspection.subject.cancel(ids, "me") == dict.fromkeys(ids, True)
    assert {handle.status.value for handle in (first, last)} == {"cancelled"}
    assert all(handle.token.is_cancellation_requested for handle in stuck.handles)
    stuck.gate.set()


def test_g34_blocking_callbacks_are_bounded(inspection: Inspection, monkeypatch: pytest.MonkeyPatch) -> None:
    """They keep a few threads at the most; then nothing is said to be cancelled, and looking still works."""
    monkeypatch.setattr(cancelling, "MAX_THREADS", 2)
    inspection.queue_held()
    stuck = Blocking(inspection, 3)
    with pytest.raises(ProcessUnreachable, match="too many callbacks"):
        inspection.subject.cancel(stuck.ids, "me")
    threads = [thread for thread in threading.enumerate() if thread.name == "qbwi-inspection-cancel"]
    assert (len(threads), len(inspection.subject.overview()["items"]) > 0) == (2, True)
    stuck.gate.set()


def test_g34_items_are_cancelled_where_no_thread_starts(
    inspection: Inspection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F24: the caller does it, and keeps its connections."""

    def refuse(*args: Any) -> None:
        raise RuntimeError("can't start new thread")

    (handle,) = inspection.queue_held()
    monkeypatch.setattr(cancelling, "start_thread", refuse)
    assert inspection.subject.cancel([handle.id], "me") == {handle.id: True}
    assert inspection.closed_in == []


def test_drain_cancels_with_shutdown(inspection: Inspection) -> None:
    """Items see the same as at the end of the process, with a deadline."""
    (handle,) = inspection.queue_held()
    result = inspection.subject.drain("me")
    assert handle.token.wait(PATIENCE)
    assert (handle.token.reason, handle.token.remaining() is not None) == ("shutdown", True)
    assert (result["state"], result["waiting_for"], result["ending"]) == ("draining", 1, False)


def test_drain_leaves_new_items_alone(inspection: Inspection) -> None:
    """The process goes on: what is queued after the drain began is accepted, and not cancelled."""
    inspection.queue_held()
    inspection.subject.drain("me")
    later = inspection.queue(inspection.hold)
    assert inspection.assembly.keeper.flush(PATIENCE)
    assert not later.token.is_cancellation_requested


def test_drain_is_over_when_its_items_have_ended(inspection: Inspection, caplog: pytest.LogCaptureFixture) -> None:
    """Then the process is open again, and a record says so."""
    (handle,) = inspection.queue_held()
    with caplog.at_level(logging.INFO, "django_qbwi.inspection"):
        inspection.subject.drain("me")
        assert inspection.subject.state == "draining"
        inspection.gate.set()
        assert handle.wait(PATIENCE)
        assert inspection.assembly.keeper.flush(PATIENCE)
    assert inspection.subject.state == "open"
    assert [record.getMessage() for record in caplog.records] == [
        "Drain by me: 1 running, 0 queued item(s)",
        "Drain by me is over: the scheduler is open",
    ]


def test_drain_ends_at_its_limit(make_inspection: Callable[..., Inspection], caplog: pytest.LogCaptureFixture) -> None:
    """What does not end goes on, since the process does; a WARNING says how many."""
    inspection = make_inspection(max_workers=1, shutdown_timeout=0.01)
    (handle,) = inspection.queue_held()
    warned = threading.Event()

    def notice(record: logging.LogRecord) -> bool:
        if record.levelno == logging.WARNING:
            warned.set()
        return True

    caplog.handler.addFilter(notice)
    inspection.subject.drain("me")
    assert warned.wait(PATIENCE)
    caplog.handler.removeFilter(notice)
    assert (inspection.subject.state, handle.status) == ("open", WorkItemStatus.RUNNING)


def test_second_drain_joins_the_first(inspection: Inspection) -> None:
    """Asked twice, a process drains once."""
    inspection.queue_held()
    results = [inspection.subject.drain("me") for _ in range(2)]
    assert [result["waiting_for"] for result in results] == [1, 1]


def test_drain_without_items_is_over_at_once(inspection: Inspection) -> None:
    """There is nothing to wait for."""
    result = inspection.subject.drain("me")
    assert (result["state"], result["waiting_for"]) == ("open", 0)


def test_ending_process_is_left_alone(inspection: Inspection) -> None:
    """One that ends drains already, and will not be open again."""
    inspection.queue_held()
    inspection.assembly.coordinator.sign("a test")
    result = inspection.subject.drain("me")
    assert (result["state"], result["ending"], result["waiting_for"]) == ("draining", True, 1)
