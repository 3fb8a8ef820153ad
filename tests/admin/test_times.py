"""The page's times, with and without USE_TZ, near UTC and far from it."""

import datetime
import re
import zoneinfo
from collections.abc import Iterator

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client, override_settings
from django.utils import timezone

from django_qbwi import WorkItemHandle
from tests.admin import site
from tests.admin.site import FakeSite
from tests.admin.test_page import CANCEL, LIST, ONE

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.admin.urls")]

_MACHINE_TIME = re.compile(r'<time datetime="([^"]*)"')


@pytest.fixture(params=["UTC", "Asia/Kathmandu", "America/St_Johns"])
def zone(request: pytest.FixtureRequest) -> str:
    """Name the site's time zone."""
    return str(request.param)


@pytest.fixture(params=[True, False], ids=["USE_TZ", "naive"], autouse=True)
def use_tz(request: pytest.FixtureRequest, zone: str) -> Iterator[bool]:
    """Have the site keep its times aware, or naive."""
    with override_settings(USE_TZ=request.param, TIME_ZONE=zone):
        yield request.param


def moments(page: str) -> list[datetime.datetime]:
    """Return what the page says to machines."""
    found = [datetime.datetime.fromisoformat(text) for text in _MACHINE_TIME.findall(page)]
    assert found
    return found


def test_g44_list(operator: Client, fake: FakeSite, zone: str) -> None:
    """The list shows spans up to now, and ends on the site's clock."""
    now = datetime.datetime.now(tz=datetime.UTC)
    ended = now - datetime.timedelta(hours=3)
    live = site.item(queued_at=site.ago(7_210, now), started_at=site.ago(3_610, now))
    failed = site.failure(finished_at=ended.isoformat())
    fake.answer = site.overview(site.process(live, recent=(failed,), started_at=site.ago(90_010, now)))
    response = operator.get(LIST)
    assert response.status_code == 200
    page = response.text
    for text in (">1 d 01 h<", ">1 h 00 min<", f">{ended.astimezone(zoneinfo.ZoneInfo(zone)):%H:%M:%S}<"):
        assert text in page, text
    assert all(moment.tzinfo is not None for moment in moments(page))


def test_g44_item(operator: Client, fake: FakeSite, zone: str) -> None:
    """The page of an item has its whole life on the site's clock, the entry of the admin's log among it."""
    now = datetime.datetime.now(tz=datetime.UTC)
    fake.answer = site.overview(site.process(site.item(queued_at=site.ago(7_210, now), started_at=site.ago(10, now))))
    operator.post(CANCEL, {"item": "0" * 24, "confirm": "yes"})
    response = operator.get(ONE)
    assert response.status_code == 200
    local = (now - datetime.timedelta(seconds=7_210)).astimezone(zoneinfo.ZoneInfo(zone))
    assert f">{local:%Y-%m-%d %H:%M:%S}<" in response.text
    assert "started after waiting 2 h 00 min" in response.text
    asked = max(moments(response.text.partition("qbwi-timeline")[2]))
    assert datetime.timedelta() <= asked - now < datetime.timedelta(minutes=1)


def test_g44_log_of_a_forgotten_item(operator: Client, fake: FakeSite, use_tz: bool) -> None:
    """Who cancelled an item that is gone is told with a moment that has an offset."""
    before = datetime.datetime.now(tz=datetime.UTC)
    operator.post(CANCEL, {"item": "0" * 24, "confirm": "yes"})
    fake.answer = site.overview()
    response = operator.get(ONE)
    assert response.status_code == 404
    (asked,) = moments(response.text)
    assert datetime.timedelta() <= asked - before < datetime.timedelta(minutes=1)
    assert timezone.is_aware(LogEntry.objects.get().action_time) is use_tz


def test_g44_confirmation(operator: Client, fake: FakeSite) -> None:
    """What is asked before cancelling has its spans."""
    now = datetime.datetime.now(tz=datetime.UTC)
    queued = site.item(id="a" * 24, status="queued", started_at=None, queued_at=site.ago(7_210, now))
    running = site.item(queued_at=site.ago(7_210, now), started_at=site.ago(3_610, now))
    fake.answer = site.overview(site.process(running, queued))
    page = operator.post(CANCEL, {"item": ["0" * 24, "a" * 24]}).text
    assert "waiting for 2 h 00 min" in page
    assert "running for 1 h 00 min" in page


def test_g44_as_of_is_on_the_same_clock(operator: Client, fake: FakeSite) -> None:
    """Where a middleware has set a user's zone, all times of a page are in it: "as of" like "ended at"."""
    now = datetime.datetime.now(tz=datetime.UTC)
    fake.answer = site.overview(site.process(recent=(site.failure(finished_at=now.isoformat()),)))
    with timezone.override(zoneinfo.ZoneInfo("Pacific/Chatham")):
        page = operator.get(LIST).text
    shown = re.findall(r"<time [^>]*>(\d\d):(\d\d:\d\d)</time>", page)
    local = now.astimezone(zoneinfo.ZoneInfo("Pacific/Chatham"))
    later = local + datetime.timedelta(seconds=30)
    assert len(shown) == 2
    assert {hour for hour, _ in shown} <= {f"{local:%H}", f"{later:%H}"}
    assert datetime.timedelta() <= max(moments(page)) - now < datetime.timedelta(minutes=1)


def test_g44_json(operator: Client, fake: FakeSite) -> None:
    """The JSON has the moments as they came."""
    assert operator.get(f"{LIST}?format=json").json() == fake.answer


@pytest.mark.django_db(transaction=True)
def test_g44_real_item(operator: Client, running: WorkItemHandle) -> None:
    """A real item is listed, shown, cancelled and listed among those that ended."""
    for path in (LIST, f"{LIST}{running.id}/change/"):
        assert operator.get(path).status_code == 200
    response = operator.post(CANCEL, {"item": running.id, "confirm": "yes"}, follow=True)
    assert response.status_code == 200
    assert running.wait(30)
    assert "cancelled after running" in operator.get(f"{LIST}{running.id}/change/").text
