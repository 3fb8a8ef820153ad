"""Follow an item through the package: which functions are called, in which thread, up to its end.

Run as a program, it prints them as JSON for a sync and for an async item, under "caller" and "runner", the thread that
the user's function runs in: a file, a function, and the file of the package that it was called from, if one has.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

YOURS = "your function"
"""Stands for what the user queued."""

Stop = tuple[str, str, str]
"""A file under the package, the qualified name of a function, and the file of the function that called it."""


class Recorder:
    """Notes each call of the package's functions, and of the user's, in all threads that start after it."""

    def __init__(self, package: Path) -> None:
        self._prefix = f"{package}/"
        self._own = str(Path(__file__))
        self.calls: list[tuple[int, Stop]] = []

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        """Take a note; what Python calls at each call and return."""
        code = frame.f_code
        if event == "call" and threading.get_ident() not in {thread for thread, _ in self.calls}:
            self._note_standing(frame)
        if event == "call" and code.co_filename.startswith(self._prefix):
            name = code.co_filename.removeprefix(self._prefix)
            self.calls.append((threading.get_ident(), (name, code.co_qualname, self._caller(frame))))
        elif event == "call" and code.co_filename == self._own and code.co_name.startswith("user_"):
            self.calls.append((threading.get_ident(), (YOURS, "", self._caller(frame))))

    def _note_standing(self, frame: FrameType) -> None:
        """Note what stands below the first call of a thread: a parked worker was called before the item came."""
        below = frame.f_back
        while below is not None:
            code = below.f_code
            if code.co_filename.startswith(self._prefix):
                name = code.co_filename.removeprefix(self._prefix)
                self.calls.append((threading.get_ident(), (name, code.co_qualname, "")))
                return
            below = below.f_back

    def _caller(self, frame: FrameType) -> str:
        """Return the file of the package that is next below on the stack; what is not of the package is passed over."""
        below = frame.f_back
        while below is not None:
            if below.f_code.co_filename.startswith(self._prefix):
                return below.f_code.co_filename.removeprefix(self._prefix)
            below = below.f_back
        return ""

    def split(self) -> dict[str, list[Stop]]:
        """Return what the caller's thread did, and what the one did that ran the user's function."""
        caller = threading.get_ident()
        (runner,) = (thread for thread, stop in self.calls if stop[0] == YOURS)
        return {
            "caller": [stop for thread, stop in self.calls if thread == caller],
            "runner": [stop for thread, stop in self.calls if thread == runner],
        }


def user_sync(token: Any) -> None:
    """Do nothing, on a worker."""


async def user_async(token: Any) -> None:
    """Do nothing, on the loop."""


def main() -> None:
    """Queue each twice, and print how the second one went."""
    import django
    from django.conf import settings

    settings.configure(SECRET_KEY="x", INSTALLED_APPS=["django_qbwi"], QBWI={"INSPECTION": False, "MAX_WORKERS": 1})
    django.setup()
    import django_qbwi
    from django_qbwi import hosting

    recorder = Recorder(Path(django_qbwi.__file__).parent)
    threading.setprofile(recorder)
    found = {}
    for name, function in (("sync", user_sync), ("async", user_async)):
        # The first one starts the threads and is looked at; its way is another one.
        for _ in range(2):
            assert hosting.scheduler().wait_until_empty(30)
            recorder.calls.clear()
            sys.setprofile(recorder)
            django_qbwi.queue_background_work_item(function)
            sys.setprofile(None)
            assert hosting.scheduler().wait_until_empty(30)
        found[name] = recorder.split()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
