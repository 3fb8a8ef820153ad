"""Views that queue; sync ones for WSGI, async ones for ASGI."""

from __future__ import annotations

import asyncio
import datetime
import os
import time
from collections.abc import Iterator

from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from django_qbwi import WorkItemRejected
from tests.handoff.real_engines.site import work


def pid(request: HttpRequest) -> HttpResponse:
    """Tell which process serves."""
    return HttpResponse(str(os.getpid()))


def queue(request: HttpRequest) -> HttpResponse:
    """Queue numbers from `first` to `last`, some of them with a delay; tell the ids of those that were accepted."""
    lines = []
    for number in _numbers(request):
        lines.append(f"{number} {_queue(request, number)}")
        time.sleep(_pause(request))
    return HttpResponse("\n".join(lines))


async def aqueue(request: HttpRequest) -> HttpResponse:
    """Do as `queue`, on a running loop."""
    lines = []
    for number in _numbers(request):
        lines.append(f"{number} {await _aqueue(request, number)}")
        await asyncio.sleep(_pause(request))
    return HttpResponse("\n".join(lines))


def rows(request: HttpRequest) -> HttpResponse:
    """Queue the one item that notes rows, each in the given seconds at the least."""
    decorated = getattr(work, request.GET.get("sort", "rows"))
    return HttpResponse(decorated.queue(0, int(request.GET["last"]), float(request.GET.get("each", "0"))).id)


def _numbers(request: HttpRequest) -> Iterator[int]:
    """Give the numbers that are to be queued, as long as the request may take."""
    until = time.monotonic() + float(request.GET.get("within", "inf"))
    for number in range(int(request.GET["first"]), int(request.GET["last"])):
        if time.monotonic() < until:
            yield number


def _sort(request: HttpRequest, number: int) -> str:
    sorts = request.GET.get("sorts", ",".join(work.SORTS)).split(",")
    return sorts[number % len(sorts)]


def _pause(request: HttpRequest) -> float:
    return float(request.GET.get("pause", "0"))


def _delay(request: HttpRequest, number: int) -> bool:
    every = int(request.GET.get("delayed", "0"))
    return every > 0 and number % every == 0


async def _aqueue(request: HttpRequest, number: int) -> str:
    if _sort(request, number) != "plain" or _delay(request, number):
        return _queue(request, number)
    try:
        return str((await work.plain.aenqueue(number)).id)
    except WorkItemRejected:
        return "refused"


def _queue(request: HttpRequest, number: int) -> str:
    sort = _sort(request, number)
    try:
        function = getattr(work, sort)
        if _delay(request, number):
            seconds = float(request.GET["delay"])
            later = {"run_after": timezone.now() + datetime.timedelta(seconds=seconds)}
            function = function.using(**later if sort == "plain" else {"delay": seconds})
        return str(function.enqueue(number).id if sort == "plain" else function.queue(number).id)
    except WorkItemRejected:
        return "refused"
