"""When a schedule is due: every so often, or as cron says. Moments are milliseconds since the epoch, by UTC.

Whole numbers, and not datetimes: two processes compare them in the table, where a site with `USE_TZ = False` would have
one hour twice in autumn.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib.util
import zoneinfo
from typing import Protocol

from django.conf import settings

_LEAST = 1_000
_LONGEST = 100 * 366 * 86_400_000


class Timing(Protocol):
    """The ticks of a schedule."""

    @property
    def text(self) -> str:
        """What it is, for people, and to notice a change."""

    def problem(self) -> str:
        """Return what is wrong with it, with the value; "" if nothing is."""

    def next_after(self, moment: int, tick: int) -> int:
        """Return the first tick after `moment`; `tick` is one of them, in the past or to come."""


@dataclasses.dataclass(frozen=True, slots=True)
class Every:
    """At even distances of time that has passed, whatever the clocks on the wall do."""

    period: datetime.timedelta

    @property
    def text(self) -> str:
        """See `Timing.text`."""
        return f"every {self._milliseconds / 1000:.15g} s"

    def problem(self) -> str:
        """See `Timing.problem`."""
        if not _LEAST <= self._milliseconds <= _LONGEST:
            return f"every={self.period!r} is not between one second and a hundred years"
        return ""

    def next_after(self, moment: int, tick: int) -> int:
        """See `Timing.next_after`."""
        return tick + ((moment - tick) // self._milliseconds + 1) * self._milliseconds

    @property
    def _milliseconds(self) -> int:
        return self.period // datetime.timedelta(milliseconds=1)


@dataclasses.dataclass(frozen=True, slots=True)
class Cron:
    """As Debian's cron says, by the clock on the wall of a time zone."""

    expression: str
    zone_name: str | None = None
    """None for that of the site, settings.TIME_ZONE."""

    @property
    def text(self) -> str:
        """See `Timing.text`."""
        return f"cron {' '.join(self.expression.split())} ({self._zone_name})"

    def problem(self) -> str:
        """See `Timing.problem`."""
        if not is_cronsim_installed():
            return (
                f"cron={self.expression!r} needs the library cronsim: install django-qbwi[schedules], or write every="
            )
        try:
            _zone(self._zone_name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            return f"the time zone {self._zone_name!r} is not known here"
        try:
            self.next_after(0, 0)
        except (ValueError, RecursionError) as error:
            return f"cron={self.expression!r} does not say when: {error}"
        return ""

    def next_after(self, moment: int, tick: int) -> int:
        """See `Timing.next_after`.

        Raises:
            ValueError: There is none, or the expression is none.
        """
        # It is there for those who use it; `problem` is asked first.
        from cronsim import CronSim, CronSimError

        start = datetime.datetime.fromtimestamp(moment // 1000, datetime.UTC).astimezone(_zone(self._zone_name))
        try:
            for found in CronSim(self.expression, start):
                # In the hour that comes twice it begins with the first one again, and ticks of the hour that is left
                # out fall together.
                milliseconds = int(found.timestamp()) * 1000
                if milliseconds > moment:
                    return milliseconds
        except CronSimError as error:
            raise ValueError(str(error)) from error
        raise ValueError("there is no such day within 50 years")

    @property
    def _zone_name(self) -> str:
        return settings.TIME_ZONE if self.zone_name is None else self.zone_name


def is_cronsim_installed() -> bool:
    """Tell whether cron expressions can be read."""
    return importlib.util.find_spec("cronsim") is not None


def _zone(name: str) -> datetime.tzinfo:
    # cronsim knows this one object for a zone without summer time.
    return datetime.UTC if name == "UTC" else zoneinfo.ZoneInfo(name)
