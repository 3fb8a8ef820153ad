"""A project's own command around a development server, as many have one."""

from __future__ import annotations

from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    """Do what has to be done before, and then call runserver."""

    requires_system_checks: list[str] = []

    def add_arguments(self, parser: Any) -> None:
        """Take the address."""
        parser.add_argument("addrport")

    def handle(self, *args: Any, **options: Any) -> None:
        """Serve."""
        call_command("runserver", options["addrport"])
