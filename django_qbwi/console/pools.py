"""How much of what it may run a process runs: by kind, and by pool where there are several."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from django_qbwi.core.lanes import DEFAULT
from django_qbwi.core.names import printable

_COUNTS = ("running", "running_async", "max_workers", "max_async_in_flight")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PoolRow:
    """One pool of one process."""

    name: str
    capacity: str
    """How many of its items run, of how many that may, of each kind."""
    queued: str
    """How many wait, of how many that may."""


def named_pool(item: Mapping[str, Any]) -> str:
    """Return the name of the pool of an item, empty for the default one."""
    name = item.get("pool") or DEFAULT
    return "" if name == DEFAULT else printable(str(name))


def capacity(processes: Iterable[Mapping[str, Any]]) -> str:
    """Return how many items of each kind run, of how many that may at the same time: they have nothing in common.

    Those of all pools together.
    """
    counts = [_sum(process) for process in processes]
    return _shown(*(sum(each[index] for each in counts) for index in range(4)))


def busy_pools(process: Mapping[str, Any]) -> list[PoolRow]:
    """Return the pools of a process in which something runs or waits; none where all items share one."""
    return [
        PoolRow(
            name=printable(str(name)),
            capacity=_shown(*(int(pool[key]) for key in _COUNTS)),
            queued=f"{pool['queued']}/{pool['max_queued']}",
        )
        for name, pool in (process.get("pools") or {}).items()
        if pool["running"] or pool["queued"]
    ]


def _sum(process: Mapping[str, Any]) -> list[int]:
    limits = (process.get("pools") or {}).values() or [process["limits"]]
    most = [sum(int(each.get(key) or 0) for each in limits) for key in _COUNTS[2:]]
    return [process["running"], process.get("running_async", 0), *most]


def _shown(running: int, of_async: int, sync_limit: int, async_limit: int) -> str:
    sync = running - of_async
    if not sync_limit + async_limit:
        return f"{sync} sync, {of_async} async"
    return f"{sync}/{sync_limit} sync, {of_async}/{async_limit} async"
