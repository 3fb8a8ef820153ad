"""Any order of ticks, ends, kills, drains, full queues and broken connections: no tick runs twice, none stays due."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from django_qbwi import QueueFull, WorkItemStatus
from django_qbwi.contrib.schedules.declared import Schedule
from django_qbwi.contrib.schedules.models import ScheduleState
from django_qbwi.contrib.schedules.store import LEASE
from django_qbwi.contrib.schedules.ticker import RENEW_SECONDS
from tests.contrib.schedules.conftest import ALIAS
from tests.contrib.schedules.test_ticker import START, BrokenStore, Handle, Process, minutely, row
from tests.support.clock import FakeClock

PLACES = st.integers(0, 2)
ENDINGS = [WorkItemStatus.SUCCEEDED, WorkItemStatus.FAILED, WorkItemStatus.CANCELLED]


class Watched(Process):
    """A process that notes what it starts, and when it was last heard of."""

    def __init__(self, site: Site, time: FakeClock) -> None:
        self.site = site
        self.time = time
        self.live: dict[Handle, int] = {}
        self.heard_at = time()
        self.store = BrokenStore()
        super().__init__(time, minutely(), store=self.store)

    def _start(self, schedule: Schedule) -> Handle:
        handle = super()._start(schedule)
        try:
            self.site.started(self, handle)
        except AssertionError as error:
            # The ticker takes it for an error of the run.
            self.site.violations.append(error)
        return handle

    def run(self) -> int:
        """Do what is due."""
        found = super().run()
        if not self.ticker.is_failing:
            self.heard_at = self.time()
        return found


class Site(RuleBasedStateMachine):
    """Three processes, of which each may be in any trouble."""

    @initialize()
    def begin(self) -> None:
        ScheduleState.objects.using(ALIAS).all().delete()
        self.time = FakeClock(START)
        self.ticks: set[int] = set()
        self.violations: list[AssertionError] = []
        self.processes = [Watched(self, self.time) for _ in range(3)]

    def started(self, process: Watched, handle: Handle) -> None:
        """Note a run: its tick is new, and no other run goes on of a process that was heard of."""
        tick = row().tick_ms
        assert tick is not None
        assert tick not in self.ticks
        assert tick <= self.time() * 1000
        assert process.open
        self.ticks.add(tick)
        for other in self.processes:
            silent = self.time() - other.heard_at
            assert not other.live or silent >= LEASE / 1000 - RENEW_SECONDS, "two runs at once"
            # They are lost from now on, also if the process is heard of again.
            other.live.clear()
        process.live[handle] = tick

    @invariant()
    def nothing_runs_twice(self) -> None:
        for violation in getattr(self, "violations", ()):
            raise violation

    @rule(seconds=st.sampled_from([1, 5, 20, 60, 61, 90, 150, 400]))
    def time_passes(self, seconds: int) -> None:
        self.time.advance(seconds)

    @rule(place=PLACES)
    def look(self, place: int) -> None:
        self.processes[place].run()

    @rule(place=PLACES, seconds=st.sampled_from([5, 60, 90]))
    def time_passes_and_looks(self, place: int, seconds: int) -> None:
        self.time.advance(seconds)
        self.processes[place].run()

    @rule(place=PLACES, other=PLACES, ends=st.booleans())
    def two_look_at_once(self, place: int, other: int, ends: bool) -> None:
        """One of them looks between the other's look and its claim."""
        one, another = self.processes[place], self.processes[other]
        if one is another:
            return

        def look() -> None:
            another.run()
            for handle in list(another.live) if ends else ():
                del another.live[handle]
                handle.end()
            another.run()

        one.store.meanwhile = look
        self.time.advance(60)
        one.run()
        one.store.meanwhile = None

    @precondition(lambda self: any(process.live for process in self.processes))
    @rule(place=PLACES, status=st.sampled_from(ENDINGS))
    def run_ends(self, place: int, status: WorkItemStatus) -> None:
        live = self.processes[place].live
        for handle in list(live)[:1]:
            del live[handle]
            handle.end(status)
            self.processes[place].run()

    @rule(place=PLACES)
    def process_is_killed(self, place: int) -> None:
        self.processes[place] = Watched(self, self.time)

    @rule(place=PLACES)
    def process_begins_to_end(self, place: int) -> None:
        process = self.processes[place]
        process.open = False
        for handle, tick in list(process.live.items()):
            # It had not begun, and may run elsewhere.
            del process.live[handle]
            self.ticks.discard(tick)
            handle.end(WorkItemStatus.DISCARDED)
        process.run()

    @rule(place=PLACES, what=st.sampled_from(["broken", "mute", "full"]), trouble=st.booleans())
    def trouble(self, place: int, what: str, trouble: bool) -> None:
        process = self.processes[place]
        if what == "full":
            process.refusal = QueueFull("too many") if trouble else None
        else:
            setattr(process.store, what, trouble)

    def teardown(self) -> None:
        """In the end nothing is due, once every process is well."""
        if not hasattr(self, "processes"):
            return
        for process in self.processes:
            process.open, process.refusal = True, None
            process.store.broken = process.store.mute = False
        for _ in range(8):
            self.time.advance(61)
            for process in self.processes:
                process.run()
                for handle in list(process.live):
                    del process.live[handle]
                    handle.end()
                process.run()
        self.nothing_runs_twice()
        found = row()
        assert found.next_ms > self.time() * 1000
        assert (found.status, found.busy_until_ms) == ("succeeded", 0)


@pytest.mark.slow
@pytest.mark.parametrize("settings_of_database", ["sqlite"], indirect=True)
def test_whatever_happens(database: Any) -> None:
    """Each tick that is started is a new one, and in the end the last one has run."""
    profile = settings(max_examples=40, stateful_step_count=30, deadline=None)
    run_state_machine_as_test(
        Site,
        settings=settings(profile, suppress_health_check=list(HealthCheck)),  # each step asks a database
    )
