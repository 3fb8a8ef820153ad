"""Items that have ended, as their process knew them."""

from __future__ import annotations

import datetime
import itertools
from typing import Any

from django_qbwi.contrib.history.models import HistoryEntry
from django_qbwi.contrib.history.rows import row_of
from django_qbwi.core.records import WorkItemError, WorkItemInfo, WorkItemStatus

NOW = datetime.datetime(2026, 3, 1, 12, 0, tzinfo=datetime.UTC)
ERROR = WorkItemError(type="shop.Refused", message="no card", traceback="Traceback\n  ...\nshop.Refused: no card\n")
_numbers = itertools.count(1)


def info(**fields: Any) -> WorkItemInfo:
    """Return what is known of an item that has failed just now."""
    usual = {
        "id": f"{next(_numbers):024x}",
        "name": "shop.items.charge",
        "kind": "sync",
        "status": WorkItemStatus.FAILED,
        "queued_at": NOW - datetime.timedelta(seconds=5),
        "started_at": NOW - datetime.timedelta(seconds=3),
        "finished_at": NOW,
        "error": ERROR,
        "origin": "POST /pay/",
        "request_id": "r-1",
        "pid": 7,
        "thread": "qbwi-1",
    }
    return WorkItemInfo(**usual | fields)


def entry(stack: str | None = None, why: str | None = None, host: str = "web1", **fields: Any) -> HistoryEntry:
    """Return the row of one."""
    return row_of(info(**fields), stack, why, host)


def ago(**span: float) -> datetime.datetime:
    """Return a moment before that of the items."""
    return NOW - datetime.timedelta(**span)
