"""How this process asks the others of its site on this machine."""

from __future__ import annotations

from typing import Any

from django_qbwi.core.exceptions import InspectionError
from django_qbwi.hosting.identity import sites
from django_qbwi.hosting.process import Process
from django_qbwi.inspection.places import find_place
from django_qbwi.inspection.reader import Answers, ask


def ask_others(here: Process, request: dict[str, Any], pids: set[int] | None = None) -> Answers | None:
    """Return what the other processes say, None if nobody can ask them; blocks for half a second at the most.

    Args:
        here: The state of this process.
        request: What `inspection.publisher.answer` takes.
        pids: The processes; None for all.

    Raises:
        InspectionError: No process can be asked; the message says why.
        ImproperlyConfigured: settings.QBWI is wrong.
    """
    place = find_place()
    if not here.host.opens_channel:
        return None
    if not here.current.settings.inspection:
        raise InspectionError('QBWI["INSPECTION"] is False in these settings: no other process can be asked')
    if place is None:
        raise InspectionError("this system has no sockets by which processes could ask one another")
    publisher = here.visibility.publisher
    own = None if publisher is None else publisher.address
    return ask(place, sites(), request, but=own, pids=pids)
