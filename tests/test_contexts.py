"""What an item sees of its caller and of the item before it on the same thread: nothing but its arguments (F46)."""

import asyncio
import contextvars
import functools
import threading
from collections.abc import Callable, Iterator

import pytest
from asgiref.local import Local
from asgiref.sync import sync_to_async
from django.test import override_settings
from django.urls import get_script_prefix, get_urlconf, set_script_prefix, set_urlconf
from django.utils import timezone, translation

from django_qbwi import queue_background_work_item

PATIENCE = 30

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
local = Local()


@pytest.fixture(autouse=True)
def one_worker() -> Iterator[None]:
    """Give each test a scheduler with one worker, which all sync items share."""
    with override_settings(QBWI={"MAX_WORKERS": 1, "MAX_ASYNC_IN_FLIGHT": 1}, USE_I18N=True, LANGUAGE_CODE="en-us"):
        yield


def sync_item(call: Callable[[], object]) -> Callable:
    return lambda token: call() and None


def async_item(call: Callable[[], object]) -> Callable:
    async def work_item(token) -> None:
        call()

    return work_item


def item_in_its_thread(call: Callable[[], object]) -> Callable:
    async def work_item(token) -> None:
        await sync_to_async(call)()

    return work_item


def returned_awaitable(call: Callable[[], object]) -> Callable:
    def work_item(token):
        return async_item(call)(token)

    return work_item


KINDS = pytest.mark.parametrize("make", [sync_item, async_item, item_in_its_thread, returned_awaitable])


def run(work_item: Callable) -> None:
    handle = queue_background_work_item(work_item)
    assert handle.wait(PATIENCE)
    assert handle.status == "succeeded"


STATES: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
    "context variable": (lambda: variable.set("changed"), variable.get),
    "asgiref local": (lambda: setattr(local, "value", "changed"), lambda: getattr(local, "value", None)),
    "language": (lambda: translation.activate("de"), translation.get_language),
    "language switched off": (translation.deactivate_all, translation.get_language),
    "time zone": (lambda: timezone.activate("Asia/Tokyo"), timezone.get_current_timezone_name),
    "urlconf": (lambda: set_urlconf("example.urls"), get_urlconf),
    "script prefix": (lambda: set_script_prefix("/prefix/"), get_script_prefix),
}
ALL_STATES = pytest.mark.parametrize("state", STATES)


@KINDS
@ALL_STATES
def test_item_sees_nothing_of_the_item_before(state: str, make: Callable) -> None:
    """What one item changes in its context is unchanged for the next."""
    change, look = STATES[state]
    seen: list[object] = []
    run(make(lambda: seen.append(look())))
    run(make(lambda: (change(), seen.append(look()))))
    run(make(lambda: seen.append(look())))
    before, changed, after = seen
    assert before == after != changed


@KINDS
@ALL_STATES
def test_item_sees_nothing_of_its_caller(state: str, make: Callable) -> None:
    """The context of the request that queues an item does not flow into it, also when its threads start there."""
    change, look = STATES[state]
    seen: list[object] = []

    def request() -> None:
        change()
        run(make(lambda: seen.append(look())))

    initial = contextvars.Context().run(look)
    contextvars.Context().run(request)
    assert seen == [initial]


@KINDS
def test_nothing_flows_back(make: Callable) -> None:
    """What an item sets is not set in its caller."""
    run(make(lambda: variable.set("changed")))
    assert variable.get() == "unset"


def test_context_lasts_for_the_item() -> None:
    """Within one item the context holds, also in its thread-sensitive calls and in an awaitable that it returned."""
    seen = []

    async def rest() -> None:
        seen.append(variable.get())
        await sync_to_async(lambda: seen.append(variable.get()))()

    def work_item(token):
        variable.set("mine")
        return rest()

    run(work_item)
    assert seen == ["mine", "mine"]


def test_context_of_a_running_loop_stays_there() -> None:
    """An item that is queued in a coroutine sees nothing of its task's context."""
    seen = []

    async def view() -> None:
        variable.set("request")
        await queue_background_work_item(async_item(lambda: seen.append(variable.get())))
        await queue_background_work_item(sync_item(lambda: seen.append(variable.get())))

    asyncio.run(view())
    assert seen == ["unset", "unset"]


def test_patched_thread_start_carries_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Error trackers that hand the context of `Thread.start` to the new thread hand over an empty one."""
    start = threading.Thread.start
    seen = []

    def start_with_context(thread: threading.Thread) -> None:
        thread.run = functools.partial(contextvars.copy_context().run, thread.run)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_with_context)

    def request() -> None:
        variable.set("request")
        for make in (sync_item, async_item, item_in_its_thread):
            run(make(lambda: seen.append(variable.get())))

    contextvars.Context().run(request)
    assert seen == ["unset"] * 3


@KINDS
def test_each_item_has_a_fresh_context(make: Callable) -> None:
    """An item's context has nothing in it but what belongs to us and to asgiref."""
    seen = []
    variable.set("unset")
    run(make(lambda: seen.append({name.name for name in contextvars.copy_context()})))
    assert not seen[0] & {"variable"}
