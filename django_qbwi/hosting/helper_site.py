"""The site inside of a helper process: Django, set up and kept warm, and what is around each item there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import django
from django.conf import settings

from django_qbwi.database.connections import ConnectionEnvironment
from django_qbwi.intake.activation import active
from django_qbwi.intake.carriers import load_carriers, restored
from django_qbwi.intake.crossing import sign_of
from django_qbwi.intake.snapshot import RequestSnapshot


class HelperSite(ConnectionEnvironment):
    """Has connection hygiene around items, as the parent has it, and brings back what crosses with a call."""

    def __init__(self, settings_module: str, context: list[str]) -> None:
        """Set Django up, and load the carriers that the parent has.

        Raises:
            Exception: Whatever the settings and the apps raise.
        """
        os.environ["DJANGO_SETTINGS_MODULE"] = settings_module
        settings.LOGGING = _without_handlers(settings.LOGGING)
        django.setup()
        self._carriers = {sign_of(carrier): carrier for carrier in load_carriers(context)}
        super().__init__()

    def __repr__(self) -> str:
        return f"<HelperSite carriers={len(self._carriers)}>"

    @contextlib.contextmanager
    def surroundings(self, args: tuple[Any, ...], carried: list[tuple[str, Any]]) -> Iterator[None]:
        """Have in force what a snapshot among the arguments says, and what the carriers have captured."""
        snapshot = args[0] if args and type(args[0]) is RequestSnapshot else None
        captured = tuple((self._carriers[sign], value) for sign, value in carried)
        with restored(captured), contextlib.nullcontext() if snapshot is None else active(snapshot):
            yield


def _without_handlers(given: Any) -> Any:
    """Return LOGGING with its levels only: records are the parent's, whose files are not to be opened here as well."""
    if not isinstance(given, dict) or not isinstance(given.get("handlers"), dict):
        return given
    return {**given, "handlers": {name: {"class": "logging.NullHandler"} for name in given["handlers"]}}
