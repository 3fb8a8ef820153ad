"""All exceptions of django_qbwi but `OperationCancelled`, which lives beside the token it carries."""

from __future__ import annotations


class QBWIError(Exception):
    """Base class of every error that django_qbwi raises on purpose."""


class InvalidWorkItem(QBWIError, TypeError):
    """What was given cannot be queued; the message names the value and the cure. Nothing was queued.

    An item fails with it when what it returned means that nothing has run: a generator, for instance.
    """


class CapturedRequest(InvalidWorkItem):
    """The item would carry a request along, which is over when it runs; the message names the variable and the cure."""


class UserNotRead(QBWIError, RuntimeError):
    """A snapshot was taken on a running event loop, where the user of the request had not been loaded."""


class WorkItemWarning(UserWarning):
    """Something about the use of work items that is likely a mistake."""


class WorkItemRejected(QBWIError, RuntimeError):
    """The scheduler refused a valid item. Nothing was queued, and `work_item_rejected` was sent."""


class QueueFull(WorkItemRejected):
    """As many items as QBWI["MAX_QUEUED"] allows are waiting for their start already."""


class SchedulerDraining(WorkItemRejected):
    """The process is ending and no longer accepts this item."""


class SchedulerClosed(WorkItemRejected):
    """The process has ended its background work; nothing can run any more."""


class NotHosted(WorkItemRejected):
    """There is no scheduler in this process: the app is not installed, or Django is not set up yet."""


class HelperDied(QBWIError, RuntimeError):
    """A helper process has ended in the middle of its item, or did not start; the message says how. The item failed."""


class InspectionError(QBWIError):
    """Looking into the processes of the site, or steering them, did not work."""


class ProcessUnreachable(InspectionError):
    """A process did not answer in time, or not in the way that one of this site does."""


class WorkItemNotFound(InspectionError):
    """No process that answered knows the item: it never was, has ended long ago, or its process is gone."""

    is_certain = True
    """False where somebody who may know it was not asked, or did not answer."""
