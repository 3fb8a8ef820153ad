"""The app config: connects the metrics to the signals."""

from __future__ import annotations

from django.apps import AppConfig


class OpenTelemetryConfig(AppConfig):
    """Counts the items of this process; the site's own meter provider exports the numbers."""

    name = "django_qbwi.contrib.opentelemetry"
    label = "django_qbwi_opentelemetry"
    verbose_name = "Background work items: metrics"

    def ready(self) -> None:
        """Connect."""
        from django_qbwi.contrib.opentelemetry import metrics  # needs the registry of apps

        metrics.connect()
