"""The drain: one clock that only shrinks, the exit held for what is worth it, and let go at the limit."""

import signal
from collections.abc import Callable
from typing import Any

import pytest

from django_qbwi.core.admission import SchedulerState
from django_qbwi.core.cancellation import CancelReason, OperationCancelled
from django_qbwi.core.exceptions import SchedulerClosed, SchedulerDraining
from django_qbwi.core.items import WorkItem
from django_qbwi.core.ports import NullEnvironment
from django_qbwi.core.records import DrainOutcome, DrainStart, WorkItemStatus
from django_qbwi.hosting.immediate import run_immediately
from django_qbwi.lifecycle.drain import DrainCoordinator
from django_qbwi.lifecycle.drain_reports import NextInterrupt
from django_qbwi.lifecycle.last_moments import margin
from django_qbwi.lifecycle.phases import Phase
from tests.support.manual import ManualRuntime, anoop

S = WorkItemStatus


class Host:
    """A server with a limit, which counts its heartbeats."""

    def __init__(self, limits: dict[int | None, float]) -> None:
        self.limits = limits
        self.beats = 0

    def limit(self, signum: int | None) -> float | None:
        return self.limits.get(signum, self.limits.get(None))

    def beat(self) -> None:
        self.beats += 1


class Reports:
    """Writes down what is reported of a drain."""

    def __init__(self) -> None:
        self.started: list[tuple[str, float]] = []
        self.waiting: list[tuple[list[str], float]] = []
        self.finished: list[DrainOutcome] = []
        self.told: list[tuple[Any, ...]] = []

    def drain_started(self, start: DrainStart) -> None:
        self.started.append((start.sign, start.limit))
        self.told.append(("started", start.running, start.queued))

    def wait_begins(self, start: DrainStart, waited_for: list[WorkItem], remaining: float, hint: str | None) -> None:
        self.told.append(("wait", [item.name for item in waited_for], remaining, hint))

    def drain_waiting(self, waited_for: list[WorkItem], remaining: float) -> None:
        self.waiting.append(([item.name for item in waited_for], remaining))

    def drain_finished(self, outcome: DrainOutcome) -> None:
        self.told.append(("finished",))
        self.finished.append(outcome)

    @property
    def given_up(self) -> tuple[int, int]:
        """What the one drain has abandoned, and discarded."""
        (outcome,) = self.finished
        return outcome.abandoned, outcome.discarded


class Drain(ManualRuntime):
    """A coordinator on a scheduler that is moved by hand: waiting lets the time pass, and what is due happens."""

    def __init__(self, *, limits: dict[int | None, float] | None = None, **options: Any) -> None:
        drain_options = {name: options.pop(name) for name in ("shutdown_timeout", "cancel_after") if name in options}
        super().__init__(**options)
        self.host = Host(limits or {})
        self.reports = Reports()
        self.waits: list[float] = []
        self.raising: list[tuple[float, BaseException]] = []
        self.scheduler.wait_until_empty = self.wait  # type: ignore[method-assign]
        self.coordinator = DrainCoordinator(
            self.scheduler, self.reporter, self.reports, self.host, clock=self.clock, **drain_options
        )

    @property
    def deadline(self) -> float | None:
        """Seconds from the start of the test until the deadline."""
        deadline = self.scheduler.stop.deadline
        return None if deadline is None else deadline - 1_000

    def wait(self, timeout: float | None = None) -> bool:
        """Let time pass until the next thing is due, at most for `timeout`; a signal handler may raise."""
        assert timeout is not None
        assert timeout > 0
        self.waits.append(timeout)
        self.advance(0)
        if self.raising and self.raising[0][0] <= self.elapsed() + timeout:
            self.advance(max(0, self.raising[0][0] - self.elapsed()))
            raise self.raising.pop(0)[1]
        if not self.scheduler.is_empty:
            self.advance(timeout)
        return self.scheduler.is_empty

    def at(self, seconds: float, call: Callable[[], object]) -> None:
        """Have something happen so many seconds after the start of the test."""
        self.keeper.call_at(1_000 + seconds, call)

    def running(self, name: str = "slow", **options: Any) -> WorkItem:
        """Return an item that runs."""
        item = self.queue(name=name, **options)
        assert self.sync.start() is item
        return item

    def elapsed(self) -> float:
        """Seconds since the start of the test."""
        return self.clock() - 1_000


# The limit and the margin.


@pytest.mark.parametrize(("limit", "kept"), [(90.0, 2.0), (30.0, 2.0), (10.0, 1.0), (1.0, 0.1)])
def test_margin_is_a_tenth_and_two_seconds_at_most(limit: float, kept: float) -> None:
    """What is kept of the limit for the last records: min(2 s, L/10)."""
    assert margin(limit) == kept


@pytest.mark.parametrize(
    ("timeout", "host", "at_most", "deadline"),
    [
        (90.0, None, None, 88.0),
        (90.0, 30.0, None, 28.0),
        (10.0, 30.0, None, 9.0),
        (90.0, 30.0, 10.0, 9.0),
        (90.0, 0.0, None, 0.0),
    ],
)
def test_f35_shortest_limit_counts(timeout: float, host: float | None, at_most: float | None, deadline: float) -> None:
    """F35: the limit is the shortest of our own, the server's and that of the way of ending, less the margin."""
    drain = Drain(shutdown_timeout=timeout, limits={} if host is None else {None: host})
    drain.coordinator.sign("SIGTERM", at_most=at_most)
    assert drain.deadline == deadline


def test_first_sign_starts_the_clock() -> None:
    """The first sign makes the scheduler draining, cancels all tokens and sets their deadline."""
    drain = Drain()
    item = drain.running()
    assert not drain.coordinator.signed
    drain.coordinator.sign("SIGTERM")
    assert drain.coordinator.signed
    assert drain.scheduler.state is SchedulerState.DRAINING
    assert (item.token.reason, item.token.remaining()) == (CancelReason.SHUTDOWN, 88.0)
    assert "draining" in repr(drain.coordinator)


def test_second_sign_does_not_extend_the_deadline() -> None:
    """Signs of several layers do not add up: the deadline is that of the first one."""
    drain = Drain()
    drain.coordinator.sign("SIGTERM")
    drain.advance(10)
    drain.coordinator.sign("worker exit")
    assert drain.deadline == 88.0
    assert drain.reports.started == [("SIGTERM", 90.0)]


def test_second_sign_may_shorten_the_deadline() -> None:
    """A later sign of a quicker end counts: the deadline only ever shrinks."""
    drain = Drain(limits={int(signal.SIGQUIT): 5.0})
    drain.coordinator.sign("SIGTERM")
    drain.advance(1)
    drain.coordinator.sign("SIGQUIT", signal.SIGQUIT)
    assert drain.deadline == 5.5


def test_first_sign_is_reported_once() -> None:
    """One record says what started the drain and how long it may take."""
    drain = Drain()
    drain.running()
    for name in ("SIGTERM", "SIGTERM", "lifespan"):
        drain.coordinator.sign(name)
    drain.advance(0)
    assert drain.reports.started == [("SIGTERM", 90.0)]


def test_callbacks_run_on_the_keeper() -> None:
    """A sign only stores and posts: the callbacks of the tokens run when the keeper comes to it."""
    drain = Drain()
    item = drain.running()
    called: list[int] = []
    item.token.register(lambda: called.append(1))
    drain.coordinator.sign("SIGTERM")
    assert item.token.is_cancellation_requested
    assert called == []
    drain.advance(0)
    assert called == [1]


def test_cancel_after_leaves_the_items_undisturbed_for_a_while() -> None:
    """With CANCEL_AFTER the tokens know the deadline at once, and are cancelled so many seconds after the sign."""
    drain = Drain(cancel_after=20.0)
    item = drain.running()
    drain.coordinator.sign("SIGTERM")
    drain.advance(19)
    assert not item.token.is_cancellation_requested
    assert item.token.remaining() == 69.0
    drain.advance(1)
    assert item.token.reason is CancelReason.SHUTDOWN


def test_cancel_after_counts_from_the_first_sign() -> None:
    """A second sign does not start the undisturbed time again."""
    drain = Drain(cancel_after=20.0)
    item = drain.running()
    drain.coordinator.sign("SIGTERM")
    drain.advance(15)
    drain.coordinator.sign("worker exit")
    drain.advance(5)
    assert item.token.is_cancellation_requested


def test_normal_end_cancels_nobody() -> None:
    """A command that has come to its end waits for its items without cancelling them."""
    drain = Drain()
    item = drain.running()
    drain.coordinator.sign("the exit of the process", cancel=False)
    drain.advance(10)
    assert not item.token.is_cancellation_requested
    assert item.token.remaining() == 78.0


def test_stop_signal_at_the_normal_end_cancels() -> None:
    """A stop signal in that wait cancels at once."""
    drain = Drain()
    item = drain.running()
    drain.coordinator.sign("the exit of the process", cancel=False)
    drain.coordinator.stop_signal("SIGTERM", signal.SIGTERM, repeated=False)
    assert item.token.is_cancellation_requested


# Items that begin later in the drain (G45).


@pytest.mark.parametrize(("begins", "until"), [(0, 44.0), (8, 48.0), (48, 68.0), (87, 87.5)])
def test_g45_item_that_begins_later_is_undisturbed_for_half_of_the_rest(begins: float, until: float) -> None:
    """G45: an item that waited for its turn has half of the time that is left then; then its token is cancelled too."""
    drain = Drain()
    first, waiting = drain.running(), drain.queue(name="waiting")
    drain.coordinator.sign("SIGTERM")
    drain.advance(begins)
    assert drain.sync.start() is waiting
    waiting.token.raise_if_cancellation_requested()
    assert (first.token.reason, waiting.token.remaining()) == (CancelReason.SHUTDOWN, 88.0 - begins)
    drain.advance(until - begins - 0.01)
    assert not waiting.token.is_cancellation_requested
    drain.advance(0.01)
    assert waiting.token.reason is CancelReason.SHUTDOWN


def test_g45_many_items_that_look_at_their_token_first_are_done() -> None:
    """G45: of 40 items that begin with a look at their token, all that start in the drain are done."""
    drain = Drain()
    items = [drain.queue() for _ in range(40)]
    first = drain.sync.start()
    drain.coordinator.sign("SIGTERM")
    for item in items[1:]:
        assert drain.sync.start() is item
        item.token.raise_if_cancellation_requested()
        drain.advance(1)
        drain.sync.finish(item)
    drain.sync.finish(items[0], OperationCancelled(items[0].token))
    drain.coordinator.hold(last=True)
    assert first is items[0]
    (outcome,) = drain.reports.finished
    assert (outcome.finished, outcome.cancelled, outcome.abandoned, outcome.discarded) == (39, 1, 0, 0)


def test_g45_token_that_is_asked_while_its_item_waits() -> None:
    """G45: the token of a queued item is not cancelled by the stop, and a look at it changes nothing."""
    drain = Drain()
    item = drain.queue()
    drain.coordinator.sign("SIGTERM")
    assert (item.token.reason, item.info().cancel_reason, item.token.remaining()) == (None, None, 88.0)
    drain.sync.start()
    drain.advance(43)
    assert item.token.reason is None
    drain.advance(1)
    assert item.token.reason is CancelReason.SHUTDOWN


@pytest.mark.parametrize("registers", ["queued", "begun"])
def test_g45_who_waits_for_a_late_token_is_woken(registers: str) -> None:
    """G45: a callback of such a token is called when its time is over, whenever it was registered."""
    drain = Drain()
    item = drain.queue()
    called: list[float] = []
    if registers == "queued":
        item.token.register(lambda: called.append(drain.elapsed()))
    drain.coordinator.sign("SIGTERM")
    drain.advance(8)
    drain.sync.start()
    if registers == "begun":
        item.token.register(lambda: called.append(drain.elapsed()))
    for _ in range(50):
        drain.advance(1)
    assert called == [48]


def test_g45_early_waiter_of_a_token_hears_of_the_stop() -> None:
    """A callback that was registered before its item began is called at the first sign, as any other."""
    drain = Drain()
    item = drain.queue()
    called: list[float] = []
    item.token.register(lambda: called.append(drain.elapsed()))
    drain.sync.start()
    drain.advance(1)
    drain.coordinator.sign("SIGTERM")
    drain.advance(0)
    assert (called, item.token.reason) == ([1], CancelReason.SHUTDOWN)


def test_g45_waiters_of_late_tokens_are_woken_one_after_the_other() -> None:
    """G45: each late item has a moment of its own; a callback that was taken back is not called."""
    drain = Drain()
    called: list[tuple[str, float]] = []
    drain.queue(name="first")
    drain.queue(name="second")
    drain.coordinator.sign("SIGTERM")
    for name in ("first", "second"):
        item = drain.sync.start()
        assert item is not None
        item.token.register(lambda name=name: called.append((name, drain.elapsed())))
        item.token.register(lambda: pytest.fail("taken back")).close()
        drain.advance(8)
    for _ in range(60):
        drain.advance(1)
    assert called == [("first", 44), ("second", 48)]


def test_g45_shorter_deadline_shortens_the_undisturbed_time() -> None:
    """G45: when a later sign leaves less time, the half shrinks with it."""
    drain = Drain(limits={int(signal.SIGQUIT): 20.0})
    item = drain.queue()
    called: list[float] = []
    drain.coordinator.sign("SIGTERM")
    drain.sync.start()
    item.token.register(lambda: called.append(drain.elapsed()))
    drain.coordinator.sign("SIGQUIT", signal.SIGQUIT)
    for _ in range(20):
        drain.advance(1)
    assert called == [9]


def test_g45_late_item_can_be_cancelled_by_others_meanwhile() -> None:
    """G45: within the undisturbed time `cancel()` is the first to cancel, and its reason stands."""
    drain = Drain()
    item = drain.queue()
    drain.coordinator.sign("SIGTERM")
    drain.sync.start()
    assert drain.scheduler.cancel(item) is True
    drain.advance(60)
    assert item.token.reason is CancelReason.REQUESTED


def test_g45_timeout_of_a_late_item_comes_first() -> None:
    """G45: its own timeout may be over before its half of the drain."""
    drain = Drain()
    item = drain.queue(timeout=3.0)
    drain.coordinator.sign("SIGTERM")
    drain.sync.start()
    assert item.token.remaining() == 3.0
    drain.advance(3)
    assert item.token.reason is CancelReason.TIMEOUT


def test_g45_second_interrupt_cancels_late_items_too() -> None:
    """G45: when the end is forced, nobody is spared."""
    drain = Drain()
    item = drain.queue()
    called: list[int] = []
    drain.coordinator.sign("SIGTERM")
    drain.sync.start()
    item.token.register(lambda: called.append(1))
    drain.advance(2)
    drain.coordinator.force()
    assert item.token.reason is CancelReason.SHUTDOWN
    drain.advance(0)
    assert called == [1]


def test_g45_stop_signal_in_an_undisturbed_wait_cancels_all_that_run() -> None:
    """At the normal end of a command nobody is cancelled; a stop signal then cancels at once whoever runs."""
    drain = Drain()
    item, waiting = drain.queue(), drain.queue()
    drain.coordinator.sign("the exit of the process", cancel=False)
    drain.sync.start()
    drain.advance(8)
    drain.coordinator.stop_signal("SIGTERM", signal.SIGTERM, repeated=False)
    drain.sync.start()
    assert item.token.reason is CancelReason.SHUTDOWN
    assert waiting.token.reason is None
    drain.advance(40)
    assert waiting.token.reason is CancelReason.SHUTDOWN


@pytest.mark.parametrize(("cancel_after", "until"), [(10.0, 46.0), (60.0, 60.0)])
def test_g45_cancel_after_and_the_half_both_count(cancel_after: float, until: float) -> None:
    """G45: an item that begins while CANCEL_AFTER runs has the longer one of both spans."""
    drain = Drain(cancel_after=cancel_after)
    item = drain.queue()
    called: list[float] = []
    drain.coordinator.sign("SIGTERM")
    drain.advance(4)
    drain.sync.start()
    item.token.register(lambda: called.append(drain.elapsed()))
    for _ in range(70):
        drain.advance(1)
    assert called == [until]


def test_g45_callbacks_of_items_that_never_began_are_called_at_the_limit() -> None:
    """Who waits for the token of an item that is discarded does not wait for ever."""
    drain = Drain(shutdown_timeout=20.0)
    item = drain.queue()
    called: list[int] = []
    item.token.register(lambda: called.append(1))
    drain.coordinator.sign("SIGTERM")
    drain.coordinator.hold(last=True)
    drain.advance(0)
    assert (item.status, item.cancel_reason, called) == (S.DISCARDED, CancelReason.SHUTDOWN, [1])


# Forcing.


@pytest.mark.parametrize("name", ["SIGINT", "SIGQUIT"])
def test_f33_second_interrupt_forces(name: str) -> None:
    """F33: a second Ctrl-C, more than a second after the first stop signal, ends the wait at once."""
    drain = Drain()
    drain.running()
    number = getattr(signal, name)
    drain.coordinator.stop_signal(name, number, repeated=False)
    drain.at(7, lambda: drain.coordinator.stop_signal(name, number, repeated=True))
    drain.coordinator.hold(last=True)
    assert drain.elapsed() < 9
    assert drain.reports.given_up == (1, 0)


def test_f33_repeated_sigterm_never_forces() -> None:
    """F33: gunicorn repeats SIGTERM every second: the items keep their time."""
    drain = Drain()
    item = drain.running()
    for second in range(40):
        drain.at(
            second, lambda second=second: drain.coordinator.stop_signal("SIGTERM", signal.SIGTERM, repeated=second > 1)
        )
    drain.at(40, lambda: drain.sync.finish(item))
    drain.coordinator.hold(last=True)
    assert item.status is S.SUCCEEDED


@pytest.mark.parametrize(("second", "status"), [(0.5, S.SUCCEEDED), (3.0, S.ABANDONED)])
def test_duplicates_within_a_second_are_one(second: float, status: WorkItemStatus) -> None:
    """Two KeyboardInterrupts within a second are one stop; a later one forces."""
    drain = Drain()
    item = drain.running()
    drain.coordinator.stop_signal("SIGINT", signal.SIGINT, repeated=False)
    drain.at(10, lambda: drain.sync.finish(item))
    drain.clock.advance(second)
    drain.raising.append((0, KeyboardInterrupt()))
    drain.coordinator.hold(last=True)
    assert item.status is status


def test_first_interrupt_of_an_undisturbed_wait_cancels() -> None:
    """In the wait of a command the first KeyboardInterrupt cancels the items, the second one forces."""
    drain = Drain()
    item = drain.running()
    called: list[float] = []
    item.token.register(lambda: called.append(drain.elapsed()))
    drain.coordinator.sign("the exit of the process", cancel=False)
    drain.raising += [(5, KeyboardInterrupt()), (8, KeyboardInterrupt())]
    drain.coordinator.hold(last=True)
    assert called == [5]
    assert drain.elapsed() == 8.5
    assert item.status is S.ABANDONED


def test_first_interrupt_of_a_reload_does_not_force() -> None:
    """A reload is no stop signal: the first Ctrl-C in its wait is the first one, and only the second one forces."""
    drain = Drain()
    item = drain.running()
    drain.coordinator.restart(at_most=10.0)
    assert drain.deadline == 9.0
    drain.raising += [(3, KeyboardInterrupt()), (5, KeyboardInterrupt())]
    drain.coordinator.hold(last=True)
    assert item.status is S.ABANDONED
    assert 5 <= drain.elapsed() < 6


def test_no_exception_gets_out_of_the_hold() -> None:
    """R22: what signal handlers raise into the wait does not skip the exit hooks of other libraries."""
    drain = Drain()
    item = drain.running()
    drain.coordinator.sign("SIGTERM")
    drain.raising += [(1, SystemExit(1)), (2, ValueError("from a handler"))]
    drain.at(4, lambda: drain.sync.finish(item))
    drain.coordinator.hold(last=True)
    assert item.status is S.SUCCEEDED


def test_exception_in_the_look_whether_it_is_over() -> None:
    """R22: the same for one that arrives while the hold looks at the scheduler."""
    drain = Drain()
    item = drain.running()
    drain.coordinator.sign("SIGTERM")
    drain.at(3, lambda: drain.sync.finish(item))
    look = drain.scheduler.close_if_empty
    errors = [SystemExit(1), KeyboardInterrupt()]

    def interrupted() -> bool:
        if errors:
            raise errors.pop()
        return look()

    drain.scheduler.close_if_empty = interrupted  # type: ignore[method-assign]
    drain.coordinator.hold(last=True)
    assert item.status is S.SUCCEEDED


def test_exception_while_letting_go_is_swallowed() -> None:
    """R22: a further Ctrl-C while letting go changes nothing: there is nothing left to shorten."""
    drain = Drain(shutdown_timeout=10.0)
    item = drain.running()
    drain.coordinator.sign("SIGTERM")
    drain.raising += [(9.05, KeyboardInterrupt()), (9.3, SystemExit(1))]
    drain.coordinator.hold(last=True)
    assert item.status is S.ABANDONED
    assert drain.sync.retired == 1


# What is told, and in which order (G39, G40).


def test_g40_start_is_told_before_the_end() -> None:
    """G40: though the keeper comes to the first sign only when the exit has been held: one writer, one order."""
    drain = Drain()
    item = drain.running()
    drain.keeper.stuck = True
    drain.coordinator.sign("SIGTERM")
    drain.sync.finish(item)
    drain.coordinator.hold(last=True)
    drain.keeper.stuck = False
    drain.advance(1)
    assert [event[0] for event in drain.reports.told] == ["started", "wait", "finished"]


@pytest.mark.parametrize("last", [False, True])
def test_g40_drain_without_items_has_nothing_to_wait_for(last: bool) -> None:
    """G40: it is told of, for the signals, but nothing is waited for: there is no record."""
    drain = Drain()
    drain.sync.finish(drain.running())
    drain.coordinator.sign("SIGTERM")
    drain.coordinator.hold(last=last)
    drain.coordinator.hold(last=True)
    assert drain.reports.told == [("started", 0, 0), ("finished",)]


def test_g40_item_that_comes_after_the_sign_is_waited_for() -> None:
    """G40: a drain that has nothing to wait for at its first sign may have later."""
    drain = Drain()
    drain.sync.finish(drain.running())
    drain.coordinator.sign("SIGTERM")
    drain.advance(1)
    late = drain.running("late")
    drain.at(3, lambda: drain.sync.finish(late))
    drain.coordinator.hold(last=True)
    assert drain.reports.told == [
        ("started", 0, 0),
        ("wait", ["late"], 87.0, NextInterrupt.ENDS),
        ("finished",),
    ]


def _at_normal_end(coordinator: DrainCoordinator) -> None:
    coordinator.sign("the exit of the process", cancel=False)


def _at_reload(coordinator: DrainCoordinator) -> None:
    coordinator.restart(at_most=10.0)


def _at_interrupt(coordinator: DrainCoordinator) -> None:
    coordinator.stop_signal("SIGINT", signal.SIGINT, repeated=False)


def _at_end_of_settings(coordinator: DrainCoordinator) -> None:
    coordinator.has_audience = False
    coordinator.sign("the end of its settings")


@pytest.mark.parametrize(
    ("ends", "remaining", "hint"),
    [
        (_at_normal_end, 88.0, NextInterrupt.CANCELS),
        (_at_reload, 9.0, NextInterrupt.COUNTS),
        (_at_interrupt, 88.0, NextInterrupt.ENDS),
        (_at_end_of_settings, 88.0, None),
    ],
)
def test_g39_person_is_told_at_once(
    ends: Callable[[DrainCoordinator], None], remaining: float, hint: NextInterrupt | None
) -> None:
    """G39: what is waited for, for how long, and what the next Ctrl-C does, in the moment of the first sign."""
    drain = Drain()
    drain.running("thumbnails")
    drain.queue(name="mail")
    ends(drain.coordinator)
    drain.advance(0)
    assert drain.reports.told == [("started", 1, 1), ("wait", ["thumbnails", "mail"], remaining, hint)]


# One clock for the last moments too (G28).


@pytest.mark.parametrize(("limit", "ends_by"), [(90.0, 90.0), (10.0, 10.0), (3.0, 3.0), (1.0, 1.15)])
def test_g28_waits_after_the_limit_do_not_add_up(limit: float, ends_by: float) -> None:
    """G28: with an item that stays, on the loop, and a handler that blocks, all last moments end by one moment."""
    drain = Drain(shutdown_timeout=limit)
    drain.queue(anoop)
    drain.loop.start()
    drain.reporter.flush = lambda timeout: drain.wait(timeout) and False  # type: ignore[method-assign]
    drain.reporter.stuck = True
    drain.coordinator.sign("SIGTERM")
    drain.coordinator.hold(last=True)
    assert drain.coordinator.ends_by == pytest.approx(1_000 + ends_by)
    assert drain.elapsed() <= ends_by
    assert drain.coordinator.gave_up


def test_g28_end_that_comes_late_has_a_moment_left() -> None:
    """G28: a server that comes back after the limit leaves a quarter of a second for the last records."""
    drain = Drain(shutdown_timeout=3.0)
    drain.running()
    drain.coordinator.sign("SIGTERM")
    drain.clock.advance(5)
    drain.coordinator.hold(last=True)
    assert drain.coordinator.ends_by == pytest.approx(1_005.25)
    assert drain.reports.given_up == (1, 0)


def test_g28_items_that_ended_leave_the_records_their_time() -> None:
    """G28: long before the limit the last moments begin when nothing is left."""
    drain = Drain()
    item = drain.running()
    drain.coordinator.sign("SIGTERM")
    drain.at(3, lambda: drain.sync.finish(item))
    drain.coordinator.hold(last=True)
    assert drain.coordinator.ends_by == 1_005
    assert not drain.coordinator.gave_up


@pytest.mark.parametrize("stuck", [False, True])
def test_g28_stuck_handler_counts_as_something_left_behind(stuck: bool) -> None:
    """G28: though all items have ended: the interpreter closes all handlers at its exit, and would wait for it."""
    drain = Drain()
    drain.sync.finish(drain.running())
    drain.reporter.stuck = stuck
    drain.coordinator.sign("SIGTERM")
    drain.coordinator.hold(last=True)
    assert drain.coordinator.gave_up is stuck


# Holding.


def test_f31_hold_without_items_returns_at_once() -> None:
    """F31: a process that has never queued anything closes, and waits for nothing."""
    drain = Drain()
    drain.coordinator.hold(last=True)
    assert drain.scheduler.state is SchedulerState.CLOSED
    assert drain.waits == []


def test_first_hold_of_an_unused_scheduler_leaves_it_open() -> None:
    """A server's own exit hook does not close."""
    drain = Drain()
    drain.coordinator.hold(last=False)
    assert drain.scheduler.state is SchedulerState.OPEN


def test_f32_hold_waits_for_the_last_item() -> None:
    """F32: the exit is held until nothing is queued or running; then the scheduler is closed, and its threads end."""
    drain = Drain()
    running, queued = drain.running(), drain.queue()
    drain.coordinator.sign("SIGTERM")
    drain.at(3, lambda: drain.sync.finish(running))
    drain.at(4, drain.sync.start)
    drain.at(6, lambda: drain.sync.finish(queued))
    drain.coordinator.hold(last=True)
    assert (running.status, queued.status) == (S.SUCCEEDED, S.SUCCEEDED)
    assert drain.elapsed() == 6
    assert drain.scheduler.state is SchedulerState.CLOSED
    assert drain.sync.retired == drain.loop.retired == 1
    assert drain.reports.finished == [DrainOutcome(finished=2, cancelled=0, abandoned=0, discarded=0, elapsed=6.0)]


def test_r21_only_the_last_hold_closes() -> None:
    """R21: after the server's own hook requests that are still served may queue; in the final hold theirs may not."""
    drain = Drain()
    drain.running()
    drain.coordinator.sign("SIGTERM")
    drain.at(2, lambda: drain.sync.finish(next(iter(drain.sync.contexts))))
    drain.coordinator.hold(last=False)
    assert drain.scheduler.state is SchedulerState.DRAINING
    late = drain.running()
    with pytest.raises(SchedulerDraining):
        drain.sync.contexts[late].run(drain.queue)
    drain.at(4, lambda: drain.sync.finish(late))
    drain.coordinator.hold(last=True)
    with pytest.raises(SchedulerClosed):
        drain.queue()


def test_several_holds_share_one_deadline() -> None:
    """The limits of several hooks do not add up."""
    drain = Drain(shutdown_timeout=20.0)
    drain.running()
    drain.coordinator.sign("SIGTERM")
    drain.coordinator.hold(last=False)
    assert drain.elapsed() == 18
    drain.coordinator.hold(last=True)
    assert drain.elapsed() < 20


def test_heartbeats_go_on_while_the_exit_is_held() -> None:
    """The server hears of the process every second, or it would kill it."""
    drain = Drain()
    item = drain.running()
    drain.coordinator.sign("SIGTERM")
    drain.at(30, lambda: drain.sync.finish(item))
    drain.coordinator.hold(last=True)
    assert drain.host.beats >= 30
    assert max(drain.waits) <= 1


def test_waited_for_items_are_named_every_five_seconds() -> None:
    """While the exit is held, a record every 5 s names the items and the seconds that are left."""
    drain = Drain()
    item = drain.running("thumbnails")
    drain.coordinator.sign("SIGTERM")
    drain.at(12, lambda: drain.sync.finish(item))
    drain.coordinator.hold(last=True)
    assert drain.reports.waiting == [(["thumbnails"], 83.0), (["thumbnails"], 78.0)]


def test_few_of_many_waited_for_items_are_named() -> None:
    """The record is bounded, however many items there are."""
    drain = Drain()
    for _ in range(100):
        drain.queue()
    drain.coordinator.sign("SIGTERM", at_most=8)
    drain.coordinator.hold(last=True)
    assert len(drain.reports.waiting[0][0]) == 20


# Letting go.


def test_limit_abandons_and_discards() -> None:
    """At the limit what runs is ABANDONED and what is queued DISCARDED, each with a record, the running ones first."""
    drain = Drain(shutdown_timeout=20.0)
    queued, running = drain.queue(), None
    running = drain.sync.start()
    other = drain.queue()
    assert running is queued
    drain.coordinator.sign("SIGTERM")
    drain.coordinator.hold(last=True)
    assert (queued.status, other.status) == (S.ABANDONED, S.DISCARDED)
    reported = [(item, status) for event, item, status in drain.observer.events if event == "finished"]
    assert reported == [(queued, S.ABANDONED), (other, S.DISCARDED)]
    assert drain.reports.given_up == (1, 1)
    assert drain.coordinator.gave_up
    assert 18 <= drain.elapsed() <= 20


def test_async_items_get_a_last_moment() -> None:
    """Async items are interrupted where they stand, and may end in the moment before the others are given up."""
    drain = Drain(shutdown_timeout=20.0)
    drain.queue(anoop)
    item = drain.loop.start()
    assert item is not None
    drain.coordinator.sign("SIGTERM")
    drain.loop.cancel_natively = lambda items: drain.keeper.post(  # type: ignore[method-assign]
        lambda: drain.loop.finish(item, OperationCancelled(item.token))
    )
    drain.coordinator.hold(last=True)
    assert item.status is S.CANCELLED
    assert not drain.coordinator.gave_up


def test_tokens_are_cancelled_at_the_limit_at_the_latest() -> None:
    """At the normal end of a command nobody was cancelled; at the limit everybody is: the last moment is CANCELLED."""
    drain = Drain(shutdown_timeout=20.0)
    drain.queue(anoop)
    item = drain.loop.start()
    assert item is not None
    called: list[int] = []
    item.token.register(lambda: called.append(1))
    drain.coordinator.sign("the exit of the process", cancel=False)
    drain.loop.cancel_natively = lambda items: drain.keeper.post(  # type: ignore[method-assign]
        lambda: drain.loop.finish(item, OperationCancelled(item.token))
    )
    drain.coordinator.hold(last=True)
    assert (item.status, item.cancel_reason, called) == (S.CANCELLED, CancelReason.SHUTDOWN, [1])


def test_f49_stuck_reporter_does_not_hold_the_exit() -> None:
    """F49: a logging handler or a receiver that blocks for ever costs half the margin; the statuses stand."""
    drain = Drain(shutdown_timeout=20.0)
    item = drain.running()
    drain.reporter.stuck = True
    drain.coordinator.sign("SIGTERM")
    drain.coordinator.hold(last=True)
    assert item.status is S.ABANDONED
    assert drain.elapsed() <= 20
    assert drain.sync.retired == 1
    assert drain.reports.finished == []


def test_item_that_ends_while_letting_go_is_left_alone() -> None:
    """R3: an item whose status is decided in the last moment keeps it, and is reported by its own worker."""
    drain = Drain(shutdown_timeout=20.0)
    item = drain.running()
    drain.coordinator.sign("SIGTERM")
    drain.at(18.2, lambda: drain.sync.finish(item))
    drain.coordinator.hold(last=True)
    assert item.status is S.SUCCEEDED
    assert drain.reports.given_up == (0, 0)


# In the background.


def test_background_drain_ends_with_the_last_item() -> None:
    """Where a signal would have killed the process, the keeper drains and then calls what kills it after all."""
    drain = Drain()
    item = drain.running("thumbnails")
    ended: list[float] = []
    drain.coordinator.sign("SIGTERM")
    drain.coordinator.drain_in_background(lambda: ended.append(drain.elapsed()))
    for _ in range(70):
        drain.advance(0.1)
    assert ended == []
    drain.sync.finish(item)
    drain.advance(0.1)
    drain.advance(0.1)
    assert len(ended) == 1
    assert drain.scheduler.state is SchedulerState.CLOSED
    assert [names for names, _ in drain.reports.waiting] == [["thumbnails"]]
    assert drain.host.beats > 60
    assert len(drain.reports.finished) == 1


def test_background_drain_lets_go_at_the_limit() -> None:
    """It has the same limit as any other drain."""
    drain = Drain(shutdown_timeout=2.0)
    item = drain.running()
    ended: list[int] = []
    drain.coordinator.sign("SIGTERM")
    drain.coordinator.drain_in_background(lambda: ended.append(1))
    for _ in range(25):
        drain.advance(0.1)
    assert ended == [1]
    assert item.status is S.ABANDONED


def test_background_drain_leaves_the_end_to_the_last_hook() -> None:
    """If the process comes to its exit by itself meanwhile, the hold there goes on alone."""
    drain = Drain()
    item = drain.running()
    drain.coordinator.sign("SIGTERM")
    drain.coordinator.drain_in_background(lambda: pytest.fail("called"))
    drain.at(3, lambda: drain.sync.finish(item))
    drain.coordinator.hold(last=True)
    drain.advance(10)
    assert len(drain.reports.finished) == 1


def test_reporter_stands_in_for_a_stuck_keeper() -> None:
    """A callback of somebody's token that never returns does not keep the process past its limit."""
    drain = Drain(shutdown_timeout=10.0)
    item = drain.running()
    ended: list[float] = []
    drain.coordinator.sign("SIGTERM")
    drain.coordinator.drain_in_background(lambda: ended.append(drain.elapsed()))
    drain.keeper.stuck = True
    for _ in range(110):
        drain.advance(0.1)
    assert item.status is S.ABANDONED
    assert ended == [pytest.approx(9.4, abs=0.2)]
    assert len(drain.reports.finished) == 1
    drain.keeper.stuck = False
    drain.advance(1.0)
    assert len(drain.reports.finished) == 1


@pytest.mark.parametrize("limits", [{}, {None: 6.0}], ids=["ours", "the-server's"])
def test_reporter_lets_go_while_requests_hold_the_process(limits: dict[int | None, float]) -> None:
    """A request that outlasts the limit keeps the exit from its hold: what runs and waits is told of all the same."""
    drain = Drain(limits=limits, shutdown_timeout=10.0)
    running, waiting = drain.running(), drain.queue()
    drain.coordinator.sign("SIGTERM")
    limit = 6.0 if limits else 10.0
    drain.advance(limit - margin(limit))
    assert running.status is S.RUNNING
    drain.advance(margin(limit) / 4)
    drain.advance(0)
    assert (running.status, waiting.status, drain.reports.given_up) == (S.ABANDONED, S.DISCARDED, (1, 1))
    with pytest.raises(SchedulerClosed):
        drain.queue()
    assert drain.elapsed() < limit
    # The requests have ended all the same, before the server has killed the process.
    drain.coordinator.hold(last=True)
    assert drain.coordinator.phase is Phase.OVER
    assert len(drain.reports.finished) == 1


def test_reporter_leaves_it_to_who_lets_go_already() -> None:
    """There is one end, though the limit passes for the reporter too, behind the thread that holds the exit."""
    drain = Drain(shutdown_timeout=10.0)
    running = drain.running()
    drain.coordinator.sign("SIGTERM")
    drain.coordinator.hold(last=True)
    drain.advance(5.0)
    assert (running.status, drain.reports.given_up) == (S.ABANDONED, (1, 0))


def test_second_interrupt_ends_it_though_the_keeper_is_stuck() -> None:
    """A moment later, which is for the keeper."""
    drain = Drain(shutdown_timeout=10.0)
    drain.running()
    ended: list[float] = []
    drain.coordinator.sign("SIGTERM")
    drain.coordinator.drain_in_background(lambda: ended.append(drain.elapsed()))
    drain.keeper.stuck = True
    drain.advance(2.0)
    drain.coordinator.force()
    for _ in range(10):
        drain.advance(0.1)
    assert ended == [pytest.approx(2.4, abs=0.2)]


def test_first_item_in_the_last_moment_is_waited_for_until_the_limit() -> None:
    """An item that comes when the exit has been looked at already is signed for then: it has a limit like any other."""
    drain = Drain(shutdown_timeout=10.0)
    item = drain.running()
    drain.coordinator.hold(last=False)
    assert drain.elapsed() == 9.0
    assert item.token.is_cancellation_requested


def test_last_hold_is_over_when_its_records_are_written() -> None:
    """From then on a stop signal does what it does without us."""
    drain = Drain()
    drain.sync.finish(drain.running())
    drain.coordinator.sign("SIGTERM")
    assert not drain.coordinator.holds_last
    drain.reports.drain_finished = lambda *args: held.append(drain.coordinator.holds_last)  # type: ignore[method-assign]
    held: list[bool] = []
    drain.coordinator.hold(last=True)
    assert held == [True]
    assert not drain.coordinator.holds_last


def test_last_hook_holds_though_a_drain_in_the_background_is_asked_for_meanwhile() -> None:
    """What the keeper begins when an exit seems not to come changes nothing for a stop signal in that exit."""
    drain = Drain()
    item = drain.running()
    held: list[bool] = []
    drain.coordinator.sign("SIGTERM")
    drain.at(1, lambda: drain.coordinator.drain_in_background(lambda: pytest.fail("called")))
    drain.at(2, lambda: held.append(drain.coordinator.holds_last))
    drain.at(3, lambda: drain.sync.finish(item))
    drain.coordinator.hold(last=True)
    drain.advance(5)
    assert (held, len(drain.reports.finished)) == ([True], 1)


def test_end_is_told_once() -> None:
    """However many hooks come to the end, one record says so."""
    drain = Drain()
    drain.sync.finish(drain.running())
    drain.coordinator.sign("SIGTERM")
    drain.coordinator.hold(last=True)
    drain.coordinator.hold(last=True)
    assert len(drain.reports.finished) == 1


def test_force_wakes_who_holds_the_exit() -> None:
    """Forcing sets the deadline to now, cancels, and nudges the wait through the keeper."""
    drain = Drain()
    item = drain.running()
    nudges: list[int] = []
    drain.scheduler.nudge = lambda: nudges.append(1)  # type: ignore[method-assign]
    drain.coordinator.force()
    assert drain.deadline == 0.0
    assert item.token.is_cancellation_requested
    assert nudges == []
    drain.advance(0)
    assert nudges == [1]


def test_item_given_up_where_it_runs_at_the_call_is_told_of_once() -> None:
    """Its first end stands, as that of an item in a thread of ours."""
    drain = Drain()

    def outlive(token: object) -> None:
        for left in drain.scheduler.give_up():
            drain.scheduler.report_unstarted(left)

    item = drain.make(outlive)
    run_immediately(drain.scheduler, item, NullEnvironment().scope)
    assert item.status is S.ABANDONED
    assert drain.observer.names(item) == ["queued", "started", "finished", "late"]


# What is kept of the items elsewhere.


class Writes:
    """Notes until when it may write, and what was reported by then."""

    pending = True

    def __init__(self, drain: Drain) -> None:
        self.drain = drain
        self.told: list[tuple[float, list[Any]]] = []

    def write(self, until: float) -> None:
        """Note it."""
        self.told.append((until, [told[0] for told in self.drain.reports.told]))


def written(drain: Drain) -> Writes:
    """Have something kept of the items of a drain."""
    writes = Writes(drain)
    drain.coordinator.last_writes = writes
    return writes


def test_what_is_kept_is_written_behind_the_records() -> None:
    """Once, by the last hook alone, with time for it that is a part of the last moments."""
    drain = Drain(shutdown_timeout=10.0)
    drain.running()
    writes = written(drain)
    drain.coordinator.sign("SIGTERM")
    drain.coordinator.hold(last=False)
    assert writes.told == []
    drain.coordinator.hold(last=True)
    ((until, told),) = writes.told
    assert until == pytest.approx(1_009.8)
    assert told[-1] == "finished"
    assert drain.coordinator.ends_by == 1_010


@pytest.mark.parametrize(("limit", "until"), [(90.0, 1_004.6), (4.0, 1_003.6), (3.2, 1_003.2)])
def test_drain_that_ends_early_has_time_for_a_slow_database(limit: float, until: float) -> None:
    """As far as the limit leaves it."""
    drain = Drain(shutdown_timeout=limit)
    item = drain.running()
    writes = written(drain)
    drain.coordinator.sign("SIGTERM")
    drain.clock.advance(3)
    drain.sync.finish(item)
    drain.coordinator.hold(last=True)
    assert writes.told[0][0] == pytest.approx(until)


def test_reporter_that_stands_in_writes_what_is_kept() -> None:
    """Behind the records that it has posted to itself."""
    drain = Drain(shutdown_timeout=10.0)
    drain.running()
    writes = written(drain)
    drain.coordinator.sign("SIGTERM")
    drain.advance(10)
    ((_, told),) = writes.told
    assert told[-1] == "finished"


def test_signal_that_strikes_the_last_write_ends_it() -> None:
    """As it does all waits of the end."""
    drain = Drain()
    item = drain.running()

    def strike(until: float) -> None:
        raise KeyboardInterrupt

    written(drain).write = strike  # type: ignore[method-assign]
    drain.coordinator.sign("SIGTERM")
    drain.sync.finish(item)
    drain.coordinator.hold(last=True)
    assert drain.scheduler.state == "closed"
