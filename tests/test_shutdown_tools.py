"""`simulate_shutdown` and `assert_no_work_items_left`: how users test what their items do at a deploy, and leave."""

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import RequestFactory, override_settings

from django_qbwi import (
    CancellationToken,
    CancelReason,
    SchedulerClosed,
    SchedulerDraining,
    WorkItemHandle,
    WorkItemRejected,
    WorkItemStatus,
    copies_request,
    hosting,
    queue_background_work_item,
    track,
)
from django_qbwi.signals import drain_finished, drain_started
from django_qbwi.testing import (
    Shutdown,
    assert_no_work_items_left,
    captured_work_items,
    drain,
    immediate_work_items,
    simulate_shutdown,
)

PATIENCE = 30


@pytest.fixture(autouse=True)
def own_scheduler() -> Iterator[None]:
    """Give each test a scheduler that ends with it."""
    with override_settings(QBWI={"MAX_WORKERS": 2}):
        here = hosting.this_process()
        here.admit()
        here.notice_handlers()
        yield


class Gate:
    """An item that begins, and runs until it is let go."""

    def __init__(self) -> None:
        self.begun, self.released = threading.Event(), threading.Event()

    def item(self, token: CancellationToken) -> None:
        """Ignore the token."""
        self.begun.set()
        assert self.released.wait(PATIENCE)

    def running(self) -> WorkItemHandle:
        """Queue it, and return when it runs."""
        handle = queue_background_work_item(self.item, name="stubborn")
        assert self.begun.wait(PATIENCE)
        return handle


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate that does not outlive its test."""
    gate = Gate()
    yield gate
    gate.released.set()


def polls(token: CancellationToken) -> None:
    assert token.wait(PATIENCE)
    token.raise_if_cancellation_requested()


# A simulated shutdown.


def test_items_end_as_at_a_deploy() -> None:
    """Tokens are cancelled with SHUTDOWN and have a deadline, and each item is in the list of how it ended."""
    reasons: list[CancelReason | None] = []

    def finishes(token: CancellationToken) -> None:
        assert token.wait(PATIENCE)
        assert token.remaining() is not None
        reasons.append(token.reason)

    async def fails(token: CancellationToken) -> None:
        await token.cancelled()
        raise ValueError("in the middle")

    done, failed, stopped = map(queue_background_work_item, (finishes, fails, polls))
    outcome = simulate_shutdown(timeout=PATIENCE)
    assert outcome == Shutdown(finished=[done, failed], cancelled=[stopped], abandoned=[], discarded=[], handed_off=[])
    assert [handle.status for handle in (done, failed, stopped)] == ["succeeded", "failed", "cancelled"]
    assert reasons == [CancelReason.SHUTDOWN]


def test_scheduler_is_fresh_afterwards() -> None:
    """The next test queues as ever, also behind a shutdown of a process that had nothing to do."""
    assert simulate_shutdown() == Shutdown([], [], [], [], [])
    for _ in range(2):
        before = hosting.scheduler()
        handle = queue_background_work_item(lambda token: None)
        assert handle.wait(PATIENCE)
        assert simulate_shutdown(0).finished in ([handle], [])
        assert hosting.scheduler() is not before
        with pytest.raises(SchedulerClosed):
            before.queue(handle._item)


def test_what_has_ended_before_is_not_told_of() -> None:
    """The outcome is of what the shutdown found."""
    assert queue_background_work_item(lambda token: None).wait(PATIENCE)
    assert drain(PATIENCE)
    assert simulate_shutdown().finished == []


def test_item_that_ignores_its_token_is_an_error(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    """AssertionError names it with its stack, and the scheduler is fresh all the same."""
    handle = gate.running()
    with pytest.raises(AssertionError) as caught:
        simulate_shutdown(0, timeout=0.2)
    text = str(caught.value)
    assert text.startswith("1 work item did not honour the token of a shutdown within 0.2 s:\n- stubborn id=")
    assert f"id={handle.id} status=abandoned, started at " in text
    assert "in item" in text
    assert handle.status is WorkItemStatus.ABANDONED
    assert "stubborn" in caplog.text
    assert queue_background_work_item(lambda token: None).wait(PATIENCE)


def test_outcome_has_what_was_given_up(gate: Gate) -> None:
    """Without `check` what ran at the limit is abandoned, and what never began is discarded."""
    with override_settings(QBWI={"MAX_WORKERS": 1}):
        running = gate.running()
        waiting = queue_background_work_item(lambda token: None)
        outcome = simulate_shutdown(0, timeout=0.2, check=False)
    assert outcome == Shutdown([], [], abandoned=[running], discarded=[waiting], handed_off=[])


def test_delayed_item_that_comes_too_late_is_discarded() -> None:
    """As in a drain: nothing waits for what cannot be due before the limit."""
    handle = queue_background_work_item(lambda token: None, delay=3600)
    assert simulate_shutdown(0).discarded == [handle]


def test_meanwhile_is_what_the_last_requests_do() -> None:
    """What they queue is accepted and run, with the deadline of the shutdown, and told of."""
    handles: list[WorkItemHandle] = []
    remaining: list[float | None] = []

    def request() -> None:
        handles.append(queue_background_work_item(lambda token: remaining.append(token.remaining())))

    outcome = simulate_shutdown(0, meanwhile=request)
    assert outcome.finished == handles
    assert [seconds is not None and 0 < seconds <= 5 for seconds in remaining] == [True]


@override_settings(QBWI={"ACCEPT_WHILE_DRAINING": False})
def test_meanwhile_is_refused_where_the_settings_say_so() -> None:
    """The settings that hold count: here no item is accepted once the shutdown has begun."""
    refused: list[WorkItemRejected] = []

    def request() -> None:
        try:
            queue_background_work_item(lambda token: None)
        except SchedulerDraining as error:
            refused.append(error)

    assert queue_background_work_item(lambda token: None).wait(PATIENCE)
    simulate_shutdown(0, meanwhile=request)
    assert len(refused) == 1


def test_meanwhile_that_raises_ends_the_shutdown(gate: Gate) -> None:
    """Its exception reaches the test, and the scheduler is fresh."""

    def request() -> None:
        raise LookupError("in the test")

    handle = queue_background_work_item(polls)
    with pytest.raises(LookupError, match="in the test"):
        simulate_shutdown(meanwhile=request)
    assert handle.status is WorkItemStatus.CANCELLED
    assert queue_background_work_item(lambda token: None).wait(PATIENCE)


def test_items_queued_by_items_run_once() -> None:
    """As in the final hold: an item of before may queue one, and that one no more."""
    ran: list[str] = []

    def first(token: CancellationToken) -> None:
        assert token.wait(PATIENCE)
        # The hold has begun, which refuses nothing of this item.
        assert holds.wait(PATIENCE)
        ran.append("first")
        queue_background_work_item(second, name="second")

    def second(token: CancellationToken) -> None:
        ran.append("second")
        try:
            queue_background_work_item(polls)
        except SchedulerDraining:
            ran.append("refused")

    holds = threading.Event()
    scheduler = hosting.scheduler()
    begins = scheduler.hold_begins

    def hold_begins() -> None:
        begins()
        holds.set()

    scheduler.hold_begins = hold_begins  # type: ignore[method-assign]
    queue_background_work_item(first)
    outcome = simulate_shutdown(timeout=PATIENCE)
    assert ran == ["first", "second", "refused"]
    assert [handle.name for handle in outcome.finished][-1] == "second"
    assert len(outcome.finished) == 2


@override_settings(QBWI={"CANCEL_AFTER": 3600.0, "SHUTDOWN_TIMEOUT": 0.5})
def test_settings_count() -> None:
    """CANCEL_AFTER leaves the tokens alone; SHUTDOWN_TIMEOUT is the limit if it is less than that of the call."""
    seen: list[bool] = []
    begun = threading.Event()

    def looks(token: CancellationToken) -> None:
        begun.set()
        assert sent.wait(PATIENCE)
        seen.append(token.is_cancellation_requested)

    sent = threading.Event()
    handle = queue_background_work_item(looks)
    assert begun.wait(PATIENCE)
    assert simulate_shutdown(0, timeout=1000, meanwhile=sent.set).finished == [handle]
    assert seen == [False]


def test_drain_is_told_of() -> None:
    """The signals and records are those of a drain, and no person is told to press Ctrl-C."""
    told: list[Any] = []

    def started(sender: Any, sign: str, **kwargs: Any) -> None:
        told.append(sign)

    def finished(sender: Any, cancelled: int, **kwargs: Any) -> None:
        told.append(cancelled)

    drain_started.connect(started)
    drain_finished.connect(finished)
    try:
        queue_background_work_item(polls)
        simulate_shutdown()
    finally:
        drain_started.disconnect(started)
        drain_finished.disconnect(finished)
    assert told == ["a simulated shutdown", 1]


def test_tracked_ones_belong_to_it(gate: Gate) -> None:
    """What was started elsewhere is waited for as well, and is abandoned with its stack."""
    thread = threading.Thread(target=gate.item, args=(None,), daemon=True, name="stubborn thread")
    thread.start()
    handle = track(thread)
    with pytest.raises(AssertionError, match=r"stubborn thread id=(?s:.*)in item"):
        simulate_shutdown(0, timeout=0.2)
    assert handle.status is WorkItemStatus.ABANDONED


@pytest.mark.parametrize("tool", [immediate_work_items, captured_work_items])
def test_tools_that_queue_nothing_leave_nothing_to_end(tool: Callable[[], Any]) -> None:
    """What runs at the call has ended, and what was captured was never queued."""
    with tool():
        queue_background_work_item(lambda token: None)
        assert simulate_shutdown(0) == Shutdown([], [], [], [], [])


@pytest.mark.parametrize("option", ["after", "timeout"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "5", None, True])
def test_wrong_seconds_are_refused(option: str, value: Any) -> None:
    """ValueError names the option and what to give; nothing has begun."""
    before = hosting.scheduler()
    with pytest.raises(ValueError, match=rf"^{option} is .*: give a number of seconds, 0 or more$"):
        simulate_shutdown(**{option: value})
    assert hosting.scheduler() is before


def test_running_loop_is_refused() -> None:
    """It would stop the loop; in a thread beside it works."""

    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"await asyncio.to_thread\(simulate_shutdown\) instead"):
            simulate_shutdown()
        handle = queue_background_work_item(polls)
        assert (await asyncio.to_thread(simulate_shutdown)).cancelled == [handle]

    asyncio.run(main())


# Nothing left.


def test_nothing_is_left_in_a_process_without_items() -> None:
    """It says nothing, and starts no thread."""
    assert_no_work_items_left()
    assert not hosting.scheduler().started


def test_what_ends_in_time_is_not_left() -> None:
    """It waits up to its timeout, as long as something is there."""
    queue_background_work_item(lambda token: None)
    assert_no_work_items_left(PATIENCE)


def test_item_that_has_ended_is_not_left() -> None:
    """Who is told of an end, and looks at once, finds nothing: the item has only not left the registry yet."""
    gate, left = Gate(), []

    def look(handle: WorkItemHandle) -> None:
        with contextlib.suppress(AssertionError):
            assert_no_work_items_left(0)
            left.append("nothing")

    handle = gate.running()
    handle.add_done_callback(look)
    gate.released.set()
    assert handle.wait(PATIENCE)
    assert_no_work_items_left(PATIENCE)
    assert left == ["nothing"]


def test_what_is_left_is_named(gate: Gate) -> None:
    """Id, name, status, since when, where from, and the stack of what runs."""
    request = RequestFactory().post("/ship/7/")
    started = threading.Event()

    @copies_request
    def ships(token: CancellationToken, visit: object) -> None:
        started.set()
        assert gate.released.wait(PATIENCE)

    running = queue_background_work_item(ships, request, name="ship")
    assert started.wait(PATIENCE)
    waiting = queue_background_work_item(lambda token: None, name="later", delay=3600)
    with pytest.raises(AssertionError) as caught:
        assert_no_work_items_left(0)
    first, *stack, last = str(caught.value).splitlines()[1:]
    assert str(caught.value).startswith("2 work items left after 0 s:\n")
    assert first.startswith(f"- ship id={running.id} status=running, started at ")
    assert first.endswith(" UTC, from POST /ship/7/")
    assert any("in ships" in line for line in stack)
    assert last.startswith(f"- later id={waiting.id} status=queued, queued at ")
    assert last.endswith(" UTC")
    assert waiting.cancel()
    gate.released.set()


def test_what_is_left_is_not_touched(gate: Gate) -> None:
    """It looks; `drain` ends."""
    handle = gate.running()
    with pytest.raises(AssertionError, match="stubborn"):
        assert_no_work_items_left(0)
    assert handle.status is WorkItemStatus.RUNNING
    assert not handle.token.is_cancellation_requested
    gate.released.set()
    assert_no_work_items_left(PATIENCE)


def test_only_some_are_named() -> None:
    """A message of a thousand items helps nobody."""
    handles = [queue_background_work_item(lambda token: None, delay=3600) for _ in range(13)]
    with pytest.raises(AssertionError, match=r"^13 work items left after 0 s:(?s:.*)\n- and 3 more$") as caught:
        assert_no_work_items_left(0)
    assert len(str(caught.value).splitlines()) == 12
    for handle in handles:
        handle.cancel()


def test_tracked_future_is_left() -> None:
    """So is what was started elsewhere."""
    future: concurrent.futures.Future[None] = concurrent.futures.Future()
    track(future, name="report")
    with pytest.raises(AssertionError, match=r"- report id=.* status=running(?s:.*)cannot be seen"):
        assert_no_work_items_left(0)
    future.set_result(None)
    assert_no_work_items_left(PATIENCE)


@pytest.mark.parametrize("value", [-1, float("nan"), "5", None])
def test_wrong_timeout_is_refused(value: Any) -> None:
    """As that of `simulate_shutdown`."""
    with pytest.raises(ValueError, match=r"timeout is .*: give a number of seconds"):
        assert_no_work_items_left(value)


def test_it_does_not_stop_a_running_loop() -> None:
    """It refuses to wait there for what is left, whose end may need the loop; a look alone is fine."""

    async def main() -> None:
        assert_no_work_items_left()
        handle = track(asyncio.create_task(asyncio.sleep(PATIENCE)))
        with pytest.raises(RuntimeError, match=r"await asyncio.to_thread\(assert_no_work_items_left\) instead"):
            assert_no_work_items_left()
        with pytest.raises(AssertionError, match="sleep"):
            assert_no_work_items_left(0)
        handle.cancel()
        await handle
        await asyncio.to_thread(assert_no_work_items_left, PATIENCE)

    asyncio.run(main())
