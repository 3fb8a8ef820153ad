"""The app config: has the items of this site that end badly written down."""

from __future__ import annotations

import os

from django.apps import AppConfig


class HistoryConfig(AppConfig):
    """Offers the history to hosting; no thread is started before the first item."""

    name = "django_qbwi.contrib.history"
    label = "django_qbwi_history"
    verbose_name = "Background work items: history"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the checks, and offer the history."""
        from django.core import checks as django_checks  # the registry of apps is complete only now

        from django_qbwi import hosting
        from django_qbwi.contrib.history.archive import Archive
        from django_qbwi.contrib.history.checks import check_database, check_table
        from django_qbwi.signals import work_items_lost

        archive = Archive()
        hosting.keep_history(archive)
        work_items_lost.connect(archive.keep_lost, weak=False, dispatch_uid="django_qbwi.contrib.history")
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=archive.before_fork, after_in_parent=archive.after_fork_in_parent)
        django_checks.register(check_database)
        django_checks.register(check_table, django_checks.Tags.database)
