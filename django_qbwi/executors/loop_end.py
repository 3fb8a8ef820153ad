"""The end of tasks, and of an event loop: of ours, with what items left behind, and of its copy in a forked child."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextvars import Context
from typing import Any

from django_qbwi.core.items import WorkItem
from django_qbwi.executors.loop_repair import LoopMender
from django_qbwi.machine.loggers import SafeLogger

logger = SafeLogger("django_qbwi.scheduler")

_NATIVE_CANCELS = 10


def cancel_leftovers(
    loop: asyncio.AbstractEventLoop, expected: Iterable[asyncio.Task[Any] | None], pid: int, mender: LoopMender
) -> None:
    """Cancel the tasks of a loop that has stopped, and run it until they have ended; blocks, without limit.

    Args:
        loop: The loop, on its own thread.
        expected: Tasks that are not worth a warning.
        pid: The process that the tasks belong to; in another one they are left alone.
        mender: Looks after the loop when it fails.
    """
    left = asyncio.all_tasks(loop)
    strays = left.difference(expected)
    if strays:
        logger.warning(
            "%d asyncio task(s) that items left behind are cancelled: %s",
            len(strays),
            ", ".join(sorted(task.get_name() for task in strays))[:500],
        )
    for task in left:
        task.cancel()
    while left and os.getpid() == pid:
        # As a worker thread stays with its item: nobody waits for this thread any more, and a loop that is dropped
        # with tasks in it ("Task was destroyed but it is pending!") is never closed.
        try:
            loop.run_until_complete(asyncio.wait(left))
        except (SystemExit, KeyboardInterrupt) as error:
            logger.error("A task that was left behind raised %r", error, exc_info=error)
        except BaseException as error:
            mender.mend(error, left)
        left = asyncio.all_tasks(loop)


def stop_copy(loop: asyncio.AbstractEventLoop) -> None:
    """Keep the copy of a loop from taking another step; called in the child, on the loop's thread.

    The child of an item that forked on the loop's thread would run the parent's other items to their end as well.
    """
    # There is no public way to make a loop forget; without these attributes it stops a step later.
    if hasattr(loop, "_ready") and hasattr(loop, "_scheduled"):
        kept = _Kept(loop._ready, loop._scheduled)
        loop._ready, loop._scheduled = kept, []
    # asyncio has taken the mark of a running loop from the child, and from Python 3.14 on the step that forked cannot
    # be ended without it: "loop is not the running loop". It is ended all the same, and nobody needs to hear of it.
    loop.set_exception_handler(_ignore)
    loop.stop()


def _ignore(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say nothing of what the copy of a loop complains about."""


class _Kept(deque[Any]):
    """What the loop of a forked child would run next: never run, and kept, since a task that is dropped says so."""

    def __init__(self, *handles: Any) -> None:
        super().__init__()
        self._handles = [*handles]

    def append(self, handle: Any) -> None:
        """Keep it out of the queue."""
        self._handles.append(handle)


def cancel_natively(
    in_flight: Mapping[WorkItem, asyncio.Task[Any] | None],
    items: Sequence[WorkItem],
    context: Context,
    tries: int = _NATIVE_CANCELS,
) -> None:
    """Cancel the tasks of items, and again each tenth of a second as long as they run, `tries` times; on the loop.

    asgiref absorbs the first cancellation of a task that waits for a thread until that thread is done.
    """
    running = [item for item in items if item.runs]
    for item in running:
        task = in_flight.get(item)
        if task is not None:
            task.cancel()
    if running and tries > 1:
        again = asyncio.get_running_loop().call_later
        again(0.1, cancel_natively, in_flight, running, context, tries - 1, context=context)
