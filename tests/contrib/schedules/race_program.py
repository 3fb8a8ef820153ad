"""One process of a site that looks at the table of schedules whenever its parent says what time it is.

Arguments: the settings of the database as JSON, the number of schedules. Each line of stdin is a moment, in seconds;
the answer is a line with the names of the schedules that were started for it. An empty line ends it.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from typing import Any

import django
from django.conf import settings


def main(database: dict[str, Any], count: int) -> None:
    """Look until stdin ends."""
    settings.configure(
        SECRET_KEY="only-for-this-test",
        USE_TZ=True,
        DATABASES={"default": database},
        INSTALLED_APPS=["django_qbwi", "django_qbwi.contrib.schedules"],
    )
    django.setup()
    from django_qbwi import queue_background_work_item
    from django_qbwi.contrib.schedules.declared import Schedule
    from django_qbwi.contrib.schedules.store import Store
    from django_qbwi.contrib.schedules.ticker import Ticker
    from django_qbwi.contrib.schedules.timing import Every
    from tests.contrib.schedules import scheduled
    from tests.support.manual import ManualServiceThread

    now = 0.0
    started: list[str] = []

    def start(schedule: Schedule) -> Any:
        started.append(schedule.name)
        return queue_background_work_item(scheduled.plain)

    schedules = [Schedule(scheduled.plain, Every(timedelta(minutes=1)), True, f"it{number}") for number in range(count)]
    ticker = Ticker(lambda: schedules, Store(), start, lambda: True, ManualServiceThread(lambda: now), wall=lambda: now)
    print("ready", flush=True)
    for line in sys.stdin:
        if not line.strip():
            break
        now = float(line)
        ticker.look()
        assert not ticker.is_failing
        print(" ".join(started), flush=True)
        started.clear()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), int(sys.argv[2]))
