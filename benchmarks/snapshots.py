"""Print what a snapshot and the guard cost: `python -m benchmarks.snapshots`.

A default snapshot is measured against what Django's own handler takes for a trivial view behind the default
middleware, in turns in one process; each snapshot is one of a request that went through that handler before. The
guard is measured alone, in microseconds.
"""

from __future__ import annotations

import gc
import os
import statistics
import sys
import time
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")

import django
from django.conf import settings

settings.ROOT_URLCONF = __name__
settings.ALLOWED_HOSTS = ["testserver"]
settings.INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django_qbwi",
]
# Those of a new project.
settings.MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
# No queries: they would make the handler look slow.
settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
django.setup()

from django.core.handlers.wsgi import WSGIHandler  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.test import RequestFactory  # noqa: E402
from django.urls import path  # noqa: E402

from django_qbwi import snapshot_request  # noqa: E402
from django_qbwi.intake.guard import is_simple  # noqa: E402

ROUNDS = int(os.environ.get("BENCHMARK_ROUNDS", "15"))
TARGET_RATIO = 0.2
TARGET_GUARD = 1.0

_requests: list[HttpRequest] = []


def trivial(request: HttpRequest, number: int) -> HttpResponse:
    """Answer at once; keep the request, as the middleware left it."""
    _requests.append(request)
    return HttpResponse("done")


urlpatterns = [path("page/<int:number>/", trivial)]


def environ(query: str) -> dict[str, Any]:
    """Return what a browser sends."""
    headers = {
        "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
        "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "Accept-Language": "en-GB,en;q=0.5",
        "Referer": "https://testserver/",
        "Cookie": "csrftoken=abcdefghijklmnopqrstuvwxyz012345",
    }
    factory: Any = RequestFactory()
    made: dict[str, Any] = factory.get(f"/page/5/{query}", headers=headers).environ
    return made


def snapshot_against_handler(query: str, count: int = 200) -> tuple[float, float]:
    """Microseconds of one default snapshot, and of one request through Django's handler."""
    environs = [environ(query) for _ in range(count)]
    _requests.clear()
    gc.collect()
    started = time.perf_counter()
    for one in environs:
        HANDLER(one, _start_response)
    handler = time.perf_counter() - started
    gc.collect()
    started = time.perf_counter()
    for request in _requests:
        snapshot_request(request)
    snapshot = time.perf_counter() - started
    return snapshot / count * 1e6, handler / count * 1e6


def plain(token: object, number: int, text: str) -> None:
    """Do nothing."""


def guard_alone(count: int = 20_000) -> float:
    """Microseconds of the guard for a plain function with two plain arguments."""
    args = (5, "text")
    gc.collect()
    started = time.perf_counter()
    for _ in range(count):
        is_simple(plain, args)
    return (time.perf_counter() - started) / count * 1e6


def main() -> None:
    """Measure and print."""
    print(f"Python {sys.version.split()[0]}, Django {django.__version__}, {ROUNDS} rounds")
    print(f"{'metric':34} {'against':26} {'ours':>10} {'theirs':>10} {'ratio':>8} {'target':>7}")
    for name, query in (("default snapshot", ""), ("default snapshot, with a query", "?q=sea&page=2")):
        snapshot_against_handler(query, 20)
        pairs = [snapshot_against_handler(query) for _ in range(ROUNDS)]
        ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
        ratio = statistics.median(pair[0] / pair[1] for pair in pairs)
        print(
            f"{name:34} {'WSGIHandler, trivial view':26} {ours:10.2f} {theirs:10.2f} {ratio:8.4f} {TARGET_RATIO:7.2f}"
        )
    cost = statistics.median(guard_alone() for _ in range(ROUNDS))
    print(f"{'guard, plain function (us)':34} {'':26} {cost:10.3f} {'':10} {'':8} {TARGET_GUARD:7.2f}")


def _start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
    assert status == "200 OK", status


HANDLER = WSGIHandler()

if __name__ == "__main__":
    main()
