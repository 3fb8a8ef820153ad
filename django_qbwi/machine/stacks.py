"""The stacks of threads and of asyncio tasks, as text and without locals."""

from __future__ import annotations

import asyncio
import sys
import traceback
import types
from typing import Any

_MAX_FRAMES = 40
_LOOKS = 5
_PACKAGE = __name__.split(".")[0]


def stack_of_thread(ident: int | None) -> str:
    """Return where the thread `ident` is now, innermost call last; any thread, does not block."""
    frame = None if ident is None else sys._current_frames().get(ident)
    if frame is None:
        return "  <no stack>\n"
    frames = [*traceback.walk_stack(frame)]
    # Outermost are the thread's start and our own worker, the same for every item.
    while len(frames) > 1 and _is_machinery(frames[-1][0]):
        frames.pop()
    return _format(traceback.StackSummary.extract(iter(frames), lookup_lines=False), reverse=True)


def stack_of_task(task: asyncio.Task[Any]) -> str:
    """Return the await chain of a suspended task, innermost await last; on any thread."""
    frames: list[tuple[types.FrameType, int]] = []
    waiting: Any = task.get_coro()
    while waiting is not None and len(frames) < _MAX_FRAMES:
        frame = _attribute(waiting, "cr_frame", "gi_frame", "ag_frame")
        if frame is not None:
            frames.append((frame, frame.f_lineno))
        waiting = _attribute(waiting, "cr_await", "gi_yieldfrom", "ag_await")
    if not frames:
        return "  <no stack>\n"
    return _format(traceback.StackSummary.extract(iter(frames), lookup_lines=False), reverse=False)


def stack_on_loop(
    task: asyncio.Task[Any], loop: asyncio.AbstractEventLoop | None, loop_ident: int | None, thread_ident: int | None
) -> str:
    """Return the await chain of a task, and where the thread is that it waits for, or blocks; on any thread.

    Args:
        task: Suspended, or running now.
        loop: Its loop, which runs in the thread `loop_ident`.
        loop_ident: See above.
        thread_ident: The thread that has the task's sync code, None if it has none.
    """
    text = ""
    for _ in range(_LOOKS):
        running = _runs_now(task, loop)
        text = stack_of_task(task)
        if thread_ident is not None:
            text += "in its executor thread:\n" + stack_of_thread(thread_ident)
        if running:
            text += "on the loop's thread:\n" + stack_of_thread(loop_ident)
        # Only if it has not gone on meanwhile do these belong together: one that runs shows no await chain.
        if running == _runs_now(task, loop):
            break
    return text


def caller_level() -> int:
    """Return the `stacklevel` with which a warning of our caller points at the first code that is not ours."""
    frame: types.FrameType | None = sys._getframe(1)
    level = 1
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] == _PACKAGE:
        frame = frame.f_back
        level += 1
    return level


def _runs_now(task: asyncio.Task[Any], loop: asyncio.AbstractEventLoop | None) -> bool:
    return loop is not None and asyncio.current_task(loop) is task


def _is_machinery(frame: types.FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).startswith(("threading", "django_qbwi."))


def _attribute(value: Any, *names: str) -> Any:
    for name in names:
        if hasattr(value, name):
            return getattr(value, name)
    return None


def _format(summary: traceback.StackSummary, *, reverse: bool) -> str:
    if reverse:
        summary.reverse()
    return "".join(traceback.StackSummary.from_list(list(summary)[-_MAX_FRAMES:]).format())
