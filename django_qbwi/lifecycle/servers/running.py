"""Tells what runs in this process: the calls on the stack of its main thread.

What was merely imported tells nothing: a script may import gunicorn's base class, or have a module called uwsgi.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from types import FrameType


def runs(module: str, function: str | None = None) -> bool:
    """Tell whether the main thread is inside `module` or a module below it, in `function` if one is named.

    Any thread may ask; it takes some microseconds for each call on that stack.
    """
    if module.partition(".")[0] not in sys.modules:
        return False
    return any(
        (name == module or name.startswith(f"{module}.")) and function in (None, frame.f_code.co_name)
        for frame in _main_stack()
        for name in [str(frame.f_globals.get("__name__", ""))]
    )


def owners(module: str) -> Iterator[object]:
    """Return the objects whose methods the main thread is inside of, of `module` and modules below it; any thread."""
    for frame in _main_stack():
        name = str(frame.f_globals.get("__name__", ""))
        if (name == module or name.startswith(f"{module}.")) and "self" in frame.f_locals:
            yield frame.f_locals["self"]


def _main_stack() -> Iterator[FrameType]:
    ident = threading.main_thread().ident
    frame = None if ident is None else sys._current_frames().get(ident)
    while frame is not None:
        yield frame
        frame = frame.f_back
