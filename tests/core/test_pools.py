"""Pools: lanes with a bound of their own, which are served when they are used, and take nothing from the others."""

import threading
from contextvars import Context
from typing import Any

import pytest

from django_qbwi.core.exceptions import QueueFull, SchedulerClosed, WorkItemRejected
from django_qbwi.core.items import WorkItem
from django_qbwi.core.keys import Keyed
from django_qbwi.core.lanes import Limits, Pool, lane_name
from django_qbwi.core.records import WorkItemStatus
from tests.support.gates import PATIENCE, until
from tests.support.manual import ManualRuntime, anoop, noop

S = WorkItemStatus


class Once:
    """Has one further attempt follow, after ten seconds."""

    def seconds_until_next(self, attempt: int, error: BaseException) -> float | None:
        return 10.0 if attempt == 1 else None


@pytest.fixture(autouse=True)
def late_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a Python that starts threads as long as a process ends; 3.12.0 to 3.12.2 do not."""
    monkeypatch.setattr("django_qbwi.core.starting.STARTS_NO_THREADS_LATE", False)


@pytest.fixture
def manual() -> ManualRuntime:
    """A scheduler with two pools beside the default one."""
    return ManualRuntime(max_queued=2, max_delayed=1, pools={"mail": 1, "reports": 3})


def queue(manual: ManualRuntime, pool: str | None = "mail", function: Any = noop, **options: Any) -> WorkItem:
    """Queue an item of a pool, with a delay or without."""
    delay = options.pop("delay", 0.0)
    return manual.scheduler.queue_when_told(manual.make(function, pool=pool, **options), lambda: None, delay)


def test_each_kind_has_a_lane_of_the_pool(manual: ManualRuntime) -> None:
    """Sync and async items wait in lanes of their own, and no executor of another pool takes them."""
    mails = [queue(manual, "reports"), queue(manual, "reports", anoop)]
    assert (manual.sync.start(), manual.loop.start()) == (None, None)
    assert [executor.start() for executor in manual.pools["mail"]] == [None, None]
    assert [executor.start() for executor in manual.pools["reports"]] == mails
    assert [item.info().kind for item in mails] == ["sync", "async"]


@pytest.mark.parametrize("name", [None, "default"])
def test_no_pool_is_the_default_one(name: str | None) -> None:
    """Who names none, and who names that one, has the lanes without a pool."""
    assert lane_name(name, True) is lane_name(name, False) is None


def test_no_two_pools_share_a_lane() -> None:
    """Whatever a pool is called, its lanes are its own."""
    names = ["sync", "async", "tracked", "sync of a", "a", "of a", ""]
    lanes = {lane_name(name, is_async) for name in names for is_async in (False, True)}
    assert len(lanes) == 14
    assert not lanes & {"sync", "async", "tracked", "tracked async"}


def test_full_pool_refuses_and_is_named(manual: ManualRuntime) -> None:
    """Its own bound counts both of its kinds; the message says which setting it is."""
    queue(manual)
    for function in (noop, anoop):
        with pytest.raises(QueueFull, match=r"1 items are waiting already in the pool 'mail'") as refused:
            queue(manual, function=function)
    assert 'QBWI["POOLS"]["mail"]["MAX_QUEUED"]' in str(refused.value)
    assert 'QBWI["POOLS"]["mail"]["MAX_WORKERS"]' in str(refused.value)


def test_full_pool_leaves_the_others_their_room(manual: ManualRuntime) -> None:
    """What waits in one counts in no other, nor in the default one, at whichever of the ways an item comes in."""
    queue(manual)
    for _ in range(3):
        queue(manual, "reports")
    manual.queue()
    queue(manual, None)
    for refused in (manual.queue, lambda: queue(manual, None)):
        with pytest.raises(QueueFull, match=r'2 items are waiting already, which is QBWI\["MAX_QUEUED"\]'):
            refused()


def test_item_that_is_told_of_has_its_place() -> None:
    """One that is accepted counts from then on, in its own pool."""
    manual = ManualRuntime(max_queued=1, pools={"mail": 1})
    met: list[type[BaseException]] = []

    def tell() -> None:
        with pytest.raises(QueueFull) as refused:
            queue(manual)
        met.append(refused.type)
        queue(manual, None)

    manual.scheduler.queue_when_told(manual.make(pool="mail"), tell)
    assert met == [QueueFull]


def test_all_pools_share_the_bound_of_the_delayed(manual: ManualRuntime) -> None:
    """An item that waits for its time waits in no lane."""
    queue(manual, delay=5.0)
    for pool in ("reports", None):
        with pytest.raises(QueueFull, match="MAX_DELAYED"):
            queue(manual, pool, delay=5.0)


def test_delayed_item_comes_to_its_pool(manual: ManualRuntime) -> None:
    """Its time over, it wakes the executor of its own lane, and is refused by no bound any more."""
    later = queue(manual, delay=5.0)
    first = queue(manual)
    manual.advance(5.0)
    sync, _ = manual.pools["mail"]
    assert (sync.start(), sync.start()) == (first, later)


@pytest.mark.parametrize("function", [noop, anoop])
def test_next_attempt_comes_to_the_pool(manual: ManualRuntime, function: Any) -> None:
    """Also of an item whose awaitable went on in the other lane of the pool."""
    item = queue(manual, function=function, retry=Once())
    sync, loop = manual.pools["mail"]
    executor = sync if function is noop else loop
    assert executor.start() is item
    item.lane = loop.lane
    executor.finish(item, ValueError("no"))
    manual.advance(10.0)
    assert executor.start() is item


def test_executor_of_a_pool_is_prepared_with_its_first_item(manual: ManualRuntime) -> None:
    """A pool that is not used costs nothing, nor does the lane of the kind that is not."""
    manual.queue()
    everyone = [manual.sync, manual.loop, *manual.pools["mail"], *manual.pools["reports"]]
    assert [executor.prepared for executor in everyone] == [1, 1, 0, 0, 0, 0]
    queue(manual, "reports", anoop)
    queue(manual, "reports", anoop)
    assert [executor.prepared for executor in everyone] == [1, 1, 0, 0, 0, 1]


def test_first_item_of_all_may_be_one_of_a_pool(manual: ManualRuntime) -> None:
    """It starts what all items need, and what its own lane does."""
    queue(manual)
    assert manual.scheduler.started
    assert [executor.prepared for executor in (manual.sync, manual.loop, *manual.pools["mail"])] == [1, 1, 1, 0]


def test_all_are_prepared_where_it_would_be_too_late(manual: ManualRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread starts at the end of a process, the first item starts all that a drain may need."""
    monkeypatch.setattr("django_qbwi.core.starting.STARTS_NO_THREADS_LATE", True)
    manual.queue()
    assert [executor.prepared for pair in manual.pools.values() for executor in pair] == [1] * 4


def test_failed_start_refuses_the_item(manual: ManualRuntime) -> None:
    """Nothing is queued into a pool that nobody serves; the next item tries again."""
    sync, _ = manual.pools["mail"]
    sync.failure = RuntimeError("can't start new thread")
    with pytest.raises(WorkItemRejected, match="no thread could be started") as refused:
        queue(manual)
    assert refused.value.__cause__ is sync.failure
    assert manual.scheduler.is_empty
    sync.failure = None
    queue(manual)
    assert sync.prepared == 2


def test_closed_scheduler_starts_no_pool(manual: ManualRuntime) -> None:
    """An item that comes too late is refused before a thread is."""
    manual.queue()
    manual.scheduler.close()
    with pytest.raises(SchedulerClosed):
        queue(manual)
    assert manual.pools["mail"][0].prepared == 0


def test_end_of_the_process_empties_all_pools(manual: ManualRuntime) -> None:
    """What runs is interrupted in its own lane and abandoned, what waits is discarded, and all threads end."""
    running = queue(manual, "mail", anoop)
    manual.pools["mail"][1].start()
    waiting = [manual.queue(), queue(manual, "mail", anoop), queue(manual, "reports")]
    manual.scheduler.interrupt()
    assert manual.pools["mail"][1].interrupted == [running]
    assert manual.scheduler.give_up() == [running, *waiting]
    manual.scheduler.retire()
    assert {executor.retired for pair in manual.pools.values() for executor in pair} == {1}


def test_unique_key_holds_in_all_pools(manual: ManualRuntime) -> None:
    """One that waits in another pool stands for the call, also where the own one is full."""
    key = Keyed(unique=(1, "a"))
    known = queue(manual, "reports", keyed=key)
    queue(manual)
    assert queue(manual, "mail", keyed=key) is known


def test_concurrency_key_holds_in_all_pools(manual: ManualRuntime) -> None:
    """The next one of a key comes into its own pool, when one of another pool has ended; it counts there meanwhile."""
    key = Keyed(limit=(1, "a"))
    first, second = queue(manual, "reports", keyed=key), queue(manual, "mail", keyed=key)
    mail, reports = manual.pools["mail"][0], manual.pools["reports"][0]
    with pytest.raises(QueueFull):
        queue(manual)
    assert (reports.start(), mail.start()) == (first, None)
    reports.finish(first)
    assert mail.start() is second


def test_pool_says_what_waits() -> None:
    """Its repr is for a debugger."""
    assert repr(Pool("mail", 5)) == "<Pool mail queued=0>"


class Patient:
    """Queues an item of a pool in a thread of its own, as an item of another one, and waits for room."""

    def __init__(self, manual: ManualRuntime, pool: str | None, parent: WorkItem | None = None) -> None:
        self.manual = manual
        self.item = manual.make(pool=pool)
        self.error: BaseException | None = None
        parents = None if parent is None else parent.lane.executor
        context = Context() if parents is None else parents.contexts[parent].copy()
        self.thread = threading.Thread(target=context.run, args=(self.run,), daemon=True)
        before = len(manual.scheduler._callers)
        self.thread.start()
        until(lambda: len(manual.scheduler._callers) > before or not self.thread.is_alive())

    def run(self) -> None:
        try:
            self.manual.scheduler.queue_with_patience(self.item, lambda: None, 0.0, 1e9)
        except BaseException as error:
            self.error = error

    def join(self) -> BaseException | None:
        """Wait until it has come back, and return what it has raised."""
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        return self.error


@pytest.fixture
def narrow() -> ManualRuntime:
    """Three pools with one worker each, which has an item; another one waits, and fills the pool."""
    manual = ManualRuntime(max_queued=1, pools={"mail": 1, "reports": 1})
    for pool in (None, "mail", "reports"):
        queue(manual, pool)
        executor = manual.sync if pool is None else manual.pools[pool][0]
        executor.start()
        queue(manual, pool)
        executor.lane.limits = Limits(running=1)
    return manual


def runs_in(manual: ManualRuntime, pool: str | None) -> WorkItem:
    """The item that runs in a pool."""
    lane = manual.sync.lane if pool is None else manual.pools[pool][0].lane
    return next(item for item in manual.scheduler.running_items() if item.lane is lane)


def test_room_goes_to_who_waits_for_that_pool(narrow: ManualRuntime) -> None:
    """Those who came before, and wait for others, keep their turn."""
    waiting = {pool: Patient(narrow, pool) for pool in (None, "mail", "reports")}
    for pool in ("reports", "mail"):
        narrow.pools[pool][0].start()
        assert waiting[pool].join() is None
        assert narrow.pools[pool][0].lane.waiting == 1
    assert waiting[None].thread.is_alive()
    narrow.scheduler.close()
    assert isinstance(waiting[None].join(), SchedulerClosed)


def test_item_may_wait_for_a_pool_that_goes_on(narrow: ManualRuntime) -> None:
    """What runs in its own pool does not matter: the other one has an item that ends."""
    patient = Patient(narrow, "mail", parent=runs_in(narrow, None))
    assert patient.thread.is_alive()
    narrow.pools["mail"][0].start()
    assert patient.join() is None


def test_items_that_wait_for_one_another_s_pools_are_refused(narrow: ManualRuntime) -> None:
    """The last one that comes is, since nothing that runs could make room any more."""
    first = Patient(narrow, "mail", parent=runs_in(narrow, None))
    last = Patient(narrow, None, parent=runs_in(narrow, "mail"))
    refused = last.join()
    assert isinstance(refused, QueueFull)
    assert "everything that runs waits for room itself" in str(refused)
    assert first.thread.is_alive()
    narrow.pools["mail"][0].start()
    assert first.join() is None


def test_items_may_wait_in_a_chain_that_goes_on(narrow: ManualRuntime) -> None:
    """One waits for a pool whose worker waits for another pool, which goes on."""
    first = Patient(narrow, "reports", parent=runs_in(narrow, "mail"))
    second = Patient(narrow, "mail", parent=runs_in(narrow, None))
    assert second.thread.is_alive()
    narrow.pools["reports"][0].start()
    assert first.join() is None
    narrow.pools["mail"][0].start()
    assert second.join() is None


def test_full_pool_s_name_is_told_to_who_has_waited(narrow: ManualRuntime) -> None:
    """The setting that is to be raised is that of the pool."""
    with pytest.raises(QueueFull, match=r'no room for 0 s, by QBWI\["POOLS"\]\["mail"\]\["MAX_QUEUED"\]'):
        narrow.scheduler.queue_with_patience(narrow.make(pool="mail"), lambda: None, 0.0, 0.0)
