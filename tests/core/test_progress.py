"""What an item says of how far it is: by its token, kept in its handle, as plain values."""

import asyncio
import copy
import dataclasses
import datetime
import decimal
import enum
import json
import logging
import math
import pickle
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.utils.translation import gettext_lazy

from django_qbwi import (
    CancellationToken,
    CancellationTokenSource,
    CancelReason,
    InvalidWorkItem,
    Progress,
    queue_background_work_item,
)
from django_qbwi.core.progress import MAX_AMOUNT
from django_qbwi.testing import captured_work_items, immediate_work_items
from tests.support.gates import PATIENCE, Gate


class Level(enum.IntEnum):
    """Whole numbers of a class of their own."""

    HALF = 5


class Hostile:
    """Whatever is asked of it, it raises."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError("repr")


class HostileInt(int):
    """A number whose code must not run."""

    def _refuse(self, *args: object) -> Any:
        raise RuntimeError("its code ran")

    __ge__ = __le__ = __lt__ = __gt__ = __eq__ = __int__ = __index__ = __float__ = __repr__ = __str__ = _refuse
    __hash__ = int.__hash__


class HostileFloat(float):
    """The same, with a fraction."""

    __ge__ = __le__ = __lt__ = __gt__ = __eq__ = __int__ = __float__ = __repr__ = __str__ = HostileInt._refuse
    __hash__ = float.__hash__


class HostileText(str):
    """A text whose code must not run."""

    __slots__ = ()
    __str__ = __getitem__ = __len__ = __iter__ = __eq__ = __ne__ = isprintable = HostileInt._refuse  # type: ignore[assignment]
    __hash__ = str.__hash__


def reported(*args: Any, **kwargs: Any) -> Progress:
    """Report to a token that belongs to no item, and return what it has noted."""
    token = CancellationTokenSource().token
    token.report(*args, **kwargs)
    assert token.progress is not None
    return token.progress


# What is reported.


def test_report_is_noted_as_it_is() -> None:
    """Numbers, text and the moment, which is an aware UTC datetime."""
    before = datetime.datetime.now(tz=datetime.UTC)
    found = reported(3, 12, "page 3")
    assert (found.done, found.total, found.text) == (3, 12, "page 3")
    assert before <= found.at <= datetime.datetime.now(tz=datetime.UTC)
    assert found.at.utcoffset() == datetime.timedelta(0)


def test_total_and_text_may_be_left_out() -> None:
    """Nobody has to know how much there is."""
    found = reported(0.5)
    assert (found.done, found.total, found.text, found.fraction) == (0.5, None, "", None)


@pytest.mark.parametrize(
    ("done", "total", "fraction"),
    [
        (0, 4, 0.0),
        (1, 4, 0.25),
        (4, 4, 1.0),
        (5, 4, 1.0),
        (0, 0, 1.0),
        (0.5, 2.0, 0.25),
        (0, None, None),
        (7, None, None),
        (1, MAX_AMOUNT, 2.0**-63),
        (MAX_AMOUNT, MAX_AMOUNT, 1.0),
        (MAX_AMOUNT, 5e-324, 1.0),
        (5e-324, 1.0, 5e-324),
    ],
)
def test_fraction(done: float, total: float | None, fraction: float | None) -> None:
    """From 0.0 to 1.0, also where a total was estimated too low, or is nothing; None without a total."""
    assert reported(done, total).fraction == fraction


@pytest.mark.parametrize(
    ("make", "plain"),
    [(lambda: Level.HALF, 5), (lambda: HostileInt(5), 5), (lambda: HostileFloat(2.5), 2.5), (lambda: -0.0, 0.0)],
)
def test_numbers_become_plain_ones(make: Callable[[], Any], plain: float) -> None:
    """Those of a class of their own too, and none of its code runs."""
    found = reported(make(), make())
    assert (found.done, found.total) == (plain, plain)
    assert {type(found.done), type(found.total)} == {type(plain)}


WRONG_NUMBERS: list[Callable[[], Any]] = [
    *(lambda: True, lambda: False, lambda: -1, lambda: -0.5, lambda: -sys.float_info.min),
    *(lambda: math.nan, lambda: math.inf, lambda: -math.inf, lambda: MAX_AMOUNT + 1, lambda: 10**5_000, lambda: 1e300),
    *(lambda: "3", lambda: b"3", lambda: decimal.Decimal(3), lambda: 3 + 0j, list, tuple, dict, lambda: object),
    *(Hostile, lambda: HostileInt(-1), lambda: HostileFloat("nan"), lambda: Hostile),
]
"""Made in the test: whoever collects tests would look at them."""


@pytest.mark.parametrize("make", WRONG_NUMBERS)
@pytest.mark.parametrize("where", ["done", "total"])
def test_wrong_number_is_refused(where: str, make: Callable[[], Any]) -> None:
    """The message names the value and the cure, and what was reported before stands."""
    token = CancellationToken.none()
    token.report(1, 2)
    before = token.progress
    with pytest.raises(InvalidWorkItem, match=rf"(?s)^{where} is .*: report an int or float, 0 or more") as caught:
        token.report(**{"done": 1, where: make()})
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()
    assert token.progress is before


def test_missing_number_is_refused() -> None:
    """Only the total may be None."""
    with pytest.raises(InvalidWorkItem, match=r"^done is None: report an int or float, 0 or more$"):
        CancellationToken.none().report(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [lambda: None, int, bytes, list, Hostile, lambda: gettext_lazy("page")])
def test_wrong_text_is_refused(make: Callable[[], Any]) -> None:
    """A lazy text, or anything else that is no str, has to be made one by the item."""
    with pytest.raises(InvalidWorkItem, match=r"^text is .*: report a str"):
        CancellationToken.none().report(1, 2, make())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("größer, 図", "größer, 図"),
        ("two\nlines\x1b[2J\u202eevil\x00", "two?lines?[2J?evil?"),
        ("half \ud800", "half ?"),
        ("x" * 200, "x" * 200),
        ("x" * 1_000_000, "x" * 199 + "…"),
    ],
)
def test_text_is_one_printable_bounded_line(text: str, shown: str) -> None:
    """Nothing in it commands a terminal, or fills a page."""
    assert reported(1, 2, text).text == shown


def test_text_of_another_class_becomes_a_plain_one() -> None:
    """None of its code runs."""
    found = reported(1, 2, HostileText("page")).text
    assert (found, type(found)) == ("page", str)


def test_progress_is_a_value() -> None:
    """Frozen, equal by its values, and it survives a pickle and a copy, as an info does."""
    found = reported(1, 2, "a")
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.done = 2  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(found)) == copy.deepcopy(found) == found
    assert found == Progress(1, 2, "a", found.at)


# Where it is seen.


def test_handle_shows_what_was_reported_last() -> None:
    """None before; the last report while it runs; and that one stays beyond the end."""

    def work(token: CancellationToken) -> None:
        token.report(1, 3)
        token.report(2, 3, "second")
        gate(token)

    gate = Gate()
    handle = queue_background_work_item(work)
    gate.await_entered()
    during = handle.progress
    gate.open()
    assert handle.wait(PATIENCE)
    assert during is not None
    assert (during.done, during.total, during.text) == (2, 3, "second")
    assert handle.progress is during
    assert handle.info.progress is during


@pytest.mark.parametrize("name", ["sync", "async"])
def test_item_without_a_report_has_none(name: str) -> None:
    """Queued, running or ended."""

    async def nothing(token: CancellationToken) -> None: ...

    handle = queue_background_work_item(nothing if name == "async" else lambda token: None)
    assert handle.wait(PATIENCE)
    assert (handle.progress, handle.info.progress, handle.info.to_dict()["progress"]) == (None, None, None)


def test_item_that_never_started_has_none() -> None:
    """It has no run, and gets none by being looked at."""
    with captured_work_items() as captured:
        queue_background_work_item(lambda token: token.report(1))
        assert captured[0].handle.progress is None
        captured.run_all()
        assert captured[0].handle.progress is not None


def test_failed_item_shows_how_far_it_got() -> None:
    """The last report says where it failed."""

    def fail(token: CancellationToken) -> None:
        token.report(7, 10)
        raise ValueError("row 8")

    handle = queue_background_work_item(fail)
    assert handle.wait(PATIENCE)
    assert (handle.status, handle.progress and handle.progress.done) == ("failed", 7)


def test_record_of_the_end_has_the_last_report(caplog: pytest.LogCaptureFixture) -> None:
    """Beside all else that is known, for whoever keeps records."""
    with caplog.at_level(logging.INFO, "django_qbwi.scheduler"):
        handle = queue_background_work_item(lambda token: token.report(7, 10), name="reporting")
        assert handle.wait(PATIENCE)
    (record,) = (record for record in caplog.records if "name=reporting status=succeeded" in record.getMessage())
    assert handle.progress is not None
    assert record.__dict__["qbwi"]["progress"] == handle.progress.to_dict()


def test_wrong_report_fails_the_item() -> None:
    """As any error in it, with the message that says what to mend."""
    handle = queue_background_work_item(lambda token: token.report(-1))
    assert handle.wait(PATIENCE)
    assert handle.info.error is not None
    assert "done is -1" in handle.info.error.message


def test_async_item_reports_from_its_loop_and_from_a_thread() -> None:
    """Any thread may."""

    async def work(token: CancellationToken) -> None:
        token.report(1, 2)
        await asyncio.to_thread(token.report, 2, 2, "from a thread")

    handle = queue_background_work_item(work)
    assert handle.wait(PATIENCE)
    assert (handle.status, handle.progress and handle.progress.text) == ("succeeded", "from a thread")


def test_many_threads_report_at_the_same_time() -> None:
    """What is seen is always one report as a whole."""
    token, torn = CancellationToken.none(), []
    start = threading.Barrier(5)

    def report(number: int) -> None:
        start.wait(PATIENCE)
        for _ in range(500):
            token.report(number, number, str(number))
            seen = token.progress
            if seen is None or not seen.done == seen.total == int(seen.text):
                torn.append(seen)

    threads = [threading.Thread(target=report, args=[number]) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert torn == []
    assert token.progress is not None


def test_token_without_an_item_validates_and_notes() -> None:
    """By which a unit test sees what a function reports; a cancelled token takes reports too."""
    source = CancellationTokenSource()
    source.cancel(CancelReason.SHUTDOWN)
    source.token.report(5, 10)
    assert source.token.progress is not None
    assert source.token.progress.fraction == 0.5
    assert CancellationToken.none().progress is None
    with pytest.raises(InvalidWorkItem):
        source.token.report(-1)


@pytest.mark.parametrize("waits", ["real", "skip", "cancel"])
def test_immediate_items_report(waits: Any) -> None:
    """In tests that run items at the call, whatever their waits do."""
    with immediate_work_items(waits=waits):
        handle = queue_background_work_item(lambda token: token.report(1, 1))
    assert handle.progress is not None
    assert handle.progress.fraction == 1.0


def test_progress_goes_through_json() -> None:
    """With an ISO time, as part of the item's info, also at its largest."""
    handle = queue_background_work_item(lambda token: token.report(MAX_AMOUNT, float(MAX_AMOUNT), "\\\"'<é"))
    assert handle.wait(PATIENCE)
    found = handle.progress
    assert found is not None
    expected = {"done": MAX_AMOUNT, "total": float(MAX_AMOUNT), "text": "\\\"'<é", "at": found.at.isoformat()}
    assert found.to_dict() == handle.info.to_dict()["progress"] == expected
    assert json.loads(json.dumps(handle.info.to_dict())) == handle.info.to_dict()


def test_token_that_never_reports_has_nothing_more() -> None:
    """The slot is empty until the first report: an item without one does no work for it."""
    token = CancellationToken.none()
    assert not hasattr(token, "_progress")
    token.report(1)
    assert hasattr(token, "_progress")
