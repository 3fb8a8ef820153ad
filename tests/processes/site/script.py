"""A plain script with `django.setup()`."""

from __future__ import annotations

import sys
import time

import django


def main() -> None:
    """Queue the items of the command line, work for the seconds given first, end."""
    django.setup()
    from tests.processes.site.items import queue  # Django's apps have to be loaded first
    from tests.processes.site.report import report

    for name in sys.argv[2:]:
        queue(name)
    report("ready")
    time.sleep(float(sys.argv[1]))
    report("command ends")


if __name__ == "__main__":
    main()
