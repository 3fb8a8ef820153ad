"""What a process says of its pools: how many items each of them runs and holds, of how many it may."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django_qbwi.core.lanes import Lane
from django_qbwi.core.scheduler import WorkItemScheduler

PoolCounts = dict[str, int]
"""By the names of `_ZERO`; what is async counts in `running`, too."""

_ZERO: Mapping[str, int] = {
    "running": 0,
    "running_async": 0,
    "queued": 0,
    "max_workers": 0,
    "max_async_in_flight": 0,
    "max_queued": 0,
}
"""`queued` is without those that wait for their time, which are in no pool yet."""


def counts_of_pools(scheduler: WorkItemScheduler) -> dict[str, PoolCounts]:
    """Return the counts of each pool, by its name; nothing where all items share one. Any thread."""
    pools = {lane.pool_name: lane.pool for lane in scheduler.lanes.values() if lane.pool is not None}
    if len(pools) < 2:
        return {}
    found = {name: {**_ZERO, "queued": pool.waiting, "max_queued": pool.max_queued} for name, pool in pools.items()}
    for lane in scheduler.lanes.values():
        found[lane.pool_name][_limit(lane)] += lane.limits.running or 0
    for item in scheduler.running_items():
        counts = found[item.lane.pool_name]
        counts["running"] += 1
        counts["running_async"] += item.lane.kind == "async"
    return found


def pool_fields(rule: Callable[[Any], int]) -> dict[str, Callable[[Any], int]]:
    """Return the fields of `PoolCounts` for a reader, each with `rule`."""
    return dict.fromkeys(_ZERO, rule)


def _limit(lane: Lane[Any]) -> str:
    return "max_async_in_flight" if lane.kind == "async" else "max_workers"
