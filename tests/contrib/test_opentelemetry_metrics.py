"""The metrics of OpenTelemetry: what a reader collects after some items have ended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from django.apps import apps
from django.test import override_settings
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from django_qbwi import QueueFull, hosting, queue_background_work_item
from django_qbwi.contrib.opentelemetry import Carrier, metrics
from django_qbwi.contrib.opentelemetry.apps import OpenTelemetryConfig
from tests.support.gates import PATIENCE, Gate


@pytest.fixture
def reader() -> Iterator[InMemoryMetricReader]:
    """Collect from the instruments of a provider of its own."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    with mock.patch.object(metrics, "get_meter", provider.get_meter):
        metrics.connect()
    yield reader
    metrics.disconnect()
    provider.shutdown()


def collected(reader: InMemoryMetricReader) -> dict[str, list[Any]]:
    """Return the data points of each metric."""
    data = reader.get_metrics_data()
    assert data is not None
    return {
        metric.name: list(metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def fail(token: Any) -> None:
    """Fail."""
    raise ValueError


def test_metrics(reader: InMemoryMetricReader) -> None:
    """Ends by outcome, durations by name, what runs and waits now; no label is among the attributes."""
    gate = Gate()
    with override_settings(QBWI={"MAX_WORKERS": 1, "MAX_QUEUED": 1}):
        assert queue_background_work_item(lambda token: None, name="quick", labels={"order": 1}).wait(PATIENCE)
        assert queue_background_work_item(fail, name="failing").wait(PATIENCE)
        held = queue_background_work_item(gate, name="held")
        gate.await_entered()
        waiting = queue_background_work_item(fail, name="waiting")
        with pytest.raises(QueueFull):
            queue_background_work_item(fail, name="refused")
        found = collected(reader)
        assert waiting.cancel()
        gate.open()
        assert held.wait(PATIENCE)
    counted = {
        (point.attributes["name"], point.attributes["outcome"]): point.value for point in found["django_qbwi.items"]
    }
    assert counted == {("quick", "succeeded"): 1, ("failing", "failed"): 1, ("refused", "rejected"): 1}
    for name in ("django_qbwi.item.duration", "django_qbwi.item.wait"):
        assert {(point.attributes["name"], point.count) for point in found[name]} == {("quick", 1), ("failing", 1)}
        assert all(set(point.attributes) == {"name"} for point in found[name])
        assert found[name][0].explicit_bounds[0] == 0.01
    assert [point.value for point in found["django_qbwi.items.running"]] == [1]
    assert [point.value for point in found["django_qbwi.items.queued"]] == [1]


def test_item_that_never_began(reader: InMemoryMetricReader) -> None:
    """It is counted, and has no duration."""
    with override_settings(QBWI={}):
        assert queue_background_work_item(fail, name="late", delay=3600).cancel()
        assert hosting.scheduler().wait_until_empty(PATIENCE)
        found = collected(reader)
    assert [point.attributes["outcome"] for point in found["django_qbwi.items"]] == ["cancelled"]
    assert "django_qbwi.item.duration" not in found


def test_names_are_bounded(reader: InMemoryMetricReader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Further ones are one."""
    monkeypatch.setattr(metrics, "MAX_NAMES", 1)
    with override_settings(QBWI={}):
        for name in ("first", "second", "first", "third"):
            assert queue_background_work_item(lambda token: None, name=name).wait(PATIENCE)
        found = collected(reader)
    counted = {point.attributes["name"]: point.value for point in found["django_qbwi.items"]}
    assert counted == {"first": 2, "other": 2}


def test_app_connects() -> None:
    """The carrier is where it was, beside the app."""
    assert Carrier.__name__ == "OpenTelemetryCarrier"
    config = OpenTelemetryConfig.create("django_qbwi.contrib.opentelemetry")
    assert type(config) is OpenTelemetryConfig
    assert not apps.is_installed(config.name)
    with mock.patch.object(metrics, "connect") as connect:
        config.ready()
    connect.assert_called_once_with()
