"""The numbers by name: exact counts, buckets, bounds, and that nothing is counted where an item ends."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from django_qbwi.core import statistics
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.core.statistics import AT_A_TIME, BOUNDS, MAX_NAMES, OTHER
from tests.support.manual import ManualRuntime

S = WorkItemStatus


def noop(token: Any) -> None:
    """Do nothing."""


def other(token: Any) -> None:
    """Do nothing either."""


def end(manual: ManualRuntime, item: Any, error: BaseException | None = None, ran: float = 0.0) -> None:
    """Have the next item start, run for some seconds, and end."""
    started = manual.sync.start()
    assert started is item
    manual.clock.advance(ran)
    manual.sync.finish(item, error)


def test_counts_and_durations(manual: ManualRuntime) -> None:
    """Ends and failures are counted by name; waiting and running go to their buckets."""
    first, second = manual.queue(noop), manual.queue(noop)
    manual.clock.advance(2.0)
    end(manual, first, ran=0.03)
    end(manual, second, ValueError(), ran=100.0)
    assert manual.scheduler.cancel(manual.queue(other))
    manual.keeper.run()
    found = manual.scheduler.statistics.by_name()
    assert sorted(found) == [f"{__name__}.noop", f"{__name__}.other"]
    numbers = found[f"{__name__}.noop"]
    assert (numbers["count"], numbers["failures"]) == (2, 1)
    assert [(BOUNDS[bucket], n) for bucket, n in enumerate(numbers["running"]) if n] == [
        (pytest.approx(0.0398, rel=0.01), 1),
        (pytest.approx(100.0), 1),
    ]
    # Both waited for two seconds, the second one a little longer.
    assert sum(numbers["waiting"]) == 2
    assert numbers["waiting"][-1] == 2
    # One that never began waited for nothing, and did not run.
    assert found[f"{__name__}.other"] == {"count": 1, "failures": 0, "waiting": [], "running": []}


def test_nothing_is_counted_at_the_end(manual: ManualRuntime) -> None:
    """An end is noted; the keeper counts when there are many, and is asked once."""
    posted: list[Any] = []
    numbers = manual.scheduler.statistics
    numbers._post = posted.append
    for _ in range(AT_A_TIME - 1):
        end(manual, manual.queue(noop))
    assert (len(numbers.uncounted), posted) == (AT_A_TIME - 1, [])
    for _ in range(AT_A_TIME + 1):
        end(manual, manual.queue(noop))
    assert len(posted) == 1
    posted[0]()
    assert len(numbers.uncounted) == 0
    assert numbers.by_name()[f"{__name__}.noop"]["count"] == 2 * AT_A_TIME


def test_keeper_that_hangs(manual: ManualRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever ends an item counts them all when they are too many."""
    monkeypatch.setattr(statistics, "_TOO_MANY", 2 * AT_A_TIME)
    manual.keeper.stuck = True
    for _ in range(2 * AT_A_TIME):
        end(manual, manual.queue(noop))
    assert len(manual.scheduler.statistics.uncounted) == 0
    assert manual.scheduler.totals[S.SUCCEEDED] == 2 * AT_A_TIME


def test_names_are_bounded(manual: ManualRuntime) -> None:
    """Beyond 200 they are one; the count of all is right."""
    for number in range(MAX_NAMES + 5):
        end(manual, manual.queue(noop, name=f"order {number}"))
    found = manual.scheduler.statistics.by_name()
    assert len(found) == MAX_NAMES + 1
    assert found[OTHER]["count"] == 5
    assert sum(numbers["count"] for numbers in found.values()) == MAX_NAMES + 5


def test_same_function_under_several_names(manual: ManualRuntime) -> None:
    """The given name counts, and functions without a name of their own are told apart by theirs."""
    for name in ("a", None, "b", "a"):
        end(manual, manual.queue(noop, name=name))
    end(manual, manual.queue(lambda token: None))
    found = {name: numbers["count"] for name, numbers in manual.scheduler.statistics.by_name().items()}
    assert found.pop(f"{__name__}.test_same_function_under_several_names.<locals>.<lambda>") == 1
    assert found == {"a": 2, "b": 1, f"{__name__}.noop": 1}


@pytest.mark.parametrize(
    ("seconds", "bucket"), [(-1.0, 0), (0.0, 0), (1e-4, 0), (1.1e-4, 1), (1.0, 20), (1e5, 45), (1.1e5, 46), (1e300, 46)]
)
def test_buckets(seconds: float, bucket: int) -> None:
    """A duration is in the bucket whose upper bound it does not exceed; the last one has none."""
    buckets = [0] * (len(BOUNDS) + 1)
    statistics._count_in(buckets, [seconds, seconds])
    assert [place for place, count in enumerate(buckets) if count] == [bucket]
    assert buckets[bucket] == 2


def test_counting_beside_the_ends(manual: ManualRuntime) -> None:
    """Several who ask at once, while items end, count each of them once."""
    numbers = manual.scheduler.statistics
    barrier, asked = threading.Barrier(3), []

    def ask() -> None:
        barrier.wait(30)
        for _ in range(50):
            asked.append(numbers.by_name())

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    barrier.wait(30)
    for _ in range(500):
        end(manual, manual.queue(noop))
    for thread in threads:
        thread.join(30)
    assert numbers.by_name()[f"{__name__}.noop"]["count"] == 500
    counts = [found[f"{__name__}.noop"]["count"] for found in asked if found]
    assert max(counts, default=0) <= 500
