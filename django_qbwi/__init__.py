"""Background work items inside the web process: queued in a view, waited for when the process ends.

This face is lazy (PEP 562), so that neither the core nor pytest's start imports Django through it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django_qbwi.core.cancellation import (
        CancellationToken,
        CancellationTokenSource,
        CancelReason,
        OperationCancelled,
    )
    from django_qbwi.core.exceptions import (
        CapturedRequest,
        HelperDied,
        InspectionError,
        InvalidWorkItem,
        NotHosted,
        ProcessUnreachable,
        QBWIError,
        QueueFull,
        SchedulerClosed,
        SchedulerDraining,
        UserNotRead,
        WorkItemNotFound,
        WorkItemRejected,
        WorkItemWarning,
    )
    from django_qbwi.core.items import WorkItemHandle, current_work_item
    from django_qbwi.core.progress import Progress
    from django_qbwi.core.records import WorkItemInfo, WorkItemStatus
    from django_qbwi.hosting import live_items, recent_items
    from django_qbwi.intake.copier import copies_request, snapshot_request
    from django_qbwi.intake.retries import Retry, exponential
    from django_qbwi.intake.snapshot import RequestSnapshot
    from django_qbwi.work_items import background_work_item, queue_background_work_item, queue_on_commit, track

__version__ = "0.1.0"

_HOMES = {
    "core.cancellation": ("CancelReason", "CancellationToken", "CancellationTokenSource", "OperationCancelled"),
    "core.exceptions": (
        "CapturedRequest",
        "HelperDied",
        "InspectionError",
        "InvalidWorkItem",
        "NotHosted",
        "ProcessUnreachable",
        "QBWIError",
        "QueueFull",
        "SchedulerClosed",
        "SchedulerDraining",
        "UserNotRead",
        "WorkItemNotFound",
        "WorkItemRejected",
        "WorkItemWarning",
    ),
    "core.items": ("WorkItemHandle", "current_work_item"),
    "core.progress": ("Progress",),
    "core.records": ("WorkItemInfo", "WorkItemStatus"),
    "hosting": ("live_items", "recent_items"),
    "intake.copier": ("copies_request", "snapshot_request"),
    "intake.retries": ("Retry", "exponential"),
    "intake.snapshot": ("RequestSnapshot",),
    "work_items": ("background_work_item", "queue_background_work_item", "queue_on_commit", "track"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022 - in the order of the documentation
    "queue_background_work_item",
    "queue_on_commit",
    "background_work_item",
    "track",
    "copies_request",
    "snapshot_request",
    "RequestSnapshot",
    "Retry",
    "exponential",
    "current_work_item",
    "live_items",
    "recent_items",
    "CancelReason",
    "CancellationToken",
    "CancellationTokenSource",
    "OperationCancelled",
    "WorkItemHandle",
    "WorkItemInfo",
    "WorkItemStatus",
    "Progress",
    "QBWIError",
    "InvalidWorkItem",
    "CapturedRequest",
    "UserNotRead",
    "WorkItemWarning",
    "WorkItemRejected",
    "QueueFull",
    "SchedulerDraining",
    "SchedulerClosed",
    "NotHosted",
    "HelperDied",
    "InspectionError",
    "ProcessUnreachable",
    "WorkItemNotFound",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # only when a name is asked for the first time

    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
