"""What of an overview was asked for on the command line."""

from __future__ import annotations

import dataclasses
from typing import Any

from django_qbwi.console.labels import has_labels
from django_qbwi.console.results import Overview


def select(found: Overview, options: dict[str, Any]) -> Overview:
    """Leave out what was not asked for."""
    pids = options["pid"]
    processes = [process for process in found.processes if not pids or process.record.pid in pids]
    if pids:
        unresponsive = tuple(pid for pid in found.asked.unresponsive if pid in pids)
        refused = tuple(pid for pid in found.asked.refused if pid in pids)
        found = dataclasses.replace(
            found,
            asked=dataclasses.replace(found.asked, unresponsive=unresponsive, refused=refused),
            stale=tuple(process for process in found.stale if process["pid"] in pids),
        )
    if options["status"] or options["label"]:
        processes = [
            dataclasses.replace(
                process,
                record=dataclasses.replace(
                    process.record,
                    items=[item for item in process.record.items if is_wanted(item, options)],
                    recent=[item for item in process.record.recent if is_wanted(item, options)],
                ),
            )
            for process in processes
        ]
    return dataclasses.replace(found, processes=tuple(processes))


def is_wanted(item: dict[str, Any], options: dict[str, Any]) -> bool:
    """Say whether an item has one of the statuses and all of the labels that were asked for."""
    statuses = options["status"]
    return (not statuses or item["status"] in statuses) and has_labels(item, options["label"])
