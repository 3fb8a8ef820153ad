"""OpenTelemetry: a link from an item's trace to the request's, and metrics of the background work.

- QBWI = {"CONTEXT": ["django_qbwi.contrib.opentelemetry"]} has each item linked: `links`.
- INSTALLED_APPS = [..., "django_qbwi.contrib.opentelemetry"] has the items of each process counted: `metrics`.
"""

from django_qbwi.contrib.opentelemetry.links import Carrier, OpenTelemetryCarrier

__all__ = ["Carrier", "OpenTelemetryCarrier"]
