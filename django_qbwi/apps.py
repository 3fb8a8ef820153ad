"""The app config: registers the checks and opens the scheduler of the process."""

from __future__ import annotations

import contextlib

from django.apps import AppConfig
from django.core.exceptions import ImproperlyConfigured


class QBWIConfig(AppConfig):
    """Opens the process's scheduler in `ready()`; no thread is started before the first item."""

    name = "django_qbwi"
    label = "django_qbwi"
    verbose_name = "Background work items"

    def ready(self) -> None:
        """Register the checks, open the scheduler, and have engines know what they are to run."""
        from django.core import checks as django_checks  # the registry may be imported when apps are loading

        from django_qbwi import checks, conf, hosting  # Django's settings are read below these
        from django_qbwi.database import queries
        from django_qbwi.handoff.engines import expect_items

        django_checks.register(checks.check_settings)
        django_checks.register(checks.check_engines)
        django_checks.register(checks.check_pools)
        django_checks.register(checks.check_mail)
        django_checks.register(checks.check_inspection)
        django_checks.register(checks.check_lifespan)
        django_checks.register(checks.check_deployment, deploy=True)
        queries.provide_blocks()
        hosting.start()
        with contextlib.suppress(ImproperlyConfigured):
            # Wrong settings are told by the checks, and by the first item.
            loaded = conf.load()
            for alias in {loaded.engine, loaded.email_hand_off} - {None}:
                expect_items(str(alias))
