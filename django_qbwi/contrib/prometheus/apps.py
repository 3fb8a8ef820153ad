"""The app config: connects the metrics to the signals."""

from __future__ import annotations

from django.apps import AppConfig


class PrometheusConfig(AppConfig):
    """Counts the items of this process; the site's own view or exporter serves the numbers."""

    name = "django_qbwi.contrib.prometheus"
    label = "django_qbwi_prometheus"
    verbose_name = "Background work items: metrics"

    def ready(self) -> None:
        """Connect."""
        from django_qbwi.contrib.prometheus import metrics  # needs prometheus-client and the registry of apps

        metrics.connect()
