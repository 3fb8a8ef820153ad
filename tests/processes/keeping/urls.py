"""Addresses whose items end badly, each with a number by which it is found."""

import threading
import time
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import path

from django_qbwi import queue_background_work_item
from tests.processes.site import views


def fail(token: Any, number: int) -> None:
    """Fail at once."""
    raise ValueError(f"number {number}")


async def fail_at_the_end(token: Any, number: int) -> None:
    """Fail when the process ends."""
    await token.cancelled()
    raise ValueError(f"number {number}")


def stay(token: Any, number: int) -> None:
    """Never end."""
    threading.Event().wait(600)


def queue(request: HttpRequest, how: str, number: int) -> HttpResponse:
    """Queue an item; one that fails at once has failed when this answers."""
    work = {"fail": fail, "late": fail_at_the_end, "stay": stay}[how]
    handle = queue_background_work_item(work, number, name=f"{how} {number}")
    if how == "fail":
        assert handle.wait(30)
    while handle.status == "queued":
        time.sleep(0.01)
    return HttpResponse(handle.id)


urlpatterns = [path("pid", views.pid), path("queue/<str:how>/<int:number>", queue)]
