"""The metrics of prometheus-client, in one process and in several."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from django_qbwi import QueueFull, hosting, queue_background_work_item, signals
from tests.support.scripts import unexpected

prometheus_client = pytest.importorskip("prometheus_client", reason="prometheus-client is not installed here")

CHECKOUT = Path(__file__).resolve().parents[2]
PATIENCE = 30

MULTIPROCESS = """
import os, struct, sys, time, warnings
from django.conf import settings
settings.configure(SECRET_KEY="x", INSTALLED_APPS=["django_qbwi", "django_qbwi.contrib.prometheus"])
import django
django.setup()
from django_qbwi import queue_background_work_item
from prometheus_client import CollectorRegistry, multiprocess

warnings.simplefilter("ignore", DeprecationWarning)
child = os.fork()
gone = queue_background_work_item(lambda token: None, name="quick")
assert gone.wait(30)
held = [queue_background_work_item(lambda token: token.wait(30), name="held") for _ in range(6)]
while sum(handle.status == "running" for handle in held) < 4:
    time.sleep(0.001)
if not child:
    time.sleep(60)
else:
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    name = {"name": "quick", "outcome": "succeeded"}


    def value(*sample):
        try:
            return registry.get_sample_value(*sample)
        except struct.error:  # a file that the other process has made, and not filled yet
            return None

    while value("django_qbwi_running") != 8 or value("django_qbwi_queued") != 4:
        time.sleep(0.001)
    print(value("django_qbwi_items_total", name))
    os.kill(child, 9)
    os.waitpid(child, 0)
for handle in held:
    handle.cancel()
"""


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return the metrics, connected for a test, with names of its own."""
    from django_qbwi.contrib.prometheus import metrics

    monkeypatch.setattr(metrics, "_names", set())
    with override_settings(QBWI={"MAX_WORKERS": 1, "MAX_QUEUED": 2}):
        metrics.connect()
        yield metrics
        for signal in (signals.work_item_finished, signals.work_item_rejected):
            signal.disconnect(dispatch_uid="django_qbwi.contrib.prometheus")


def value(metric: str, /, **labels: str) -> float:
    """Return a number as Prometheus would scrape it."""
    return prometheus_client.REGISTRY.get_sample_value(metric, labels) or 0.0


def fail(token: Any) -> None:
    """Fail."""
    raise ValueError


async def asleep(token: Any) -> None:
    """Do nothing, on the loop."""


def run(work_item: Any, name: str) -> None:
    """Run an item, and wait for its signal."""
    assert queue_background_work_item(work_item, name=name).wait(PATIENCE)
    assert hosting.scheduler().wait_until_empty(PATIENCE)


@pytest.mark.parametrize(
    ("work_item", "outcome"), [(lambda token: None, "succeeded"), (fail, "failed"), (asleep, "succeeded")]
)
def test_outcomes_are_counted(metrics: Any, work_item: Any, outcome: str) -> None:
    """By the name of the item and its terminal status."""
    before = value("django_qbwi_items_total", name="counted", outcome=outcome)
    run(work_item, "counted")
    assert value("django_qbwi_items_total", name="counted", outcome=outcome) == before + 1


def test_times_are_observed(metrics: Any) -> None:
    """The wait and the run of an item."""
    run(lambda token: None, "timed")
    for metric in ("wait", "duration"):
        assert value(f"django_qbwi_item_{metric}_seconds_count", name="timed") == 1


@pytest.mark.parametrize("use_tz", [True, False])
@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "America/St_Johns"])
def test_g44_times_are_seconds_whatever_the_zone(metrics: Any, use_tz: bool, zone: str) -> None:
    """Neither the wait nor the run of an item has hours of a time zone in it."""
    name = f"timed {use_tz} {zone}"
    with override_settings(USE_TZ=use_tz, TIME_ZONE=zone):
        run(lambda token: None, name)
    for metric in ("wait", "duration"):
        assert value(f"django_qbwi_item_{metric}_seconds_count", name=name) == 1
        assert value(f"django_qbwi_item_{metric}_seconds_sum", name=name) < PATIENCE


def test_moment_is_read_when_asked(metrics: Any) -> None:
    """Running and queued items; a refused one is counted as rejected, one that never started has no duration."""
    gate, entered = threading.Event(), threading.Event()

    def hold(token: Any) -> None:
        entered.set()
        assert gate.wait(PATIENCE)

    held = queue_background_work_item(hold, name="held")
    assert entered.wait(PATIENCE)
    waiting = [queue_background_work_item(hold, name="waiting") for _ in range(2)]
    with pytest.raises(QueueFull):
        queue_background_work_item(hold, name="refused")
    found = (value("django_qbwi_running"), value("django_qbwi_queued"))
    for handle in waiting:
        handle.cancel()
    gate.set()
    assert held.wait(PATIENCE)
    assert list(found) == [1, 2]
    assert value("django_qbwi_items_total", name="refused", outcome="rejected") == 1
    assert value("django_qbwi_items_total", name="waiting", outcome="cancelled") == 2
    assert value("django_qbwi_item_duration_seconds_count", name="waiting") == 0


def test_names_are_bounded(metrics: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name for each order would make a time series for each order."""
    monkeypatch.setattr(metrics, "MAX_NAMES", 2)
    before = value("django_qbwi_items_total", name="other", outcome="succeeded")
    for number in (1, 2, 3, 4, 1):
        run(lambda token: None, f"order {number}")
    assert value("django_qbwi_items_total", name="other", outcome="succeeded") == before + 2
    assert value("django_qbwi_items_total", name="order 1", outcome="succeeded") == 2


def test_processes_are_added_up(tmp_path: Path) -> None:
    """Multiprocess mode: the numbers of a parent and of its child."""
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-c", MULTIPROCESS]
    result = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=PATIENCE)
    assert (result.returncode, unexpected(result.stderr), result.stdout) == (0, "", "2.0\n")
