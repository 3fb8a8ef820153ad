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

    Needs no database. Tells nothing but the state: open, draining, closed or broken.
    """
    try:
        here = hosting.this_process()
        assembly = here.current
        state = here.subject.state
        if state == "open" and (assembly.refusal is not None or assembly.scheduler.is_stuck):
            state = "broken"
    except (NotHosted, ImproperlyConfigured):
        state = "broken"
    return JsonResponse({"state": state}, status=200 if state == "open" else 503)
