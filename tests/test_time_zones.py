"""Times that leave the package, with and without USE_TZ, near UTC and far from it."""

import datetime
import io
import json
import re
import threading
import zoneinfo
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.test import RequestFactory, override_settings
from django.utils import timezone

from django_qbwi import CancellationToken, RequestSnapshot, WorkItemHandle, copies_request, queue_background_work_item
from django_qbwi.console import dashboard, operations

PATIENCE = 30


@pytest.fixture(params=["UTC", "Asia/Kathmandu", "America/St_Johns"])
def zone(request: pytest.FixtureRequest) -> str:
    """Name the site's time zone."""
    return str(request.param)


@pytest.fixture(params=[True, False], ids=["USE_TZ", "naive"], autouse=True)
def use_tz(request: pytest.FixtureRequest, zone: str) -> Iterator[bool]:
    """Have the site keep its times aware, or naive."""
    with override_settings(USE_TZ=request.param, TIME_ZONE=zone, QBWI={"MAX_WORKERS": 1}):
        yield request.param


@pytest.fixture
def held(use_tz: bool) -> Iterator[WorkItemHandle]:
    """Return an item that runs until it is cancelled."""
    entered = threading.Event()

    def hold(token: CancellationToken) -> None:
        entered.set()
        token.wait(PATIENCE)

    handle = queue_background_work_item(hold, name="held")
    assert entered.wait(PATIENCE)
    yield handle
    handle.cancel()
    assert handle.wait(PATIENCE)


def is_now(text: str) -> bool:
    """Tell whether it is a moment in UTC, of this test."""
    moment = datetime.datetime.fromisoformat(text)
    age = datetime.datetime.now(tz=datetime.UTC) - moment
    return moment.utcoffset() == datetime.timedelta() and datetime.timedelta() <= age < datetime.timedelta(minutes=1)


def run(*arguments: str) -> str:
    """Run the command, and return what it printed."""
    output = io.StringIO()
    call_command("qbwi", *arguments, stdout=output, no_color=True)
    return output.getvalue()


def test_g44_dictionary_of_an_item(held: WorkItemHandle) -> None:
    """`to_dict` has moments in UTC, and the info aware ones."""
    found = held.info.to_dict()
    assert held.info.queued_at.tzinfo is datetime.UTC
    assert is_now(found["queued_at"])
    assert is_now(found["started_at"])
    held.cancel()
    assert held.wait(PATIENCE)
    assert is_now(held.info.to_dict()["finished_at"])


def test_g44_overview(held: WorkItemHandle) -> None:
    """What all views are made of has moments in UTC; the dashboard makes spans of them."""
    overview = operations.overview().to_dict()
    (process,) = overview["processes"]
    assert is_now(process["items"][0]["started_at"])
    assert datetime.datetime.fromisoformat(process["started_at"]).utcoffset() == datetime.timedelta()
    now = datetime.datetime.now(tz=datetime.UTC) + datetime.timedelta(hours=2)
    page = dashboard.compose(overview, dashboard.Filters(), now)
    assert page.processes[0].rows[0].ran == "2 h 00 min"
    assert dashboard.detail(operations.find(held.id).to_dict()["item"], now).ran == "2 h 00 min"


def test_g44_command(held: WorkItemHandle) -> None:
    """The command counts from the start of an item in seconds, and prints its moments in UTC."""
    (line,) = [line for line in run("list").splitlines() if held.id in line]
    assert re.search(r" \d+(\.\d)? (ms|s) ", line)
    shown = dict(re.findall(r"^  (queued at|started at) +(\S+)$", run("show", held.id), re.MULTILINE))
    assert is_now(shown["queued at"])
    assert is_now(shown["started at"])
    assert is_now(json.loads(run("--format", "jsonl"))["started_at"])


def test_g44_snapshot_keeps_the_zone(zone: str) -> None:
    """An item runs in the time zone of its request: the site's, or the one that a middleware has set."""
    found: list[str] = []

    @copies_request
    def look(token: CancellationToken, request: RequestSnapshot) -> Any:
        found.append(timezone.get_current_timezone_name())

    for name in (zone, "Pacific/Chatham"):
        with timezone.override(zoneinfo.ZoneInfo(name)):
            handle = queue_background_work_item(look, RequestFactory().get("/"))
        assert handle.wait(PATIENCE)
        assert handle.exception() is None
    assert found == [zone, "Pacific/Chatham"]
