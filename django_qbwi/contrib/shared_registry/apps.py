"""The app config: has the processes of this site write themselves down, and the command and the page read it."""

from __future__ import annotations

import os

from django.apps import AppConfig


class SharedRegistryConfig(AppConfig):
    """Offers the registry to hosting; no thread is started before the first request or item."""

    name = "django_qbwi.contrib.shared_registry"
    label = "django_qbwi_shared_registry"
    verbose_name = "Background work items: shared registry"

    def ready(self) -> None:
        """Register the check, and offer the registry."""
        from django.core import checks as django_checks  # the registry of apps is complete only now

        from django_qbwi import hosting
        from django_qbwi.contrib.shared_registry.checks import check_database
        from django_qbwi.contrib.shared_registry.registry import SharedRegistry
        from django_qbwi.signals import drain_started

        registry = SharedRegistry()
        hosting.share(registry)
        drain_started.connect(registry.on_drain_started, dispatch_uid="django_qbwi.contrib.shared_registry")
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=registry.before_fork, after_in_parent=registry.after_fork_in_parent)
        django_checks.register(check_database)
