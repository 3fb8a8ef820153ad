"""What is queued: tasks, and decorated functions, that can move to the engine."""

from __future__ import annotations

import asyncio
import time

from django_qbwi import CancellationToken, background_work_item
from tests.handoff.real_engines.site.ledger import SECONDS, note, note_row

try:
    from django.tasks import task
except ImportError:
    from django_tasks import task


@task
def plain(number: int, seconds: float = SECONDS) -> int:
    """Take some time."""
    note("begun", number)
    time.sleep(seconds)
    note("ended", number)
    return number * 2


@background_work_item(hand_off="durable")
def decorated(token: CancellationToken, number: int, *, seconds: float = SECONDS) -> None:
    """Take some time."""
    note("begun", number)
    time.sleep(seconds)
    note("ended", number)


@background_work_item(hand_off="durable")
async def decorated_async(token: CancellationToken, number: int, seconds: float = SECONDS) -> None:
    """Take some time, on an event loop."""
    note("begun", number)
    await asyncio.sleep(seconds)
    note("ended", number)


@background_work_item(hand_off="durable")
def rows(token: CancellationToken, first: int, last: int, each: float) -> None:
    """Note one row after another; what is left goes on elsewhere."""
    for number in range(first, last):
        token.checkpoint(first=number)
        note_row(number, each)
    note("ended", last)


@background_work_item(hand_off="durable")
async def rows_async(token: CancellationToken, first: int, last: int, each: float) -> None:
    """Do as `rows`, on an event loop."""
    for number in range(first, last):
        token.checkpoint(first=number)
        note_row(number, each)
        if number % 20 == 0:
            await asyncio.sleep(0)
    note("ended", last)


SORTS = ("plain", "decorated", "decorated_async")
