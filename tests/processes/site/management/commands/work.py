"""A command that queues items, and then either ends or works on."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import BaseCommand

from tests.processes.site.items import queue
from tests.processes.site.report import report
from tests.processes.site.script import stay


class Command(BaseCommand):
    """Queue items and end, or go on until a signal ends it."""

    requires_system_checks: list[str] = []

    def add_arguments(self, parser: Any) -> None:
        """Take names of items, and seconds to go on, looking around now and then (`--stay`) or not (`--sleep`)."""
        parser.add_argument("items", nargs="*")
        parser.add_argument("--stay", type=float, default=0.0)
        parser.add_argument("--sleep", type=float, default=0.0)

    def handle(self, *args: Any, **options: Any) -> None:
        """Queue, work, end."""
        for name in options["items"]:
            queue(name)
        report("ready")
        stay(options["stay"])
        time.sleep(options["sleep"])
        report("command ends")
