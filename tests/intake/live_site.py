"""A site for real servers: its pages queue an item with a copy of their request, and answer with what the item saw.

Settings, URLs, WSGI and ASGI application in one module.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.intake.live_settings")

import django

django.setup()

from asgiref.sync import sync_to_async  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import HttpRequest, HttpResponse, JsonResponse  # noqa: E402
from django.urls import path, reverse  # noqa: E402
from django.utils import timezone, translation  # noqa: E402

from django_qbwi import (  # noqa: E402
    CapturedRequest,
    RequestSnapshot,
    UserNotRead,
    background_work_item,
    copies_request,
    queue_background_work_item,
)

PATIENCE = 30


def describe(visit: RequestSnapshot) -> dict[str, Any]:
    """Return what an item sees."""
    try:
        user = [visit.user_id, visit.username, visit.is_authenticated]
    except UserNotRead as error:
        user = [str(error)]
    return {
        "method": visit.method,
        "full_path": visit.full_path,
        "uri": visit.build_absolute_uri("/next/"),
        "host": visit.host,
        "script_name": visit.script_name,
        "view_name": visit.view_name,
        "remote_addr": visit.remote_addr,
        "title": visit.post.get("title"),
        "tenant": visit.headers.get("X-Tenant"),
        "photo": visit.files["photo"].content.decode() if "photo" in visit.files else None,
        "user": user,
        "language": translation.get_language(),
        "time_zone": timezone.get_current_timezone_name(),
        "page": reverse("page"),
    }


@background_work_item
@copies_request(headers=("X-Tenant",), post=("title",), files=("photo",))
def look(token: Any, visit: RequestSnapshot, seen: list[Any]) -> None:
    """Look around in a worker."""
    seen.append(describe(visit))


@background_work_item
@copies_request(headers=("X-Tenant",), post=("title",), files=("photo",))
async def look_on_loop(token: Any, visit: RequestSnapshot, seen: list[Any]) -> None:
    """Look around on the loop and in a thread."""
    seen.append(describe(visit))
    seen.append(await sync_to_async(describe)(visit))


def answer(seen: list[Any], info: Any) -> HttpResponse:
    """Answer with what an item saw, which is the same wherever it looked."""
    assert seen, info
    assert all(one == seen[0] for one in seen), seen
    return JsonResponse({**seen[0], "origin": info.origin, "request_id": info.request_id})


def page(request: HttpRequest) -> HttpResponse:
    """Queue a sync item in a sync view."""
    seen: list[Any] = []
    handle = look.queue(request, seen)
    handle.wait(PATIENCE)
    return answer(seen, handle.info)


async def async_page(request: HttpRequest) -> HttpResponse:
    """Queue an async item in an async view."""
    seen: list[Any] = []
    info = await look_on_loop.queue(request, seen)
    return answer(seen, info)


def captured(request: HttpRequest) -> HttpResponse:
    """Try to carry the request along, in several ways."""
    messages = []
    ways: list[Any] = [
        lambda: queue_background_work_item(lambda token: request),
        lambda: queue_background_work_item(print, request.META if "wsgi.input" in request.META else request.scope),
    ]
    for way in ways:
        try:
            way()
        except CapturedRequest as error:
            messages.append(str(error))
    return HttpResponse(json.dumps(messages))


urlpatterns = [
    path("page/", page, name="page"),
    path("async/", async_page, name="async-page"),
    path("captured/", captured),
]

if "uvicorn" in sys.modules:
    application: Any = get_asgi_application()
else:
    application = get_wsgi_application()
