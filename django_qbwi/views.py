"""Views for a site's URLconf: a probe for load balancers, and how far a work item is."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured
from django.core.signing import BadSignature, SignatureExpired
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from django_qbwi import hosting
from django_qbwi.console import following
from django_qbwi.console.following import signed_id
from django_qbwi.core.exceptions import InspectionError, NotHosted, WorkItemNotFound

__all__ = ["progress", "readiness", "signed_id"]

_REFUSALS = {
    "bad_signature": (403, "The address was not made by django_qbwi.views.signed_id, or with another SECRET_KEY."),
    "expired": (403, "The address is too old."),
    "not_found": (404, "No process knows the item: it has ended long ago, or its process has."),
    "no_answer": (503, "A process that may know the item has not answered."),
    "not_asked": (503, 'The item is not in this process, and no other can be asked here: is QBWI["INSPECTION"] False?'),
}


@never_cache
@require_safe
def readiness(request: HttpRequest) -> HttpResponse:
    """Answer 200 while this process takes new work, and 503 while it drains, is closed, or cannot run items.

    They cannot run where no worker is free of overdue items, where the background event loop stands still, and where a
    service thread has died and none could be started in its place. All of that may be over at the next probe.
    Needs no database. Tells nothing but the state: open, draining, closed or broken.
    """
    try:
        here = hosting.this_process()
        assembly = here.current
        state = here.subject.state
        if state == "open" and assembly.is_broken:
            state = "broken"
    except (NotHosted, ImproperlyConfigured):
        state = "broken"
    return JsonResponse({"state": state}, status=200 if state == "open" else 503)


@never_cache
@require_safe
def progress(request: HttpRequest, signed_id: str, max_age: int | None = following.MAX_AGE) -> HttpResponse:
    """Tell status and progress of an item as JSON, and nothing else, to whoever has its signed id.

    Any process of the machine answers: it asks the one that has the item, for half a second at the most. It answers 403
    for an id that `signed_id` has not made, or has made more than `max_age` seconds ago, 404 where no process knows
    the item, and 503 where one that may know it does not answer, or cannot be asked.
    """
    try:
        return JsonResponse(following.face(following.look_up(*following.read(signed_id, max_age))))
    except SignatureExpired:
        refusal = "expired"
    except BadSignature:
        refusal = "bad_signature"
    except WorkItemNotFound as error:
        refusal = "not_found" if error.is_certain else "no_answer"
    except (InspectionError, NotHosted):
        refusal = "not_asked"
    status, detail = _REFUSALS[refusal]
    headers = {"Retry-After": "1"} if status == 503 else {}
    return JsonResponse({"error": refusal, "detail": detail}, status=status, headers=headers)
