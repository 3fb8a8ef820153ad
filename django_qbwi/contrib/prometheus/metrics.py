"""The metrics, on the default registry of prometheus-client.

- `django_qbwi_items_total{name,outcome}`: items that ended, by their status, and those that were "rejected".
- `django_qbwi_running`, `django_qbwi_queued`: items at this moment.
- `django_qbwi_item_duration_seconds{name}`: from the start of an item to its end.
- `django_qbwi_item_wait_seconds{name}`: from its queueing to its start.

In multiprocess mode (PROMETHEUS_MULTIPROC_DIR) each process writes down its own share, so the two gauges have to follow
every item; in single mode they are read when somebody asks, and nothing is done when an item is queued or starts.
"""

from __future__ import annotations

import os
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from django_qbwi import hosting
from django_qbwi.core.records import WorkItemInfo
from django_qbwi.signals import work_item_finished, work_item_queued, work_item_rejected, work_item_started

MAX_NAMES = 200
"""Different names of items that get numbers of their own; the rest is counted as "other"."""

_SECONDS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)

items = Counter("django_qbwi_items", "Work items that ended, or were rejected.", ["name", "outcome"])
running = Gauge("django_qbwi_running", "Work items that run.", multiprocess_mode="livesum")
queued = Gauge("django_qbwi_queued", "Work items that wait for their start.", multiprocess_mode="livesum")
duration = Histogram("django_qbwi_item_duration_seconds", "How long work items ran.", ["name"], buckets=_SECONDS)
wait = Histogram("django_qbwi_item_wait_seconds", "How long work items waited.", ["name"], buckets=_SECONDS)

# Names can be made of anything, such as an order's number; a time series for each would end any Prometheus.
_names: set[str] = set()


def connect() -> None:
    """Follow the items of this process."""
    work_item_finished.connect(_on_finished, dispatch_uid="django_qbwi.contrib.prometheus")
    work_item_rejected.connect(_on_rejected, dispatch_uid="django_qbwi.contrib.prometheus")
    if is_multiprocess():
        work_item_queued.connect(_on_queued, dispatch_uid="django_qbwi.contrib.prometheus")
        work_item_started.connect(_on_started, dispatch_uid="django_qbwi.contrib.prometheus")
    else:
        running.set_function(lambda: hosting.scheduler().running_count)
        queued.set_function(lambda: hosting.scheduler().queued_count)


def is_multiprocess() -> bool:
    """True if prometheus-client keeps its numbers in files that several processes share."""
    return "PROMETHEUS_MULTIPROC_DIR" in os.environ or "prometheus_multiproc_dir" in os.environ


def _on_queued(info: WorkItemInfo, **kwargs: Any) -> None:
    queued.inc()


def _on_started(info: WorkItemInfo, **kwargs: Any) -> None:
    queued.dec()
    running.inc()


def _on_rejected(info: WorkItemInfo, **kwargs: Any) -> None:
    items.labels(_name(info), "rejected").inc()


def _on_finished(info: WorkItemInfo, **kwargs: Any) -> None:
    name = _name(info)
    items.labels(name, str(info.status)).inc()
    started_at = info.started_at
    if started_at is not None:
        wait.labels(name).observe(max(0.0, (started_at - info.queued_at).total_seconds()))
        if info.finished_at is not None:
            duration.labels(name).observe(max(0.0, (info.finished_at - started_at).total_seconds()))
    if is_multiprocess():
        (queued if started_at is None else running).dec()


def _name(info: WorkItemInfo) -> str:
    if info.name in _names:
        return info.name
    if len(_names) >= MAX_NAMES:
        return "other"
    _names.add(info.name)
    return info.name
