"""What an item reports, for people."""

import datetime

import pytest

from django_qbwi.console import bars
from django_qbwi.core.progress import MAX_AMOUNT, Progress

NOW = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)


def report(done: float, total: float | None, text: str = "", seconds: float = 3) -> Progress:
    """Return a report of some seconds ago."""
    return Progress(done, total, text, NOW - datetime.timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("done", "total", "percentage", "amount"),
    [
        (0, 50, 0, "0 of 50"),
        (21, 50, 42, "21 of 50"),
        (29, 100, 29, "29 of 100"),
        (0.29, 1.0, 29, "0.29 of 1"),
        (999, 1000, 99, "999 of 1000"),
        (MAX_AMOUNT - 1, MAX_AMOUNT, 100, f"{MAX_AMOUNT - 1} of {MAX_AMOUNT}"),
        (10**9 - 1, 10**9, 99, "999999999 of 1000000000"),
        (1, 3, 33, "1 of 3"),
        (60, 50, 100, "60 of 50"),
        (0, 0, 100, "0 of 0"),
        (7, None, None, "7"),
        (2.0**62, None, None, "4.61169e+18"),
    ],
)
def test_percentage_and_amount(done: float, total: float | None, percentage: int | None, amount: str) -> None:
    """Whole percent, 100 only at the end as far as a float can tell; numbers as people write them."""
    assert (bars.percentage(report(done, total)), bars.amount(report(done, total))) == (percentage, amount)


@pytest.mark.parametrize(
    ("progress", "short", "sentence"),
    [
        (report(21, 50, "page 21"), "42 %", "42 %, 21 of 50, page 21, 3.0 s ago"),
        (report(21, 50), "42 %", "42 %, 21 of 50, 3.0 s ago"),
        (report(7, None, "a\x1b[2Jb"), "7", "7, a?[2Jb, 3.0 s ago"),
        (report(7, None, seconds=-5), "7", "7, 0.0 s ago"),
    ],
)
def test_lines_for_terminals(progress: Progress, short: str, sentence: str) -> None:
    """With and without a total and a text, also where the clock was set back; nothing commands the terminal."""
    assert bars.short(progress.to_dict()) == short
    assert bars.sentence(progress.to_dict(), NOW) == sentence


def test_nothing_reported() -> None:
    """No bar, and an empty cell."""
    assert (bars.short(None), bars.Bar.of(None, NOW)) == ("", None)


def test_bar() -> None:
    """The value is fit for an attribute in any language; without a total there is none."""
    bar = bars.Bar.of(report(1, 3, "a\u202eb").to_dict(), NOW)
    assert bar == bars.Bar(
        value="0.3333", percent="33 %", amount="1 of 3", text="a?b", at=NOW - datetime.timedelta(seconds=3), age="3.0 s"
    )
    without = bars.Bar.of(report(1, None).to_dict(), NOW)
    assert without is not None
    assert (without.value, without.percent, without.amount) == ("", "", "1")
