"""Print what an item costs, as ratios against the standard library: `python -m benchmarks`.

Each metric runs ours and the peer's in turn, many rounds, in one process; printed are the median of the rounds' ratios,
since absolute figures of a shared machine drift by a factor of three, and the ratio of the best rounds of both sides.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import os
import statistics
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")

import django

django.setup()

from benchmarks import pools  # noqa: E402
from django_qbwi import CancellationToken, Retry, background_work_item, queue_background_work_item, track  # noqa: E402
from django_qbwi.core.cancellation import StopFlag  # noqa: E402
from django_qbwi.signals import scheduler_logger  # noqa: E402
from django_qbwi.testing import drain  # noqa: E402

WORKERS = 4
KEYS = 1000
ROUNDS = int(os.environ.get("BENCHMARK_ROUNDS", "15"))


def noop(token: object = None, value: object = None) -> None:
    """Do nothing."""


def with_keyword(token: object, *, album: int) -> None:
    """Do nothing."""


@background_work_item(retry=Retry())
def retried(token: object, value: object = None) -> None:
    """Do nothing, by a policy of retries."""


async def anoop(token: object = None, value: object = None) -> None:
    """Do nothing, on a loop."""


class Start:
    """When the last `start_seen` began."""

    began = 0.0
    done = threading.Event()


def start_seen(token: object = None) -> None:
    """Note the moment."""
    Start.began = time.perf_counter()
    Start.done.set()


class Busy:
    """Keeps all workers of both pools busy for the time of a block, so that only the caller's cost is measured."""

    def __init__(self, pool: ThreadPoolExecutor | None) -> None:
        self.pool = pool
        self.gate = threading.Event()
        self.barrier = threading.Barrier(WORKERS + 1)

    def hold(self, token: object = None) -> None:
        """Occupy a worker."""
        self.barrier.wait(30)
        self.gate.wait(30)

    def __enter__(self) -> Busy:
        for _ in range(WORKERS):
            if self.pool is None:
                queue_background_work_item(self.hold)
            else:
                self.pool.submit(self.hold)
        self.barrier.wait(30)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.gate.set()
        if self.pool is None:
            drain(60)
        else:
            list(self.pool.map(noop, range(WORKERS)))


def per_call(call: Callable[[], object], count: int) -> float:
    """Return the microseconds of one call."""
    gc.collect()
    started = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - started) / count * 1e6


def submit_busy(count: int = 1000) -> tuple[float, float]:
    """The caller's cost while all workers are busy."""
    with Busy(None):
        ours = per_call(lambda: queue_background_work_item(noop, 1), count)
    with Busy(POOL):
        theirs = per_call(lambda: POOL.submit(noop, 1), count)
    return ours, theirs


def submit_at_work(count: int = 1000) -> tuple[float, float]:
    """The caller's cost while the workers take the items as they come."""
    ours = per_call(lambda: queue_background_work_item(noop, 1), count)
    drain(60)
    futures = []
    theirs = per_call(lambda: futures.append(POOL.submit(noop, 1)), count)
    for future in futures:
        future.result()
    return ours, theirs


def submit_partial(count: int = 1000) -> tuple[float, float]:
    """The same with a partial that has a keyword."""
    call = functools.partial(with_keyword, album=1)
    with Busy(None):
        ours = per_call(lambda: queue_background_work_item(call), count)
    with Busy(POOL):
        theirs = per_call(lambda: POOL.submit(call, None), count)
    return ours, theirs


def submit_retried(count: int = 1000) -> tuple[float, float]:
    """The same with a function that is tried again where it fails, which this one does not."""
    with Busy(None):
        ours = per_call(lambda: retried.queue(1), count)
    with Busy(POOL):
        theirs = per_call(lambda: POOL.submit(noop, 1), count)
    return ours, theirs


def track_future(count: int = 1000) -> tuple[float, float]:
    """From `track` of a future to its end, against what the pool takes that makes one."""
    futures: list[Future[None]] = [Future() for _ in range(count)]

    def ours() -> None:
        for future in futures:
            track(future)
        for future in futures:
            future.set_result(None)
        drain(60)

    def theirs() -> None:
        for future in [POOL.submit(noop) for _ in range(count)]:
            future.result()

    return per_call(ours, 1) / count, per_call(theirs, 1) / count


def end_to_end(count: int = 3000) -> tuple[float, float]:
    """From the first queueing to the last end, no-op items with all hygiene."""

    def ours() -> None:
        for _ in range(count):
            queue_background_work_item(noop)
        drain(60)

    def theirs() -> None:
        for future in [POOL.submit(noop) for _ in range(count)]:
            future.result()

    return per_call(ours, 1) / count, per_call(theirs, 1) / count


def idle_start(count: int = 200) -> tuple[float, float]:
    """From queueing on an idle pool until the item runs, median; the item is a function of a module."""

    def measure(queue: Callable[[Callable[..., None]], object]) -> float:
        delays = []
        for _ in range(count):
            Start.done.clear()
            queued = time.perf_counter()
            queue(start_seen)
            Start.done.wait(30)
            delays.append((Start.began - queued) * 1e6)
        return statistics.median(delays)

    return measure(queue_background_work_item), measure(POOL.submit)


def idle_start_of_closure(count: int = 200) -> tuple[float, float]:
    """The same for a function made on the spot with objects in it, which the guard looks into each time."""

    def measure(queue: Callable[[Callable[..., None]], object]) -> float:
        delays = []
        for _ in range(count):
            done = threading.Event()
            began: list[float] = []

            def item(token: object = None, began: list[float] = began, done: threading.Event = done) -> None:
                began.append(time.perf_counter())
                done.set()

            queued = time.perf_counter()
            queue(item)
            done.wait(30)
            delays.append((began[0] - queued) * 1e6)
        return statistics.median(delays)

    return measure(queue_background_work_item), measure(POOL.submit)


def async_submit(count: int = 1000) -> tuple[float, float]:
    """The caller's cost of an async item."""
    ours = per_call(lambda: queue_background_work_item(anoop), count)
    drain(60)
    futures = []
    theirs = per_call(lambda: futures.append(asyncio.run_coroutine_threadsafe(anoop(), LOOP)), count)
    for future in futures:
        future.result()
    return ours, theirs


def async_end_to_end(count: int = 1000) -> tuple[float, float]:
    """From the first queueing to the last end, async no-op items."""

    def ours() -> None:
        for _ in range(count):
            queue_background_work_item(anoop)
        drain(60)

    def theirs() -> None:
        for future in [asyncio.run_coroutine_threadsafe(anoop(), LOOP) for _ in range(count)]:
            future.result()

    return per_call(ours, 1) / count, per_call(theirs, 1) / count


def memory_per_item(count: int = 10_000) -> tuple[float, float]:
    """Bytes of one queued item."""

    def grown(fill: Callable[[], None]) -> float:
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        fill()
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return (after - before) / count

    with Busy(None):
        ours = grown(lambda: [queue_background_work_item(noop, 1) for _ in range(count)] and None)
    with Busy(POOL):
        theirs = grown(lambda: [POOL.submit(noop, 1) for _ in range(count)] and None)
    return ours, theirs


@background_work_item(concurrency=1, concurrency_key=lambda number: number % KEYS)
def one_of_a_key(token: object, number: int) -> None:
    """Do nothing, one at a time of each key."""


def _fill(count: int) -> float:
    """Queue so many items of many keys; return the microseconds of one."""
    numbers = iter(range(count))
    return per_call(lambda: one_of_a_key.queue(next(numbers)), count)


def _run(count: int) -> float:
    """Let so many waiting items of many keys run; return the microseconds of one."""
    with Busy(None):
        _fill(count)
        gc.collect()
        started = time.perf_counter()
    return (time.perf_counter() - started) / count * 1e6


def queue_keyed(count: int = 100_000) -> tuple[float, float]:
    """The caller's cost with 100,000 waiting items of 1,000 keys, and with none."""
    with Busy(None):
        theirs = _fill(KEYS)
    with Busy(None):
        _fill(count)
        ours = _fill(KEYS)
    return ours, theirs


def run_keyed(count: int = 100_000) -> tuple[float, float]:
    """The cost of an item from its turn on, with 100,000 that wait, and with one of each key."""
    return _run(count), statistics.median(_run(KEYS) for _ in range(5))


def signal_tokens(count: int = 100_000) -> tuple[float, float]:
    """Microseconds to cancel many tokens, against setting as many events."""
    flag = StopFlag()
    tokens = [CancellationToken(flag) for _ in range(count)]
    ours = per_call(flag.request, 1)
    assert all(token.is_cancellation_requested for token in tokens)
    events = [threading.Event() for _ in range(count)]
    theirs = per_call(lambda: [event.set() for event in events], 1)
    return ours, theirs


def queue_delayed(many: int = 100_000, few: int = 1_000) -> tuple[float, float]:
    """The caller's cost of an item with `delay` where many wait for their time, against few."""

    def measure(count: int) -> float:
        waiting = [queue_background_work_item(noop, delay=3600) for _ in range(count)]
        cost = per_call(lambda: waiting.append(queue_background_work_item(noop, delay=3600)), few)
        for handle in waiting:
            handle.cancel()
        drain(60)
        return cost

    return measure(many), measure(few)


def start_delayed(many: int = 100_000, few: int = 1_000) -> tuple[float, float]:
    """From its moment on until a delayed item has run, where many are due at a time, against few."""

    def measure(count: int) -> float:
        due = time.perf_counter() + count * 2e-4
        for _ in range(count):
            queue_background_work_item(noop, delay=max(0.001, due - time.perf_counter()))
        began = max(due, time.perf_counter())
        drain(60)
        return (time.perf_counter() - began) / count * 1e6

    return measure(many), statistics.median(measure(few) for _ in range(5))


def start_beside_delayed(many: int = 100_000, few: int = 1_000) -> tuple[float, float]:
    """From queueing until an item without a delay has run, where many others wait for their time, against few."""

    def measure(count: int) -> float:
        waiting = [queue_background_work_item(noop, delay=3600) for _ in range(count)]
        cost = per_call(lambda: queue_background_work_item(noop).wait(30), few)
        for handle in waiting:
            handle.cancel()
        drain(60)
        return cost

    return measure(many), measure(few)


def queue_expiring(many: int = 100_000, few: int = 1_000) -> tuple[float, float]:
    """The caller's cost of an item with `expires` where many wait for a worker, against few."""

    def measure(count: int) -> float:
        with Busy(None):
            for _ in range(count):
                queue_background_work_item(noop, expires=3600)
            return per_call(lambda: queue_background_work_item(noop, expires=3600), few)

    return measure(many), measure(few)


def expire(many: int = 100_000, few: int = 1_000) -> tuple[float, float]:
    """Until an item that expires has ended, every other one of many that wait in a queue, against few; no records."""

    def measure(count: int) -> float:
        with Busy(None):
            due = time.perf_counter() + count * 2e-4
            for _ in range(count // 2):
                queue_background_work_item(noop)
                last = queue_background_work_item(noop, expires=max(0.001, due - time.perf_counter()))
            due = max(due, time.perf_counter())
            last.wait(60)
            return (time.perf_counter() - due) / (count // 2) * 1e6

    level = scheduler_logger.logger.level
    scheduler_logger.logger.setLevel(logging.CRITICAL)
    try:
        return measure(many), measure(few)
    finally:
        scheduler_logger.logger.setLevel(level)


POOL = ThreadPoolExecutor(WORKERS)
LOOP = asyncio.new_event_loop()

METRICS: list[tuple[str, str, Callable[[], tuple[float, float]], float, int]] = [
    ("submit, workers busy", "ThreadPoolExecutor.submit", submit_busy, 0.30, 4 * ROUNDS),
    ("submit, workers at work", "ThreadPoolExecutor.submit", submit_at_work, 0.50, 4 * ROUNDS),
    ("submit a partial, workers busy", "ThreadPoolExecutor.submit", submit_partial, 0.30, 4 * ROUNDS),
    ("submit with retry, workers busy", "ThreadPoolExecutor.submit", submit_retried, 1.5, 4 * ROUNDS),
    ("track a future, to its end", "ThreadPoolExecutor", track_future, 5.0, ROUNDS),
    ("end to end, sync no-op", "ThreadPoolExecutor", end_to_end, 0.45, ROUNDS),
    ("start latency, idle pool", "ThreadPoolExecutor", idle_start, 1.0, ROUNDS),
    ("start latency of a closure", "ThreadPoolExecutor", idle_start_of_closure, 1.0, ROUNDS),
    ("async submit", "run_coroutine_threadsafe", async_submit, 0.15, ROUNDS),
    ("async end to end", "run_coroutine_threadsafe", async_end_to_end, 0.20, ROUNDS),
    ("memory per queued item (bytes)", "ThreadPoolExecutor", memory_per_item, 0.20, 2),
    ("queue, 100,000 wait for 1,000 keys", "none waits", queue_keyed, 1.5, 3),
    ("run 100,000 items of 1,000 keys", "run 1,000 of them", run_keyed, 2.0, 3),
    ("queue a delayed, 100,000 wait", "where 1,000 wait", queue_delayed, 3.00, 3),
    ("run a delayed, 100,000 are due", "where 1,000 are due", start_delayed, 2.00, 3),
    ("run another, 100,000 are delayed", "where 1,000 are", start_beside_delayed, 1.50, 3),
    ("queue with expires, 100,000 wait", "where 1,000 wait", queue_expiring, 1.50, 3),
    ("expire, one of two of 100,000", "of 1,000", expire, 3.00, 3),
    ("queue into 100 pools", "into one of them", pools.queue_in_pools, 1.30, 3),
    ("run async items of 100 pools", "of one of them", pools.run_async_in_pools, 1.30, 3),
    ("queue and wait, 100 idle pools", "one of them", pools.start_in_pools, 1.50, 3),
    ("signal 100,000 tokens", "Event.set loop", signal_tokens, 0.01, 3),
]


def main() -> None:
    """Measure and print; with arguments, those metrics alone whose names have one of them."""
    metrics = [metric for metric in METRICS if not sys.argv[1:] or any(word in metric[0] for word in sys.argv[1:])]
    threading.Thread(target=LOOP.run_forever, daemon=True).start()
    queue_background_work_item(noop).wait(30)
    POOL.submit(noop).result()
    print(f"Python {sys.version.split()[0]}, Django {django.__version__}, {ROUNDS} rounds; ratios are ours / theirs")
    print(f"{'metric':34} {'against':26} {'ours':>10} {'theirs':>10} {'ratio':>8} {'quiet':>8} {'target':>7}")
    for name, against, measure, target, rounds in metrics:
        pairs = [measure() for _ in range(rounds)]
        ours = statistics.median(pair[0] for pair in pairs)
        theirs = statistics.median(pair[1] for pair in pairs)
        ratio = statistics.median(pair[0] / pair[1] for pair in pairs)
        # Noise only adds: the best round of each side is what a quiet machine shows.
        quiet = min(pair[0] for pair in pairs) / min(pair[1] for pair in pairs)
        print(f"{name:34} {against:26} {ours:10.2f} {theirs:10.2f} {ratio:8.4f} {quiet:8.4f} {target:7.2f}")
    LOOP.call_soon_threadsafe(LOOP.stop)


if __name__ == "__main__":
    main()
