"""The metrics, by the meter `django_qbwi` of the global meter provider.

- `django_qbwi.items` {name, outcome}: items that ended, by their status, and those that were "rejected".
- `django_qbwi.items.running`, `django_qbwi.items.queued`: items at this moment, read when somebody collects.
- `django_qbwi.item.duration` {name}: seconds from the start of an item to its end.
- `django_qbwi.item.wait` {name}: seconds from its queueing to its start.

Labels of items are never among the attributes: each value would be a time series of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from opentelemetry.metrics import CallbackOptions, Observation, get_meter

from django_qbwi import hosting
from django_qbwi.core.records import WorkItemInfo
from django_qbwi.core.scheduler import WorkItemScheduler
from django_qbwi.core.statistics import MAX_NAMES, OTHER
from django_qbwi.signals import work_item_finished, work_item_rejected

_SECONDS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)
_UID = "django_qbwi.contrib.opentelemetry"


class Metrics:
    """The instruments, and what records in them."""

    def __init__(self) -> None:
        meter = get_meter("django_qbwi")
        self._items = meter.create_counter("django_qbwi.items", "{item}", "Work items that ended, or were rejected.")
        self._duration = meter.create_histogram(
            "django_qbwi.item.duration", "s", "How long work items ran.", explicit_bucket_boundaries_advisory=_SECONDS
        )
        self._wait = meter.create_histogram(
            "django_qbwi.item.wait", "s", "How long work items waited.", explicit_bucket_boundaries_advisory=_SECONDS
        )
        meter.create_observable_up_down_counter(
            "django_qbwi.items.running", [_observed(lambda found: found.running_count)], "{item}", "Items that run."
        )
        meter.create_observable_up_down_counter(
            "django_qbwi.items.queued", [_observed(lambda found: found.queued_count)], "{item}", "Items that wait."
        )
        # Names can be made of anything, such as an order's number.
        self._names: set[str] = set()

    def __repr__(self) -> str:
        return f"<Metrics names={len(self._names)}>"

    def on_finished(self, info: WorkItemInfo, **kwargs: Any) -> None:
        """Record an item that has ended."""
        name = {"name": self._name(info)}
        self._items.add(1, {**name, "outcome": str(info.status)})
        if info.started_at is not None and info.finished_at is not None:
            self._wait.record(max(0.0, (info.started_at - info.queued_at).total_seconds()), name)
            self._duration.record(max(0.0, (info.finished_at - info.started_at).total_seconds()), name)

    def on_rejected(self, info: WorkItemInfo, **kwargs: Any) -> None:
        """Record an item that was refused."""
        self._items.add(1, {"name": self._name(info), "outcome": "rejected"})

    def _name(self, info: WorkItemInfo) -> str:
        if info.name not in self._names:
            if len(self._names) >= MAX_NAMES:
                return OTHER
            self._names.add(info.name)
        return info.name


def connect() -> Metrics:
    """Follow the items of this process."""
    metrics = Metrics()
    work_item_finished.connect(metrics.on_finished, weak=False, dispatch_uid=_UID)
    work_item_rejected.connect(metrics.on_rejected, weak=False, dispatch_uid=_UID)
    return metrics


def disconnect() -> None:
    """Follow them no more."""
    work_item_finished.disconnect(dispatch_uid=_UID)
    work_item_rejected.disconnect(dispatch_uid=_UID)


def _observed(count: Callable[[WorkItemScheduler], int]) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(options: CallbackOptions) -> Iterable[Observation]:
        return [Observation(count(hosting.scheduler()))]

    return observe
