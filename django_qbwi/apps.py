"""The app config: registers the checks and opens the scheduler of the process."""

from __future__ import annotations

from django.apps import AppConfig


class QBWIConfig(AppConfig):
    """Opens the process's scheduler in `ready()`; no thread is started before the first item."""

    name = "django_qbwi"
    label = "django_qbwi"
    verbose_name = "Background work items"

    def ready(self) -> None:
        """Register the checks and open the scheduler."""
        from django.core import checks as django_checks  # the registry may be imported when apps are loading

        from django_qbwi import checks, hosting  # Django's settings are read below these

        django_checks.register(checks.check_settings)
        django_checks.register(checks.check_inspection)
        django_checks.register(checks.check_lifespan)
        django_checks.register(checks.check_deployment, deploy=True)
        hosting.start()
