"""Pages that do what a test asks for, inside of a real request."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils import timezone

Action = Callable[[HttpRequest], Any]

_actions: list[Action] = []
_results: list[Any] = []

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]


def during(send: Callable[[], Any], action: Action) -> Any:
    """Send a request with `send`, call `action(request)` in its view, and return what that returned."""
    _actions.append(action)
    try:
        response = send()
    finally:
        _actions.clear()
    assert response.status_code == 200, response
    return _results.pop()


async def aduring(send: Callable[[], Any], action: Action) -> Any:
    """The same through an AsyncClient; `action` may be async, and runs on the event loop."""
    _actions.append(action)
    try:
        response = await send()
    finally:
        _actions.clear()
    assert response.status_code == 200, response
    return _results.pop()


def page(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    """Do it in a sync view."""
    _results.append(_actions[0](request))
    return HttpResponse("done")


async def async_page(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    """Do it in an async view."""
    result = _actions[0](request)
    _results.append(await result if hasattr(result, "__await__") and hasattr(result, "cr_code") else result)
    return HttpResponse("done")


def time_zone_middleware(get_response: Callable[[HttpRequest], HttpResponse]) -> Any:
    """Activate the time zone that a header names."""

    def middleware(request: HttpRequest) -> HttpResponse:
        with timezone.override(request.headers["X-Zone"]):
            return get_response(request)

    return middleware


def other_urls_middleware(get_response: Callable[[HttpRequest], HttpResponse]) -> Any:
    """Give the request another URLconf, as sites with several hosts do."""

    def middleware(request: HttpRequest) -> HttpResponse:
        request.urlconf = "tests.intake.other_pages"  # type: ignore[attr-defined]
        return get_response(request)

    return middleware


urlpatterns = [
    path("page/", page, name="page"),
    path("albums/<int:album>/<str:token>/", page, name="album"),
    path("async/", async_page, name="async-page"),
]
