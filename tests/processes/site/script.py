"""A plain script with `django.setup()`."""

from __future__ import annotations

import contextlib
import itertools
import sys
import time

import django


def main() -> None:
    """Queue the items of the command line, work for the seconds given first, end."""
    django.setup()
    from tests.processes.site.items import queue  # Django's apps have to be loaded first
    from tests.processes.site.report import report

    if "--flood" in sys.argv:
        flood()
    for name in sys.argv[2:]:
        if not name.startswith("--"):
            queue(name)
    report("ready")
    stay(float(sys.argv[1]))
    report("command ends")
    if "--fail" in sys.argv:
        raise RuntimeError("The script fails.")


def stay(seconds: float) -> None:
    """Sleep, in naps: Python does not notice a signal that comes in the moment before a sleep until that is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.05)


def flood() -> None:
    """Queue as fast as possible until a signal ends it."""
    from django_qbwi import QueueFull, queue_background_work_item
    from tests.processes.site.report import report

    for number in itertools.count():
        if number == 1000:
            report("flood")
        with contextlib.suppress(QueueFull):
            queue_background_work_item(_nothing)


def _nothing(token: object) -> None:
    pass


if __name__ == "__main__":
    main()
