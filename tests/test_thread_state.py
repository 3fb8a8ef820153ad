"""What an item leaves in its thread does not meet the next one (G9)."""

import asyncio
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.test import override_settings

from django_qbwi import queue_background_work_item

PATIENCE = 30


def leave_running_loop() -> None:
    """Leave the mark that `sync_playwright().start()` leaves without `stop()`."""
    asyncio._set_running_loop(object())  # type: ignore[arg-type]


def leave_mask() -> None:
    """Block a signal, which child processes would inherit."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def leave_profile() -> None:
    """Start a profiler and do not stop it."""
    sys.setprofile(lambda *args: None)


def leave_name() -> None:
    """Give the thread a name."""
    threading.current_thread().name = "mine"


def look() -> tuple[Any, ...]:
    """Return what is there at the beginning of an item."""
    return (
        asyncio._get_running_loop(),
        signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, set()),
        sys.getprofile(),
        threading.current_thread().name,
    )


def sync_item(call: Callable[[], Any]) -> Callable[..., Any]:
    """Return an item that calls it in a worker."""
    return lambda token: call() and None


def async_item(call: Callable[[], Any]) -> Callable[..., Any]:
    """Return an async item that calls it in the thread for its ORM calls."""

    async def item(token: object) -> None:
        await sync_to_async(call)()

    return item


def in_default_executor(call: Callable[[], Any]) -> Callable[..., Any]:
    """Return an async item that calls it in the default executor of the loop."""

    async def item(token: object) -> None:
        await asyncio.to_thread(call)

    return item


ALL = pytest.mark.parametrize("make", [sync_item, async_item, in_default_executor])
LEAVE = pytest.mark.parametrize("leave", [leave_running_loop, leave_mask, leave_profile, leave_name])


def run(item: Callable[..., Any], name: str) -> Any:
    """Queue an item and wait for its end."""
    handle = queue_background_work_item(item, name=name)
    assert handle.wait(PATIENCE)
    assert handle.status == "succeeded", handle.info.error
    return handle


@ALL
@LEAVE
@override_settings(QBWI={"MAX_WORKERS": 1})
def test_g9_next_item_on_the_thread(make: Any, leave: Callable[[], None], caplog: Any) -> None:
    """The next item on the same thread finds all as the first one did; one WARNING names the item."""
    seen: dict[int, tuple[Any, ...]] = {}

    def see() -> None:
        seen[threading.get_ident()] = look()

    def culprit() -> None:
        left.append(threading.get_ident())
        leave()

    left: list[int] = []
    run(make(see), "before")
    [before] = seen.values()
    run(make(culprit), "the culprit")
    seen.clear()
    # A default executor has several threads: what is left in one must not be found there.
    for _ in range(100):
        run(make(see), "after")
        if left[0] in seen:
            break
    assert seen[left[0]] == before
    [record] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "the culprit" in record.getMessage() or make is in_default_executor


@pytest.mark.parametrize("make", [sync_item, async_item])
@pytest.mark.django_db(transaction=True)
@override_settings(QBWI={"MAX_WORKERS": 1})
def test_g9_orm_after_a_running_loop(make: Any) -> None:
    """After an item that left a running loop, the ORM works in the next one on that thread."""
    run(make(leave_running_loop), "the culprit")
    run(make(lambda: Group.objects.count()), "after")


@override_settings(QBWI={"MAX_WORKERS": 1})
def test_g9_item_that_fails(caplog: Any) -> None:
    """An item that fails leaves as little behind as one that succeeds."""

    def fails(token: object) -> None:
        leave_running_loop()
        raise ValueError("no such album")

    handle = queue_background_work_item(fails)
    assert handle.wait(PATIENCE)
    assert str(handle.exception()) == "no such album"
    run(sync_item(lambda: asyncio.run(asyncio.sleep(0))), "after")
