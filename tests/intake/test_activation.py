"""While an item runs, what the snapshot says is active, in threads and on the loop, and gone afterwards."""

import asyncio
import datetime
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.http import HttpRequest
from django.test import Client, RequestFactory
from django.urls import get_script_prefix, get_urlconf, reverse
from django.utils import timezone, translation
from django.utils.translation import gettext

from django_qbwi import (
    CancellationToken,
    RequestSnapshot,
    copies_request,
    queue_background_work_item,
    snapshot_request,
)
from django_qbwi.testing import immediate_work_items
from tests.intake.pages import MIDDLEWARE, during

PATIENCE = 30
ACTIVE = ("de", "Ja", "Europe/Berlin", "/site/", "/site/elsewhere/")
USUAL = ("en", "Yes", "UTC", "/", "/page/")


def look() -> tuple[str, ...]:
    """Return what is active here."""
    return (
        translation.get_language() or "",
        gettext("Yes"),
        timezone.get_current_timezone_name(),
        get_script_prefix(),
        reverse("page"),
    )


@copies_request
def in_thread(token: Any, visit: RequestSnapshot, result: list[Any]) -> None:
    """Look around in a worker's thread."""
    result.append(look())


@copies_request
async def on_loop(token: Any, visit: RequestSnapshot, result: list[Any]) -> None:
    """Look around on the loop, in a thread of `sync_to_async`, and on the loop again."""
    result.append(look())
    result.append(await sync_to_async(look)())
    result.append(await sync_to_async(look, thread_sensitive=False)())
    await asyncio.sleep(0)
    result.append(await asyncio.create_task(alook()))


async def alook() -> tuple[str, ...]:
    """Look around in a task of its own."""
    return look()


@copies_request
def awaitable(token: Any, visit: RequestSnapshot, result: list[Any]) -> Any:
    """Look around in a worker's thread, and go on on the loop."""
    result.append(look())
    return on_loop.function(token, visit, result)


def undecorated(token: Any, visit: RequestSnapshot, result: list[Any]) -> None:
    """Look around in an item that got a snapshot which was taken by hand."""
    result.append(look())


ITEMS = {"thread": (in_thread, 1), "loop": (on_loop, 4), "awaitable": (awaitable, 5), "undecorated": (undecorated, 1)}


@pytest.fixture
def request_from_abroad(settings: Any) -> Any:
    """Return a function that calls another one in a German request below /site/."""
    settings.MIDDLEWARE = [
        *MIDDLEWARE,
        "tests.intake.pages.time_zone_middleware",
        "tests.intake.pages.other_urls_middleware",
    ]

    def send(action: Any) -> Any:
        headers = {"Accept-Language": "de", "X-Zone": "Europe/Berlin"}
        client = Client(SCRIPT_NAME="/site", headers=headers)
        return during(lambda: client.get("/elsewhere/"), action)

    return send


@pytest.mark.parametrize("name", list(ITEMS))
def test_active_while_the_item_runs(name: str, request_from_abroad: Any) -> None:
    """Language, time zone, script prefix and URLconf of the request are active wherever the item's code runs."""
    item, count = ITEMS[name]
    result: list[Any] = []

    def view(request: HttpRequest) -> Any:
        given = snapshot_request(request) if name == "undecorated" else request
        return queue_background_work_item(item, given, result)

    handle = request_from_abroad(view)
    assert handle.wait(PATIENCE)
    assert (handle.info.error, result) == (None, [ACTIVE] * count)


@pytest.mark.parametrize("name", list(ITEMS))
def test_gone_afterwards(name: str, request_from_abroad: Any, settings: Any) -> None:
    """The next item on the same thread, or on the loop, sees nothing of it."""
    settings.QBWI = {"MAX_WORKERS": 1}
    item, _ = ITEMS[name]
    result: list[Any] = []
    snapshot = request_from_abroad(snapshot_request)
    assert queue_background_work_item(item, snapshot, result).wait(PATIENCE)
    result.clear()

    async def look_on_loop(token: Any) -> None:
        result.append(look())
        result.append(await sync_to_async(look)())

    assert queue_background_work_item(lambda token: result.append(look())).wait(PATIENCE)
    assert queue_background_work_item(look_on_loop).wait(PATIENCE)
    assert result == [USUAL] * 3


@pytest.mark.parametrize("name", ["thread", "loop"])
def test_plain_call(name: str, request_from_abroad: Any) -> None:
    """In a plain call it is active too, and what was active before is again afterwards, also after a failure."""
    item, count = ITEMS[name]
    snapshot = request_from_abroad(snapshot_request)
    result: list[Any] = []
    with translation.override("en"), timezone.override("Asia/Tokyo"):
        returned = item(CancellationToken.none(), snapshot, result)
        if name == "loop":
            asyncio.run(returned)
        with pytest.raises(AttributeError):
            in_thread(CancellationToken.none(), snapshot, None)  # type: ignore[arg-type]
        assert look() == ("en", "Yes", "Asia/Tokyo", "/", "/page/")
        assert get_urlconf() is None
    assert result == [ACTIVE] * count


def test_immediate(request_from_abroad: Any) -> None:
    """With immediate work items it is the same."""
    result: list[Any] = []
    with immediate_work_items():
        request_from_abroad(lambda request: queue_background_work_item(in_thread, request, result))
    assert result == [ACTIVE]


@pytest.mark.parametrize("offset", [timedelta(minutes=-90), timedelta(seconds=1), timedelta(microseconds=1)])
def test_fixed_offset(offset: timedelta) -> None:
    """A time zone without a name is active as its offset."""
    zones: list[Any] = []

    @copies_request
    def item(token: Any, visit: RequestSnapshot) -> None:
        zones.append(timezone.get_current_timezone().utcoffset(None))

    with timezone.override(datetime.timezone(offset)):
        item(CancellationToken.none(), RequestFactory().get("/"))
        assert zones == [timezone.get_current_timezone().utcoffset(None)]


def test_hand_made_snapshot_changes_little() -> None:
    """What a snapshot leaves open is not touched."""
    result: list[Any] = []
    with translation.override("de"), timezone.override("Asia/Tokyo"):
        in_thread(CancellationToken.none(), RequestSnapshot(), result)
    assert result == [("de", "Ja", "Asia/Tokyo", "/", "/page/")]


def test_awaitable_that_is_never_awaited() -> None:
    """A coroutine that a plain function returned is closed when nobody is going to await it."""
    pending = awaitable(CancellationToken.none(), RequestSnapshot(), [])
    pending.close()
