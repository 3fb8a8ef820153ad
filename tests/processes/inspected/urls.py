"""Two pages: who serves, and the same with items."""

import os
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import path

from django_qbwi import queue_background_work_item
from tests.processes.inspected import tasks


def wait(token: Any) -> None:
    """Wait for the cancellation."""
    token.wait(600)
    token.raise_if_cancellation_requested()


async def await_cancellation(token: Any) -> None:
    """Await the cancellation."""
    await token.cancelled()
    token.raise_if_cancellation_requested()


def hold_interpreter(token: Any) -> None:
    """Hold the GIL for minutes, in C code that never lets go of it."""
    sum(range(10**11))


def pid(request: HttpRequest) -> HttpResponse:
    """Tell which process serves."""
    return HttpResponse(str(os.getpid()))


def queue(request: HttpRequest) -> HttpResponse:
    """Queue three sync items, of which one has to wait, and an async one."""
    for _ in range(3):
        queue_background_work_item(wait)
    queue_background_work_item(await_cancellation)
    return pid(request)


def hold(request: HttpRequest) -> HttpResponse:
    """Queue what holds the GIL, once the answer is on its way."""
    queue_background_work_item(lambda token: (token.wait(0.3), hold_interpreter(token)), name="hold_interpreter")
    return pid(request)


def enqueue(request: HttpRequest) -> HttpResponse:
    """Run a task in this process; tell the id of its result, and the process."""
    result = tasks.add.enqueue(1, 2)
    return HttpResponse(f"{result.id} {os.getpid()}")


def result(request: HttpRequest) -> HttpResponse:
    """Tell which process answers, and what it finds out about a task."""
    try:
        found = tasks.add.get_result(request.GET["id"])
    except tasks.DoesNotExist as error:
        return HttpResponse(f"{os.getpid()} {error}")
    value = found.return_value if found.is_finished else None
    return HttpResponse(
        f"{os.getpid()} {found.status} {value} {found.args} {found.worker_ids} {found.task == tasks.add}"
    )


urlpatterns = [
    path("pid", pid),
    path("queue", queue),
    path("hold", hold),
    path("enqueue", enqueue),
    path("result", result),
]
