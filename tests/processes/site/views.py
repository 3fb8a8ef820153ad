"""Views that queue, wait, and tell who serves; sync ones for WSGI, async ones for ASGI."""

from __future__ import annotations

import asyncio
import os
import signal
import time

from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse

from tests.processes.site.items import queue
from tests.processes.site.models import Note
from tests.processes.site.report import report


def pid(request: HttpRequest) -> HttpResponse:
    """Tell which process serves."""
    return HttpResponse(str(os.getpid()))


def sync_queue(request: HttpRequest) -> HttpResponse:
    """Queue the items named in the query."""
    for name in request.GET.getlist("item"):
        queue(name)
    return HttpResponse(str(os.getpid()))


async def async_queue(request: HttpRequest) -> HttpResponse:
    """Queue the items named in the query, on the running loop."""
    for name in request.GET.getlist("item"):
        queue(name)
    return HttpResponse(str(os.getpid()))


def sync_slow(request: HttpRequest) -> HttpResponse:
    """Take some time, and queue at the end what the query names."""
    report("request started")
    time.sleep(float(request.GET["seconds"]))
    for name in request.GET.getlist("item"):
        queue(name)
    report("request finished")
    return HttpResponse("done")


async def async_slow(request: HttpRequest) -> HttpResponse:
    """Take some time, and queue at the end what the query names."""
    report("request started")
    await asyncio.sleep(float(request.GET["seconds"]))
    for name in request.GET.getlist("item"):
        queue(name)
    report("request finished")
    return HttpResponse("done")


def orm(request: HttpRequest) -> HttpResponse:
    """Use the database in the request."""
    return HttpResponse(str(Note.objects.count() >= 0))


def bridge(request: HttpRequest) -> HttpResponse:
    """Use an event loop of the request's own."""

    async def count() -> int:
        await asyncio.sleep(0.01)
        return 1

    return HttpResponse(str(async_to_sync(count)() >= 0))


def handlers(request: HttpRequest) -> HttpResponse:
    """Name the stop signals whose handlers are django_qbwi's."""
    names = ("SIGTERM", "SIGINT", "SIGQUIT")
    found = [name for name in names if _module_of(signal.getsignal(getattr(signal, name))).startswith("django_qbwi")]
    return HttpResponse(" ".join(found) or "none")


def rest(request: HttpRequest) -> HttpResponse:
    """Wait until no item is left: the record of one is written before its last step."""
    from django_qbwi import live_items  # the site also runs without django_qbwi

    while live_items():
        time.sleep(0.01)
    return HttpResponse("none")


def _module_of(handler: object) -> str:
    return str(getattr(handler, "__module__", ""))
