"""The item, and the three faces that others see of it: status, info, handle."""

import asyncio
import dataclasses
import datetime
import json
import threading
import traceback
from typing import Any

import pytest

from django_qbwi.core import items
from django_qbwi.core.cancellation import CancellationTokenSource, CancelReason, OperationCancelled
from django_qbwi.core.failures import without_frames
from django_qbwi.core.items import current_work_item, handle_of
from django_qbwi.core.ports import NullEnvironment, NullObserver
from django_qbwi.core.records import WorkItemError, WorkItemStatus
from tests.support.gates import PATIENCE, until
from tests.support.manual import ManualRuntime, anoop, noop

S = WorkItemStatus


# Status.


@pytest.mark.parametrize("status", list(S))
def test_status_knows_whether_it_is_terminal(status: WorkItemStatus) -> None:
    """Only QUEUED and RUNNING are followed by another status."""
    assert status.is_terminal is (status not in (S.QUEUED, S.RUNNING))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        *((S.QUEUED, status) for status in (S.RUNNING, S.CANCELLED, S.DISCARDED, S.FAILED)),
        *((S.RUNNING, status) for status in (S.SUCCEEDED, S.FAILED, S.CANCELLED, S.ABANDONED, S.QUEUED)),
    ],
)
def test_legal_transition(before: WorkItemStatus, after: WorkItemStatus) -> None:
    """A status that may follow is returned."""
    assert before.then(after) is after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (S.QUEUED, S.SUCCEEDED),
        (S.QUEUED, S.ABANDONED),
        (S.RUNNING, S.DISCARDED),
        *((status, S.RUNNING) for status in S if status.is_terminal),
    ],
)
def test_illegal_transition_names_both(before: WorkItemStatus, after: WorkItemStatus) -> None:
    """A status that cannot follow is an error which names the two."""
    with pytest.raises(RuntimeError, match=f"from {before.name} to {after.name}"):
        before.then(after)


# Info.


def test_info_of_a_queued_item(manual: ManualRuntime) -> None:
    """What is known of a queued item: its name, kind, times and limits."""
    info = manual.handle(noop, name="thumbnails", timeout=30.0).info
    assert (info.name, info.kind, info.status, info.timeout) == ("thumbnails", "sync", S.QUEUED, 30.0)
    assert (info.started_at, info.finished_at, info.error, info.cancel_reason) == (None, None, None, None)
    assert info.queued_at.tzinfo is datetime.UTC


def test_info_of_an_ended_item(manual: ManualRuntime) -> None:
    """Times follow the monotonic clock from queueing to the end."""
    handle = manual.handle(anoop)
    manual.clock.advance(2)
    item = manual.loop.start()
    assert item is not None
    manual.clock.advance(3)
    manual.loop.finish(item)
    info = handle.info
    assert (info.kind, info.status) == ("async", S.SUCCEEDED)
    assert info.started_at is not None
    assert info.finished_at is not None
    assert round((info.started_at - info.queued_at).total_seconds(), 3) == 2
    assert round((info.finished_at - info.started_at).total_seconds(), 3) == 3


def test_f29_a_jump_of_the_wall_clock_moves_no_duration(manual: ManualRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    """F29: the wall clock jumps by a day in the middle of an item; its durations and deadline stay."""
    handle = manual.handle(timeout=60.0)
    item = manual.sync.start()
    assert item is not None
    manual.clock.advance(5)
    wall_clock = items.datetime.datetime.now().timestamp()
    monkeypatch.setattr("django_qbwi.core.scheduler.time.time", lambda: wall_clock + 86_400)
    assert item.elapsed == 5
    assert item.token.remaining() == 55.0
    manual.sync.finish(item)
    info = handle.info
    assert info.started_at is not None
    assert info.finished_at is not None
    assert (info.finished_at - info.started_at).total_seconds() == pytest.approx(5, abs=1e-3)


def test_elapsed_of_an_item_that_waits(manual: ManualRuntime) -> None:
    """Before its start the age of an item is the time since it was queued."""
    item = manual.queue()
    manual.clock.advance(7)
    assert item.elapsed == 7


def test_info_is_json(manual: ManualRuntime) -> None:
    """`to_dict()` holds plain values only, times as ISO strings, and every field of the info."""
    handle = manual.handle()
    item = manual.sync.start()
    assert item is not None
    handle.cancel("enough")
    manual.sync.finish(item, ValueError("no such album"))
    told = json.loads(json.dumps(handle.info.to_dict()))
    assert set(told) == {field.name for field in dataclasses.fields(handle.info)}
    assert (told["status"], told["cancel_reason"]) == ("failed", "requested")
    assert told["error"]["message"] == "no such album"
    assert datetime.datetime.fromisoformat(told["finished_at"]).tzinfo is not None


def test_info_shows_the_reason_of_a_running_item(manual: ManualRuntime) -> None:
    """A running item whose token is cancelled shows why, before it has ended."""
    handle = manual.handle()
    manual.sync.start()
    assert handle.info.cancel_reason is None
    handle.cancel()
    assert handle.info.cancel_reason is CancelReason.REQUESTED


def test_info_is_frozen(manual: ManualRuntime) -> None:
    """An info is what was known at one moment; nobody can change it."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        manual.handle().info.status = S.SUCCEEDED  # type: ignore[misc]


# The error of a failure.


class Unprintable(Exception):
    """F7: neither str() nor repr() of it works."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __str__(self) -> str:
        raise self.error

    __repr__ = __str__


@pytest.mark.parametrize("error", [ValueError("again"), RecursionError(), MemoryError(), SystemExit(3)])
def test_f7_unprintable_exception_is_described(error: BaseException) -> None:
    """F7: an exception that cannot be printed, whatever it raises, is described by its type."""
    described = WorkItemError.of(Unprintable(error))
    assert described.type == f"{__name__}.Unprintable"
    assert described.message == f"<unprintable: {type(error).__name__}>"


def test_f8_huge_exception_is_bounded() -> None:
    """F8: a message of a megabyte is cut, in the message and in the traceback."""
    described = WorkItemError.of(ValueError("x" * 1_000_000))
    assert len(described.message) == 2_000
    assert len(described.traceback) <= 20_000


def test_s8_traceback_has_no_locals() -> None:
    """S8: the text of a traceback names files and lines, never values."""
    secret = "hunter2"
    try:
        raise ValueError(len(secret))
    except ValueError as error:
        described = WorkItemError.of(error)
    assert "raise ValueError(len(secret))" in described.traceback
    assert secret not in described.traceback


def test_f12_frames_of_chained_exceptions_go() -> None:
    """F12: cause, context and the members of a group lose their tracebacks as well, cycles included."""

    def caught(error: BaseException) -> BaseException:
        try:
            raise error
        except BaseException as result:
            return result

    member, cause, context = caught(KeyError(1)), caught(OSError(2)), caught(ValueError(3))
    group = caught(BaseExceptionGroup("several", [member]))
    group.__cause__, group.__context__ = cause, context
    context.__context__ = group
    assert without_frames(group) is group
    assert [error.__traceback__ for error in (group, member, cause, context)] == [None] * 4


def test_exception_of_a_failed_item(manual: ManualRuntime) -> None:
    """The handle has the exception itself, without traceback, and only of a failed item."""
    handle = manual.handle()
    item = manual.sync.start()
    assert item is not None
    assert handle.exception() is None
    error = ValueError("no such album")
    manual.sync.finish(item, error)
    assert handle.exception() is error
    assert error.__traceback__ is None


def test_exception_of_a_cancelled_item(manual: ManualRuntime) -> None:
    """A cancelled item has no exception to show."""
    handle = manual.handle()
    item = manual.sync.start()
    assert item is not None
    handle.cancel()
    manual.sync.finish(item, OperationCancelled(item.token))
    assert handle.status is S.CANCELLED
    assert handle.exception() is None


# The handle.


def test_handles_of_one_item_are_equal(manual: ManualRuntime) -> None:
    """Two handles of an item are the same key; those of two items are not."""
    item = manual.queue()
    assert handle_of(item) == handle_of(item)
    assert len({handle_of(item), handle_of(item), handle_of(manual.queue())}) == 2
    assert handle_of(item) != item


def test_s15_ids_are_unguessable_and_unique(manual: ManualRuntime) -> None:
    """S15: ids do not count, stay the same for one item, and differ from those of another scheduler."""
    handles = [manual.handle() for _ in range(100)]
    ids = [handle.id for handle in handles]
    assert ids == [handle.id for handle in handles]
    assert len({*ids, *(ManualRuntime().handle().id for _ in range(3))}) == 103
    assert all(len(value) == 24 for value in ids)


def test_s15_id_is_made_once_by_two_threads(manual: ManualRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    """S15: of two threads that ask for the id at once the second gets that of the first."""
    item = manual.queue()

    class Lock:
        def acquire(self) -> None:
            item._id = "of the other thread"

        def release(self) -> None: ...

    monkeypatch.setattr(manual.scheduler, "lock", Lock())
    assert item.id == "of the other thread"


def test_reprs_show_name_and_status(manual: ManualRuntime) -> None:
    """Item and handle show what they are."""
    item = manual.queue(name="thumbnails")
    assert repr(item) == "<WorkItem thumbnails queued>"
    assert "name=thumbnails status=queued" in repr(handle_of(item))


def test_item_has_no_other_attributes(manual: ManualRuntime) -> None:
    """An attribute that an item does not have is an error, as with any object."""
    with pytest.raises(AttributeError, match="no attribute 'result'"):
        manual.make().result  # noqa: B018


def test_token_is_made_once(manual: ManualRuntime) -> None:
    """All who ask get the same token."""
    handle = manual.handle()
    assert handle.token is handle.token


def test_name_survives_the_function(manual: ManualRuntime) -> None:
    """An ended item has dropped function and arguments, and still knows its name."""

    class Large:
        def __call__(self, token: Any, payload: bytes) -> None: ...

    for work_item, args, name in [(noop, (), "noop"), (Large(), (b"payload",), "Large")]:
        item = manual.queue(work_item, *args)
        manual.sync.start()
        manual.sync.finish(item)
        with pytest.raises(RuntimeError, match=f"the call of {item.name} was dropped"):
            _ = item.work
        assert item.name.endswith(name)


def test_wait_returns_at_the_end(manual: ManualRuntime) -> None:
    """A thread that waits for an item goes on when it has ended."""
    handle = manual.handle()
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(handle.wait(PATIENCE)))
    thread.start()
    until(lambda: handle._item.waiters)
    item = manual.sync.start()
    assert item is not None
    manual.sync.finish(item)
    thread.join(PATIENCE)
    assert answers == [True]
    assert handle.wait() is True


def test_all_waiters_are_woken(manual: ManualRuntime) -> None:
    """Several may wait for one item; each is woken once."""
    item = manual.queue()
    woken: list[int] = []
    for number in range(3):
        assert item.add_waiter(lambda number=number: woken.append(number))
    manual.sync.start()
    manual.sync.finish(item)
    assert woken == [0, 1, 2]


def test_wait_that_times_out_leaves_no_waiter(manual: ManualRuntime) -> None:
    """`wait` says False when its time is over, and the item forgets the waiter."""
    handle = manual.handle()
    assert handle.wait(0.001) is False
    assert not handle._item.waiters


def test_wait_on_a_running_loop_is_refused(manual: ManualRuntime) -> None:
    """`wait` would stop the loop: the error names the cure."""

    async def main() -> None:
        manual.handle().wait(1)

    with pytest.raises(RuntimeError, match="await it"):
        asyncio.run(main())


def test_waiter_that_comes_after_the_end_is_not_kept(manual: ManualRuntime) -> None:
    """An ended item takes no waiter, and says so."""
    handle = manual.handle()
    item = manual.sync.start()
    assert item is not None
    manual.sync.finish(item)
    assert not handle._item.add_waiter(lambda: pytest.fail("called"))
    assert not item.waiters


def test_wait_sees_an_end_after_its_first_look(manual: ManualRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    """`wait` looks once without the lock; an end right after it is seen by the second look."""
    handle = manual.handle()
    item = manual.sync.start()
    assert item is not None
    monkeypatch.setattr(items, "refuse_on_running_loop", lambda *names: manual.sync.finish(item) and None)
    assert handle.wait() is True


def test_await_returns_the_info(manual: ManualRuntime) -> None:
    """Awaiting a handle gives its info at the end; a failure is not raised."""
    handle = manual.handle()
    item = manual.sync.start()
    assert item is not None

    async def main() -> S:
        loop = asyncio.get_running_loop()
        loop.call_soon(manual.sync.finish, item, ValueError("no such album"))
        return (await asyncio.wait_for(handle, PATIENCE)).status

    assert asyncio.run(main()) is S.FAILED


def test_await_of_an_ended_item_returns_at_once(manual: ManualRuntime) -> None:
    """There is nothing to wait for."""
    handle = manual.handle()
    item = manual.sync.start()
    assert item is not None
    manual.sync.finish(item)

    async def main() -> S:
        return (await handle).status

    assert asyncio.run(main()) is S.SUCCEEDED


def test_r7_cancelling_the_awaiter_leaves_the_item_alone(manual: ManualRuntime) -> None:
    """R7: a task that waits for an item may be cancelled; the item runs on, and forgets the waiter."""
    handle = manual.handle()
    manual.sync.start()

    async def wait() -> None:
        await handle

    async def main() -> None:
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(main())
    assert handle.status is S.RUNNING
    assert not handle.token.is_cancellation_requested
    assert not handle._item.waiters


def test_waking_a_closed_loop_is_harmless(manual: ManualRuntime) -> None:
    """The end of an item does not fail because the loop of a waiter was closed, and a second wake-up does nothing."""
    handle = manual.handle()
    item = manual.sync.start()
    assert item is not None
    wakes: list[Any] = []

    async def main() -> None:
        waiter = asyncio.ensure_future(handle)
        await asyncio.sleep(0)
        wakes.extend(item.waiters or ())
        wakes[0]()
        wakes[0]()
        await waiter

    asyncio.run(main())
    wakes[0]()


def test_no_current_item_outside() -> None:
    """Outside of an item there is none."""
    assert current_work_item() is None


def test_current_item_inside(manual: ManualRuntime) -> None:
    """Inside there is a handle of it."""
    handle = manual.handle()
    item = manual.sync.start()
    assert item is not None
    assert manual.sync.contexts[item].run(current_work_item) == handle


# The do-nothing collaborators.


def test_null_observer_and_environment_do_nothing(manual: ManualRuntime) -> None:
    """Where nobody looks, nothing happens."""
    observer, environment, item = NullObserver(), NullEnvironment(), manual.make()
    observer.queued(item)
    observer.rejected(item, ValueError())
    observer.started(item)
    observer.finished(item)
    observer.late(item)
    observer.overdue(item, "", True)
    environment.before()
    environment.after()
    environment.thread_ended()

    async def main() -> None:
        async with environment.scope(None):  # type: ignore[arg-type]
            await observer.astarted(item)
            await observer.afinished(item)

    asyncio.run(main())
    assert (observer.announces, observer.follows) == (False, False)


def test_operation_cancelled_prints_like_any_exception() -> None:
    """Its traceback reads well."""
    source = CancellationTokenSource()
    source.cancel()
    text = "".join(traceback.format_exception_only(OperationCancelled(source.token)))
    assert text == "django_qbwi.core.cancellation.OperationCancelled: cancelled (requested)\n"
