"""A filter of `logging` that lets everything pass, and says on each record which item has written it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from django_qbwi.core.items import current_item

NOTHING = "-"
"""What stands where there is no item, or no such value of it."""


class ShownLabels(dict[str, Any]):
    """Labels as a formatter for machines wants them, a dict, and as one for people does: `order=42 tenant=acme`."""

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.items()) or NOTHING


class WorkItemFilter(logging.Filter):
    """Puts the item that runs here on each record; outside of one, the item that the record itself tells of.

    The attributes are `work_item_id`, `work_item_name`, `work_item_labels` and `request_id`. Each is "-" where there is
    none; a `request_id` that somebody has set before stays then. Lets all records pass. Any thread; never blocks.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add them to `record`."""
        found = _described(record)
        record.work_item_id = found.get("id") or NOTHING
        record.work_item_name = found.get("name") or NOTHING
        record.work_item_labels = ShownLabels(found.get("labels") or {})
        request_id = found.get("request_id")
        if request_id is not None:
            record.request_id = request_id
        elif not hasattr(record, "request_id"):
            record.request_id = NOTHING
        return True


def _described(record: logging.LogRecord) -> Mapping[str, Any]:
    item = current_item()
    if item is not None:
        labels = dict(item.options.labels)
        return {"id": item.id, "name": item.name, "request_id": item.origin[1], "labels": labels}
    told = getattr(record, "qbwi", None)
    return told if isinstance(told, dict) else {}
