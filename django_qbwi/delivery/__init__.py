"""Sends signals to receivers that may do anything, in whatever thread, and on event loops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from django.dispatch import Signal

from django_qbwi.machine.loggers import SafeLogger, may_contain
from django_qbwi.machine.running_loop import on_running_loop

scheduler_logger = SafeLogger("django_qbwi.scheduler")

Schedule = Callable[[Coroutine[Any, Any, Any]], None] | None
"""Starts a coroutine on the background loop; None if there is none."""


def deliver(signal: Signal, sender: Any, schedule: Schedule, **named: Any) -> None:
    """Send a signal in this thread, also on a running event loop; an Exception of a receiver is logged."""
    try:
        if on_running_loop():
            _deliver_on_loop(signal, sender, schedule, named)
        else:
            signal.send_robust(sender, **named)
    except BaseException as error:
        # Django logs a receiver that raises an Exception, and a logging handler may raise at that.
        if not may_contain(error):
            raise
        scheduler_logger.exception("Sending a signal of work items failed")


def deliver_from_item(signal: Signal, sender: Any, schedule: Schedule, **named: Any) -> None:
    """Send a signal in the thread of an item, which no receiver ends."""
    try:
        deliver(signal, sender, schedule, **named)
    except BaseException:
        # A receiver that exits would end the item, or our thread. In the main thread it is Ctrl-C or the server.
        if threading.current_thread() is threading.main_thread():
            raise
        scheduler_logger.exception("A receiver of a signal of work items raised")


async def adeliver(signal: Signal, sender: Any, **named: Any) -> None:
    """Send a signal on the loop of an item, which no receiver ends."""
    try:
        await signal.asend_robust(sender, **named)
    except BaseException as error:
        # As above. A native cancel is meant for the item, and goes on to it.
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise
        scheduler_logger.exception("A receiver of a signal of work items raised")


def _deliver_on_loop(signal: Signal, sender: Any, schedule: Schedule, named: dict[str, Any]) -> None:
    # send_robust() refuses async receivers on a running loop, which could not wait for them either.
    sync_receivers, async_receivers = signal._live_receivers(sender)
    for receiver in sync_receivers:
        try:
            receiver(signal=signal, sender=sender, **named)
        except BaseException as error:
            if not may_contain(error):
                raise
            scheduler_logger.exception("Error calling %r for a signal of work items", receiver)
    if schedule is not None:
        for receiver in async_receivers:
            schedule(_call_async(receiver, signal, sender, named))


async def _call_async(receiver: Any, signal: Signal, sender: Any, named: dict[str, Any]) -> None:
    try:
        await receiver(signal=signal, sender=sender, **named)
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        if not may_contain(error):
            raise
        scheduler_logger.exception("Error calling %r for a signal of work items", receiver)
