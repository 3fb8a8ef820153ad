"""What runs by the clock there: each run writes its tick and its process into a file."""

import os
from datetime import timedelta
from typing import Any

from django_qbwi import background_work_item
from django_qbwi.contrib.schedules import schedule
from django_qbwi.contrib.schedules.models import ScheduleState


def note(name: str) -> None:
    """Write a line; one write of a few bytes is not torn."""
    tick = ScheduleState.objects.get(pk=name).tick_ms
    with open(os.environ["QBWI_TEST_FILE"], "ab", buffering=0) as file:
        file.write(f"{name} {tick} {os.getpid()}\n".encode())


@schedule(every=timedelta(seconds=1), name="short")
def short(token: Any) -> None:
    """Be there once a second."""
    note("short")


if os.environ.get("QBWI_TEST_LONG"):

    @schedule(every=timedelta(seconds=1), name="long")
    @background_work_item
    def long(token: Any) -> None:
        """Run until the token is cancelled."""
        note("long")
        token.wait(600)
        token.raise_if_cancellation_requested()
