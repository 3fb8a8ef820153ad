"""What everybody may see of one item who was given a link to it: its status and its progress, and nothing else.

A link has the item's id and its process, signed for this purpose alone. Whichever process of the machine is asked, it
asks the one that has the item.
"""

from __future__ import annotations

from typing import Any

from django.core import signing
from django.core.exceptions import ImproperlyConfigured

from django_qbwi import hosting
from django_qbwi.console import bars, operations
from django_qbwi.core.exceptions import InspectionError, ProcessUnreachable, WorkItemNotFound
from django_qbwi.core.items import WorkItemHandle
from django_qbwi.core.names import name_of, printable
from django_qbwi.core.progress import Progress
from django_qbwi.core.records import WorkItemInfo
from django_qbwi.hosting.process import Process
from django_qbwi.inspection.records import Item, fields, item_from_dict, optional

MAX_AGE = 24 * 60 * 60
"""Seconds that a link is good for, unless the site says otherwise."""

_SALT = "django_qbwi.views.progress"


def signed_id(item: WorkItemHandle | WorkItemInfo | str) -> str:
    """Return the id of an item, signed for the address of `progress`: whoever has it sees status and progress.

    Args:
        item: Its handle, its info, or its id; of an id alone nobody knows which process has the item, so that all of
            them are asked each time.
    """
    if isinstance(item, str):
        return signing.dumps([item, None], salt=_SALT)
    if isinstance(item, WorkItemHandle):
        item = item.info
    if not isinstance(item, WorkItemInfo):
        raise TypeError(f"signed_id() takes the handle of a work item, its info or its id, not a {name_of(type(item))}")
    return signing.dumps([item.id, item.pid], salt=_SALT)


def read(signed: str, max_age: int | None = MAX_AGE) -> tuple[str, int | None]:
    """Return the id of an item and the pid of its process, where that is known.

    Raises:
        SignatureExpired: It is older than `max_age` seconds.
        BadSignature: `signed_id` has not made it.
    """
    item_id, pid = signing.loads(signed, salt=_SALT, max_age=max_age)
    return item_id, pid


def look_up(item_id: str, pid: int | None = None) -> Item:
    """Return the description of an item; blocks for half a second at the most, and only if another process has it.

    With a registry of all hosts, it takes as long as `operations.find` for one that no process of this machine has.

    Raises:
        WorkItemNotFound: No process knows it, or one that may know it has not answered: `is_certain` tells.
        InspectionError: It is not here, and no other process can be asked; the message says why.
    """
    try:
        here = hosting.this_process()
        found = here.subject.find(item_id, with_stack=False)
        item = _elsewhere(here, item_id, pid) if found is None else item_from_dict(found["item"])
    except ImproperlyConfigured as error:
        raise InspectionError(f"settings.QBWI is wrong: {printable(str(error))}") from error
    return item


def face(item: Item) -> dict[str, Any]:
    """Return what may be told of an item to whoever has its link."""
    told = item["progress"]
    progress = None if told is None else Progress.from_dict(told)
    return {
        "status": item["status"],
        "ended": item["finished_at"] is not None,
        "progress": progress
        and {**progress.to_dict(), "fraction": progress.fraction, "percent": bars.percentage(progress)},
    }


def _elsewhere(here: Process, item_id: str, pid: int | None) -> Item:
    gaps = False
    if pid != here.pid:
        item, gaps = _ask(item_id, pid)
        if item is not None:
            return item
    if hosting.registry() is not None:
        # It may be on another host, which writes down what it would answer.
        return operations.find(item_id).item
    error = WorkItemNotFound(f"no process knows the work item {printable(item_id)!r}")
    error.is_certain = not gaps
    raise error


def _ask(item_id: str, pid: int | None) -> tuple[Item | None, bool]:
    """Ask the process that has the item, or all; return it, and whether one that may know it did not answer."""
    request = {"operation": "find", "id": item_id, "stack": False}
    try:
        found = hosting.ask_others(request, None if pid is None else {pid})
    except (InspectionError, ImproperlyConfigured):
        raise
    except Exception:
        # Whatever the system, or somebody on it, makes of the search.
        return None, True
    if found is None:
        return None, False
    gaps = bool(found.unresponsive or found.refused)
    for _, answer in found.answers:
        try:
            entry = optional(_entry)(answer)
        except ProcessUnreachable:
            gaps = True
        else:
            if entry is not None:
                return entry, False
    return None, gaps


def _entry(answer: Any) -> Item:
    item: Item = fields(answer, {"item": item_from_dict})["item"]
    return item
