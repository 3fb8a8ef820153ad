"""The app config: has the processes that serve run what is due, and the command and the page show it."""

from __future__ import annotations

import os

from django.apps import AppConfig


class SchedulesConfig(AppConfig):
    """Offers the schedules to hosting; a thread is started in processes that serve, and nowhere else."""

    name = "django_qbwi.contrib.schedules"
    label = "django_qbwi_schedules"
    verbose_name = "Background work items: schedules"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the checks, import the `schedules` module of each app, and offer what was declared."""
        from django.core import checks as django_checks  # the registry of apps is complete only now
        from django.utils.module_loading import autodiscover_modules

        from django_qbwi import hosting
        from django_qbwi.contrib.schedules.checks import check_database, check_schedules, check_table
        from django_qbwi.contrib.schedules.site import SiteSchedules

        django_checks.register(check_schedules)
        django_checks.register(check_database)
        django_checks.register(check_table, django_checks.Tags.database)
        autodiscover_modules("schedules")
        schedules = SiteSchedules()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=schedules.before_fork, after_in_parent=schedules.after_fork_in_parent)
        hosting.offer_schedules(schedules)
