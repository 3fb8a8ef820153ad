"""What an item costs in each of a hundred pools, against the same items in one of them.

`python -m benchmarks` prints it with the rest.
"""

from __future__ import annotations

import gc
import itertools
import threading
import time
from collections.abc import Callable

from django.test import override_settings

from django_qbwi import background_work_item, hosting
from django_qbwi.decorator import BackgroundWorkItem

MANY = 100
_BOUNDS = {"MAX_WORKERS": 1, "MAX_QUEUED": 1_000_000, "MAX_ASYNC_IN_FLIGHT": 1}
_SETTINGS = {"POOLS": {f"pool {number}": _BOUNDS for number in range(MANY)}, "INSPECTION": False}


@background_work_item
def _noop(token: object, value: object = None) -> None:
    """Do nothing."""


@background_work_item
async def _anoop(token: object, value: object = None) -> None:
    """Do nothing, on the loop."""


def _in_pools(function: BackgroundWorkItem[..., object], count: int) -> list[BackgroundWorkItem[..., object]]:
    return [function.using(pool=name) for name in itertools.islice(_SETTINGS["POOLS"], count)]


def _empty() -> None:
    assert hosting.scheduler().wait_until_empty(60)


def _queue(pools: int, items: int) -> float:
    """Queue into pools whose workers are busy, one after the other; return the microseconds of one."""
    gate, held = threading.Event(), threading.Barrier(pools + 1)

    def hold(token: object) -> None:
        held.wait(30)
        gate.wait(60)

    with override_settings(QBWI=_SETTINGS):
        for function in _in_pools(background_work_item(hold), pools):
            function.queue()
        held.wait(30)
        functions = itertools.cycle(_in_pools(_noop, pools))
        cost = _per_item(lambda: next(functions).queue(), items)
        gate.set()
        _empty()
    return cost


def _run_async(pools: int, items: int) -> float:
    """Have the loop take items of pools in turn, all of which wait before; return the microseconds of one."""
    with override_settings(QBWI=_SETTINGS):
        functions = itertools.cycle(_in_pools(_anoop, pools))
        ended = threading.Event()

        async def queue_all(token: object) -> None:
            for _ in range(items):
                next(functions).queue()

        background_work_item(queue_all).queue().add_done_callback(lambda handle: ended.set())
        ended.wait(60)
        started = time.perf_counter()
        _empty()
        return (time.perf_counter() - started) / items * 1e6


def _start(pools: int, items: int) -> float:
    """Have one item after the other run on the idle worker of its pool; return the microseconds of one."""
    with override_settings(QBWI=_SETTINGS):
        functions = itertools.cycle(_in_pools(_noop, pools))
        for _ in range(pools):
            # Now they have their workers.
            next(functions).queue().wait(30)
        return _per_item(lambda: next(functions).queue().wait(30), items)


def _per_item(call: Callable[[], object], count: int) -> float:
    gc.collect()
    started = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - started) / count * 1e6


def queue_in_pools(items: int = 10_000) -> tuple[float, float]:
    """The caller's cost."""
    return _queue(MANY, items), _queue(1, items)


def run_async_in_pools(items: int = 10_000) -> tuple[float, float]:
    """From the turn of an async item to its end."""
    return _run_async(MANY, items), _run_async(1, items)


def start_in_pools(items: int = 2_000) -> tuple[float, float]:
    """From the call to the end, as its caller sees it."""
    return _start(MANY, items), _start(1, items)
