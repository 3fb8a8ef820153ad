"""A view for readiness probes: whether a load balancer should send requests to this process."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from django_qbwi import hosting
from django_qbwi.core.exceptions import NotHosted


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
