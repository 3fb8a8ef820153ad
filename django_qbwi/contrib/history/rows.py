"""What of an item goes into its row: plain, bounded texts that every database takes."""

from __future__ import annotations

import datetime
import json

from django.conf import settings
from django.utils import timezone

from django_qbwi.contrib.history.models import IN_COLUMNS, HistoryEntry
from django_qbwi.core.records import WorkItemInfo, WorkItemStatus
from django_qbwi.crash_report.slots import LostItem

LOST = "lost"
"""The status of an item whose process was killed, which no process gives it."""

_MAX_TEXT = 20_000
_MAX_TYPE = 500
_MAX_NAME = 200
_MAX_HOST = 255
_LONGEST_DETAILS = 20_000


def row_of(info: WorkItemInfo, stack: str | None, why: str | None, host: str) -> HistoryEntry:
    """Return the row of an item that has ended; nothing is asked of a database."""
    error = info.error
    details = info.to_dict()
    origin, request_id = details["origin"] or "", details["request_id"] or ""
    for name in IN_COLUMNS:
        del details[name]
    return HistoryEntry(
        item_id=info.id[:64],
        name=_plain(info.name, _MAX_NAME),
        status=str(info.status),
        finished_at=moment(info.finished_at or info.queued_at),
        error_type="" if error is None else _plain(error.type, _MAX_TYPE),
        message=_plain(why or "" if error is None else error.message),
        # The end tells more.
        traceback=_plain(((stack or "") if error is None else error.traceback)[-_MAX_TEXT:]),
        origin=_plain(origin),
        request_id=_plain(request_id, 200),
        host=_plain(host, _MAX_HOST),
        pid=info.pid,
        details=_json(details),
    )


def row_of_lost(lost: LostItem, host: str) -> HistoryEntry:
    """Return the row of an item whose process was killed, as far as that had noted it."""
    info = WorkItemInfo(
        id=lost.id,
        name=lost.name,
        kind="sync",
        status=WorkItemStatus.RUNNING if lost.started_at is not None else WorkItemStatus.QUEUED,
        queued_at=_utc(lost.queued_at),
        started_at=None if lost.started_at is None else _utc(lost.started_at),
        finished_at=datetime.datetime.now(tz=datetime.UTC),
        origin=lost.origin,
        request_id=lost.request_id,
        pid=lost.pid,
    )
    was = "ran" if lost.started_at is not None else "waited"
    row = row_of(info, None, f"Its process ended without a word, while it {was}", host)
    row.status = LOST
    return row


def _utc(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC)


def moment(aware: datetime.datetime) -> datetime.datetime:
    """Return a moment as the database wants it: naive where USE_TZ is False."""
    return aware if settings.USE_TZ else timezone.make_naive(aware)


def _json(details: dict[str, object]) -> str:
    text = json.dumps(details)
    if len(text) > _LONGEST_DETAILS:
        # Nothing of it is that long but what a caller has given: its progress, for instance.
        text = json.dumps({**details, "progress": None})
    return text


def _plain(text: str, limit: int = _MAX_TEXT) -> str:
    # Databases refuse zero characters, and drivers halves of surrogate pairs.
    return text[:limit].replace("\x00", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
