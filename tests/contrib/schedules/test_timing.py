"""When a schedule is due, by time that has passed or by the clock on the wall."""

from __future__ import annotations

import datetime
import itertools
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from django_qbwi.contrib.schedules import timing
from django_qbwi.contrib.schedules.timing import Cron, Every

BERLIN = "Europe/Berlin"


def at(text: str, zone: str = "UTC", fold: int = 0) -> int:
    """Return a moment by the clock on the wall of a zone."""
    moment = datetime.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)
    return int(moment.timestamp()) * 1000


def ticks(cron: str, start: str, count: int, zone: str = BERLIN) -> list[str]:
    """Return the ticks after a moment, by UTC."""
    found = [at(start, zone)]
    for _ in range(count):
        found.append(Cron(cron, zone).next_after(found[-1], found[-1]))
    return [
        datetime.datetime.fromtimestamp(moment / 1000, datetime.UTC).strftime("%m-%d %H:%M") for moment in found[1:]
    ]


def test_every_is_even() -> None:
    """The distance is that from the tick before, not from the moment at which somebody looks."""
    every = Every(timedelta(minutes=10))
    assert every.next_after(at("2026-01-01T00:03"), at("2026-01-01T00:00")) == at("2026-01-01T00:10")


def test_every_leaves_out_what_was_missed() -> None:
    """After hours in which nobody looked, the next tick is to come, and is one of the same row."""
    every = Every(timedelta(minutes=10))
    assert every.next_after(at("2026-01-01T05:07"), at("2026-01-01T00:01")) == at("2026-01-01T05:11")


@given(st.integers(1_000, 10**9), st.integers(0, 10**13), st.integers(0, 10**13))
def test_every_next_is_the_first_one(period: int, moment: int, tick: int) -> None:
    """It is later than the moment, by a period at the most, and whole periods from any other tick."""
    found = Every(timedelta(milliseconds=period)).next_after(moment, tick)
    assert moment < found <= moment + period
    assert (found - tick) % period == 0


@pytest.mark.parametrize("every", [timedelta(0), timedelta(seconds=-5), timedelta(milliseconds=999), timedelta.max])
def test_every_too_short_or_too_long(every: timedelta) -> None:
    """The value is named."""
    assert repr(every) in Every(every).problem()


def test_every_is_not_moved_by_summer_time() -> None:
    """A day is 24 hours of time that has passed: by the wall it comes an hour later from the spring on."""
    every = Every(timedelta(days=1))
    before = at("2026-03-28T03:00", BERLIN)
    assert every.next_after(before, before) == at("2026-03-29T04:00", BERLIN)


def test_cron_follows_the_wall() -> None:
    """Three o'clock is three o'clock in winter and in summer."""
    assert ticks("0 3 * * *", "2026-03-27T12:00", 3) == ["03-28 02:00", "03-29 01:00", "03-30 01:00"]


def test_cron_in_the_hour_that_is_left_out() -> None:
    """What falls into the gap of the spring runs once, right behind it, and the next day as ever."""
    assert ticks("30 2 * * *", "2026-03-28T12:00", 2) == ["03-29 01:00", "03-30 00:30"]
    assert ticks("0,20,40 2 * * *", "2026-03-28T12:00", 2) == ["03-29 01:00", "03-30 00:00"]


def test_cron_in_the_hour_that_comes_twice() -> None:
    """What stands in the double hour of autumn runs once, in the first one."""
    assert ticks("30 2 * * *", "2026-10-24T12:00", 2) == ["10-25 00:30", "10-26 01:30"]


def test_cron_with_seconds_knows_no_times_of_the_day() -> None:
    """What falls into the gap is left out, and the double hour runs twice."""
    assert ticks("0 30 2 * * *", "2026-03-28T12:00", 1) == ["03-30 00:30"]
    assert ticks("0 30 2 * * *", "2026-10-24T12:00", 3) == ["10-25 00:30", "10-25 01:30", "10-26 01:30"]


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("0 0 L * *", ["01-31 00:00", "02-28 00:00"]),
        ("0 0 * * MON#2", ["01-12 00:00", "02-09 00:00"]),
        ("0 0 LW * *", ["01-30 00:00", "02-27 00:00"]),
    ],
)
def test_cron_takes_what_cronsim_does(cron: str, expected: list[str]) -> None:
    """Last days, numbered weekdays, last weekdays."""
    assert ticks(cron, "2026-01-01T12:00", 2, "UTC") == expected


def test_cron_looked_at_in_the_second_of_the_two_hours() -> None:
    """It is not due again there."""
    second = at("2026-10-25T02:15", BERLIN, fold=1)
    assert Cron("30 2 * * *", BERLIN).next_after(second, 0) == at("2026-10-26T02:30", BERLIN)


def test_cron_with_stars_goes_on_through_both_changes() -> None:
    """What runs every half hour does so in real time, as in Debian's cron."""
    for start in ("2026-03-29T00:40", "2026-10-25T00:40"):
        moments, cron = [at(start, BERLIN)], Cron("*/30 * * * *", BERLIN)
        for _ in range(10):
            moments.append(cron.next_after(moments[-1], 0))
        assert {later - earlier for earlier, later in itertools.pairwise(moments[1:])} == {30 * 60_000}


@given(
    st.sampled_from(["30 2 * * *", "*/7 * * * *", "0 1-3 * * *", "15 */2 * * *", "59 2 * * SUN", "*/20 * * * * *"]),
    st.sampled_from([BERLIN, "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]),
    st.integers(at("2026-01-01") // 1000, at("2027-01-01") // 1000),
)
def test_cron_next_is_later_and_never_goes_back(cron: str, zone: str, second: int) -> None:
    """From any moment of a year, in zones with all kinds of changes: a later look never finds an earlier tick."""
    found = Cron(cron, zone).next_after(second * 1000 + 500, 0)
    assert found > second * 1000 + 500
    assert Cron(cron, zone).next_after(found - 1, 0) == found
    assert Cron(cron, zone).next_after(found, 0) > found


def test_cron_takes_the_zone_of_the_site() -> None:
    """Without one of its own, at the moment when it is asked."""
    cron = Cron("0 3 * * *")
    for zone in ("UTC", BERLIN, "Asia/Kathmandu"):
        with override_settings(TIME_ZONE=zone):
            assert cron.next_after(at("2026-07-01T12:00", zone), 0) == at("2026-07-02T03:00", zone)
            assert cron.text == f"cron 0 3 * * * ({zone})"


@pytest.mark.parametrize("cron", ["", "* * * *", "61 * * * *", "0 3 * * * * *", "x * * * *", "0 0 30 2 *", "@daily"])
def test_cron_that_is_none(cron: str) -> None:
    """The expression is named."""
    assert Cron(cron, "UTC").problem().startswith(f"cron={cron!r} does not say when: ")


@pytest.mark.parametrize("zone", ["Europe/Entenhausen", "", "../etc/passwd", "Europe"])
def test_zone_that_is_none(zone: str) -> None:
    """It is named."""
    assert Cron("0 3 * * *", zone).problem() == f"the time zone {zone!r} is not known here"


def test_cron_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install."""
    monkeypatch.setattr(timing, "is_cronsim_installed", lambda: False)
    assert "install django-qbwi[schedules]" in Cron("0 3 * * *").problem()
    assert Every(timedelta(hours=1)).problem() == ""
