"""Functions that run by the clock: once per site and tick, in whichever serving process is first."""

from django_qbwi.contrib.schedules.declared import schedule

__all__ = ["schedule"]
