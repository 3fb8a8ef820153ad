"""`django_qbwi.testing` and IMMEDIATE: how the tests of those who use work items run them."""

import asyncio
import contextlib
import contextvars
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterator

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, TestCase, TransactionTestCase, override_settings
from django.urls import path

from django_qbwi import (
    InvalidWorkItem,
    WorkItemStatus,
    background_work_item,
    current_work_item,
    queue_background_work_item,
    queue_on_commit,
)
from django_qbwi.core.exceptions import WorkItemWarning
from django_qbwi.testing import captured_work_items, drain, immediate_work_items

PATIENCE = 30

ran: list[str] = []
seen: list[object] = []
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@pytest.fixture(autouse=True)
def own_scheduler() -> Iterator[None]:
    """Give each test a scheduler that ends with it, and empty lists."""
    ran.clear()
    seen.clear()
    with override_settings(QBWI={"SHUTDOWN_TIMEOUT": 1.0}):
        yield


@background_work_item
def sync_item(token, name: str = "a") -> None:
    ran.append(name)


@background_work_item
async def async_item(token, name: str = "a") -> None:
    await asyncio.sleep(0)
    ran.append(name)


@background_work_item
def creates(token) -> None:
    Group.objects.get_or_create(name="from the item")
    ran.append("created")


@background_work_item
async def creates_async(token) -> None:
    await Group.objects.aget_or_create(name="from the item")
    ran.append("created")


@background_work_item
def creates_in_returned_awaitable(token):
    Group.objects.get_or_create(name="from the call")
    return creates_async(token)


def fail(token) -> None:
    raise ValueError("no such album")


async def fail_async(token) -> None:
    raise ValueError("no such album")


BOTH = pytest.mark.parametrize("work_item", [sync_item, async_item])


# Views.


def chosen(request: HttpRequest):
    return {"creates": creates, "creates_async": creates_async, "returned": creates_in_returned_awaitable}[
        request.GET["item"]
    ]


def sync_view(request: HttpRequest) -> HttpResponse:
    """Create a group, and queue the item that was asked for."""
    Group.objects.get_or_create(name="from the view")
    return HttpResponse(chosen(request).queue().status)


async def async_view(request: HttpRequest) -> HttpResponse:
    await Group.objects.aget_or_create(name="from the view")
    return HttpResponse(chosen(request).queue().status)


def on_commit_view(request: HttpRequest) -> HttpResponse:
    with transaction.atomic():
        chosen(request).queue_on_commit()
        return HttpResponse(str(len(ran)))


urlpatterns = [path("sync", sync_view), path("async", async_view), path("commit", on_commit_view)]


def get(address: str) -> str:
    return Client().get(address).content.decode()


def aget(address: str) -> str:
    async def request() -> str:
        return (await AsyncClient().get(address)).content.decode()

    return async_to_sync(request)()


VIEWS = pytest.mark.parametrize("view", ["sync", "async"])
CLIENTS = pytest.mark.parametrize("ask", [get, aget])
ITEMS = pytest.mark.parametrize("item", ["creates", "creates_async", "returned"])


@VIEWS
@CLIENTS
@ITEMS
@pytest.mark.django_db
@override_settings(ROOT_URLCONF=__name__)
def test_immediate_items_of_a_view_see_the_tests_transaction(view: str, ask: Callable, item: str) -> None:
    """From sync and async views, through both clients, an item has run when the response is there, in the same
    transaction as the test."""
    with immediate_work_items():
        assert ask(f"/{view}?item={item}") == "succeeded"
    assert ran == ["created"]
    assert set(Group.objects.values_list("name", flat=True)) >= {"from the view", "from the item"}


@VIEWS
@CLIENTS
@ITEMS
@pytest.mark.django_db
@override_settings(ROOT_URLCONF=__name__, QBWI={"IMMEDIATE": True})
def test_setting_does_the_same(view: str, ask: Callable, item: str) -> None:
    """QBWI["IMMEDIATE"] in the test settings does the same as `immediate_work_items()`."""
    assert ask(f"/{view}?item={item}") == "succeeded"
    assert set(Group.objects.values_list("name", flat=True)) >= {"from the view", "from the item"}


@VIEWS
@CLIENTS
@ITEMS
@pytest.mark.django_db
@override_settings(ROOT_URLCONF=__name__)
def test_captured_items_of_a_view(view: str, ask: Callable, item: str) -> None:
    """Captured items are run by the test, in its transaction."""
    with captured_work_items() as captured:
        assert ask(f"/{view}?item={item}") == "queued"
        assert ran == []
        [handle] = captured.run_all()
    assert (handle.status, ran) == ("succeeded", ["created"])
    assert Group.objects.filter(name="from the item").exists()


class ViewTests(TestCase):
    """In Django's own TestCase."""

    @override_settings(ROOT_URLCONF=__name__)
    def test_on_commit(self) -> None:
        """`captureOnCommitCallbacks(execute=True)` runs the hook that queues, and with it the item."""
        with immediate_work_items(), self.captureOnCommitCallbacks(execute=True) as callbacks:
            assert get("/commit?item=creates") == "0"
        assert (len(callbacks), ran) == (1, ["created"])

    @override_settings(ROOT_URLCONF=__name__)
    def test_without_a_commit(self) -> None:
        """A TestCase never commits: without that, nothing is queued."""
        with captured_work_items() as captured:
            get("/commit?item=creates")
        assert captured == []

    @override_settings(ROOT_URLCONF=__name__)
    async def test_async(self) -> None:
        """An async test method works as well."""
        with immediate_work_items():
            response = await self.async_client.get("/async?item=creates_async")
        assert response.content == b"succeeded"
        assert await Group.objects.filter(name="from the item").aexists()


class TransactionTests(TransactionTestCase):
    """In a TransactionTestCase, items run in their threads."""

    @override_settings(ROOT_URLCONF=__name__)
    def test_default_settings(self) -> None:
        """The data of the test is committed, and items see it; no warning is given."""
        with warnings.catch_warnings():
            warnings.simplefilter("error", WorkItemWarning)
            for address in ("/sync?item=creates", "/async?item=creates_async"):
                assert get(address) in {"queued", "running", "succeeded"}
                assert drain(PATIENCE)
        assert ran == ["created", "created"]


# Run at the call.


@BOTH
def test_immediate_item_has_ended(work_item) -> None:
    """When the call returns, the item has ended, with all that belongs to it."""
    with immediate_work_items():
        handle = work_item.queue("b")
    assert (handle.status, handle.wait(0), ran) == (WorkItemStatus.SUCCEEDED, True, ["b"])
    info = handle.info
    assert info.queued_at <= info.started_at <= info.finished_at


@pytest.mark.parametrize("work_item", [fail, fail_async])
def test_immediate_failure_does_not_reach_the_caller(work_item, caplog) -> None:
    """A failure is logged and in the handle, as it is everywhere else."""
    with immediate_work_items():
        handle = queue_background_work_item(work_item)
    assert (handle.status, str(handle.exception())) == ("failed", "no such album")
    assert "status=failed" in caplog.text


def test_immediate_item_runs_in_the_callers_thread() -> None:
    """A sync item runs where it is queued."""
    with immediate_work_items():
        queue_background_work_item(lambda token: seen.append(threading.current_thread()))
    assert seen == [threading.current_thread()]


@BOTH
@pytest.mark.parametrize("where", ["thread", "loop", "sync code of a loop"])
def test_immediate_items_run_everywhere(work_item, where: str) -> None:
    """They run at the call in plain code, on a running loop, and in the sync code of a loop."""

    async def on_loop() -> None:
        work_item.queue("b")
        assert ran == ["b"]

    async def in_thread() -> None:
        await sync_to_async(work_item.queue)("b")

    with immediate_work_items():
        {
            "thread": lambda: work_item.queue("b"),
            "loop": lambda: asyncio.run(on_loop()),
            "sync code of a loop": lambda: asyncio.run(in_thread()),
        }[where]()
    assert ran == ["b"]


@BOTH
def test_immediate_items_leave_the_threads_of_asgiref_alone(work_item) -> None:
    """After an item on a running loop, the loop's own thread-sensitive code works on."""

    async def view() -> None:
        for _ in range(2):
            work_item.queue()
            await sync_to_async(ran.append)("after")

    with immediate_work_items():
        asyncio.run(view())
        asyncio.run(view())
    assert ran == ["a", "after"] * 4


@pytest.mark.parametrize("start", [lambda view: asyncio.run(view()), lambda view: async_to_sync(view)()])
def test_immediate_sync_item_may_use_async_code(start: Callable) -> None:
    """A sync item that runs on a running loop may call `async_to_sync`, though that loop stands still."""

    def sends(token) -> None:
        async_to_sync(async_item.__wrapped__)(token, "sent")

    async def view() -> None:
        await sync_to_async(ran.append)("before")
        queue_background_work_item(sends)
        await sync_to_async(ran.append)("after")

    with immediate_work_items():
        start(view)
    assert ran == ["before", "sent", "after"]


async def _returns_a_generator(token) -> object:
    return (number for number in "a")


@pytest.mark.parametrize("item", [lambda token: (number for number in "a"), _returns_a_generator])
def test_g12_immediate_item_that_returns_a_generator_fails(item: Callable) -> None:
    """Where items run at the call, one of which nothing has run is found as well."""
    with immediate_work_items():
        handle = queue_background_work_item(item)
    assert handle.status is WorkItemStatus.FAILED
    assert isinstance(handle.exception(), InvalidWorkItem)


def test_immediate_item_has_a_context_of_its_own() -> None:
    """An item that runs at the call still sees nothing of its caller's context, and changes nothing of it."""
    variable.set("request")
    with immediate_work_items():
        queue_background_work_item(lambda token: (seen.append(variable.get()), variable.set("item")))
    assert (seen, variable.get()) == (["unset"], "request")


@pytest.mark.parametrize("make", [lambda call: lambda token: call(), lambda call: wrapped_async(call)])
def test_immediate_item_is_the_current_one(make) -> None:
    """Inside of it `current_work_item()` is its handle; outside it is None."""
    with immediate_work_items():
        handle = queue_background_work_item(make(lambda: seen.append(current_work_item())))
    assert (seen, current_work_item()) == ([handle], None)


def wrapped_async(call: Callable[[], object]) -> Callable:
    async def work_item(token) -> None:
        call()

    return work_item


def test_immediate_item_has_its_timeout() -> None:
    """The timeout of an item holds at the call too."""
    with immediate_work_items():
        handle = queue_background_work_item(lambda token: token.wait(PATIENCE), timeout=0.01)
    assert handle.info.cancel_reason == "timeout"


def test_immediate_item_queues_items() -> None:
    """What an item queues runs at once, inside of it."""

    def outer(token) -> None:
        sync_item.queue("inner")
        async_item.queue("inner async")
        ran.append("outer")

    with immediate_work_items():
        queue_background_work_item(outer)
    assert ran == ["inner", "inner async", "outer"]


def test_immediate_items_are_validated() -> None:
    """What cannot be queued is refused at the call, as ever."""
    with immediate_work_items(), pytest.raises(InvalidWorkItem):
        sync_item.queue(1, 2, 3)


def test_immediate_item_that_is_interrupted() -> None:
    """Ctrl-C in an item that runs at the call ends the test run."""

    def interrupted(token) -> None:
        raise KeyboardInterrupt

    with immediate_work_items(), pytest.raises(KeyboardInterrupt):
        queue_background_work_item(interrupted)


def test_immediate_ends_with_its_block() -> None:
    """After the block items run in their threads again, also when the block was left by an exception."""
    with pytest.raises(ZeroDivisionError), immediate_work_items():
        raise ZeroDivisionError
    handle = queue_background_work_item(lambda token: seen.append(threading.current_thread()))
    assert handle.wait(PATIENCE)
    assert seen != [threading.current_thread()]


@pytest.mark.django_db(transaction=True)
def test_immediate_on_commit() -> None:
    """`queue_on_commit` runs the item right after the commit."""
    with immediate_work_items():
        with transaction.atomic():
            queue_on_commit(sync_item)
            assert ran == []
        assert ran == ["a"]


@pytest.mark.django_db
def test_immediate_failure_in_a_transaction() -> None:
    """An item that fails in a query of its own block harms the test's transaction no more than the view's code."""

    def breaks(token) -> None:
        with transaction.atomic():
            connection.cursor().execute("SELECT * FROM there_is_none")

    with immediate_work_items():
        handle = queue_background_work_item(breaks)
    assert handle.status == "failed"
    assert Group.objects.count() == 0


# Nothing of the caller in its thread (G55).


@pytest.fixture
def library(monkeypatch) -> threading.local:
    """A library that keeps the user of the request in a thread local, as crum does."""
    module = types.ModuleType("crum")
    module._thread_locals = threading.local()
    monkeypatch.setitem(sys.modules, "crum", module)
    return module._thread_locals


@pytest.mark.parametrize("make", [lambda call: lambda token: call(), lambda call: in_sync_code(call)])
@pytest.mark.parametrize("where", ["thread", "sync code of a loop", "loop"])
@pytest.mark.parametrize("fails", [False, True])
def test_g55_known_thread_locals_are_empty(library: threading.local, make, where: str, fails: bool) -> None:
    """An item at the call finds no user in the thread locals of known libraries, leaves none, and takes none away."""

    def call() -> None:
        seen.append(getattr(library, "user", None))
        library.user = "the item's"
        if fails:
            raise ValueError("no such album")

    def view() -> None:
        library.user = "ada"
        handle = queue_background_work_item(make(call))
        assert handle.status == ("failed" if fails else "succeeded")
        seen.append(library.user)

    async def async_view() -> None:
        await sync_to_async(setattr)(library, "user", "ada")
        queue_background_work_item(make(call))
        seen.append(await sync_to_async(getattr)(library, "user"))

    with immediate_work_items():
        if where == "thread":
            view()
        elif where == "loop":
            async_to_sync(async_view)()
        else:
            async_to_sync(sync_to_async(view))()
    assert seen == [None, "ada"]


def test_g55_library_that_moved_on(monkeypatch) -> None:
    """A library that has no thread local of that name any more, or something else, does no harm."""
    module = types.ModuleType("crum")
    monkeypatch.setitem(sys.modules, "crum", module)
    for value in (None, variable, {"user": "ada"}):
        module._thread_locals = value
        with immediate_work_items():
            assert sync_item.queue().status == "succeeded"


def in_sync_code(call: Callable[[], object]) -> Callable:
    async def work_item(token) -> None:
        await sync_to_async(call)()

    return work_item


# On commit, in the transaction of a test (G53).


@pytest.fixture(params=["block", "setting"])
def immediate_on_commit(request) -> Iterator[None]:
    """Run items at the call, those that wait for a commit too."""
    if request.param == "block":
        with immediate_work_items(on_commit=True):
            yield
    else:
        with override_settings(QBWI={"IMMEDIATE": True}):
            yield


@BOTH
@pytest.mark.django_db
@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_g53_on_commit_in_a_tests_transaction(immediate_on_commit: None, work_item, blocks: int) -> None:
    """Where the test's own transaction would swallow it, an item that waits for the commit runs at the call."""
    with contextlib.ExitStack() as stack:
        for _ in range(blocks):
            stack.enter_context(transaction.atomic())
        work_item.queue_on_commit("method")
        queue_on_commit(work_item.function, "function")
        assert ran == ["method", "function"]
    assert ran == ["method", "function"]


@pytest.mark.django_db
@override_settings(ROOT_URLCONF=__name__)
@CLIENTS
def test_g53_on_commit_in_a_view(immediate_on_commit: None, ask: Callable) -> None:
    """So it does in a view, which sees the item's work."""
    assert ask("/commit?item=creates") == "1"
    assert Group.objects.filter(name="from the item").exists()


@pytest.mark.django_db
def test_g53_failure_on_commit(immediate_on_commit: None, caplog) -> None:
    """A failure of such an item does not reach the caller, and an item that cannot be called is refused as ever."""
    queue_on_commit(fail)
    assert "no such album" in caplog.text
    with pytest.raises(InvalidWorkItem):
        queue_on_commit(fail, 1, 2, 3)


@pytest.mark.django_db(transaction=True)
def test_g53_real_commit(immediate_on_commit: None) -> None:
    """Where the test commits, the item waits for that, and runs not at all after a rollback."""
    with transaction.atomic():
        queue_on_commit(sync_item.function)
        assert ran == []
    assert ran == ["a"]
    with transaction.atomic():
        queue_on_commit(sync_item.function, "rolled back")
        transaction.set_rollback(True)
    assert ran == ["a"]


@pytest.mark.django_db(databases=["default", "other"])
def test_g53_other_database(immediate_on_commit: None) -> None:
    """The transaction that counts is that of the database that was named."""
    sync_item.using(using="other").queue_on_commit()
    assert ran == ["a"]


@pytest.mark.django_db
def test_g53_not_without_the_option() -> None:
    """Without the option, in captured blocks and with the default settings, such an item waits for the commit."""
    with immediate_work_items():
        queue_on_commit(sync_item.function)
    with override_settings(QBWI={"IMMEDIATE": True}), captured_work_items() as captured:
        queue_on_commit(sync_item.function)
    queue_on_commit(sync_item.function)
    assert (captured, ran) == ([], [])


# Waits (G54).


@pytest.fixture
def never_waits(monkeypatch) -> None:
    """Fail where somebody waits."""

    def wait(self, timeout=None) -> None:
        raise AssertionError("somebody waits")

    monkeypatch.setattr("django_qbwi.machine.primitives.Alarm.wait", wait)


def waits_once(token) -> None:
    seen.append(token.wait(60))


def waits_again_and_again(token) -> None:
    while not token.wait(60):
        seen.append("polled")


def waits_for_ever(token) -> None:
    seen.append(token.wait())


async def waits_async(token) -> None:
    await token.cancelled()
    seen.append(token.is_cancellation_requested)


@pytest.mark.parametrize("how", ["immediate", "captured"])
@pytest.mark.parametrize(
    ("waits", "work_item", "found"),
    [
        ("skip", waits_once, [False]),
        ("cancel", waits_once, [True]),
        ("cancel", waits_again_and_again, []),
        ("skip", waits_for_ever, [True]),
        ("cancel", waits_for_ever, [True]),
        ("skip", waits_async, [True]),
        ("cancel", waits_async, [True]),
    ],
)
def test_g54_nobody_waits(never_waits: None, how: str, waits, work_item, found: list) -> None:
    """A wait of an item returns at once: as at its end, or as cancelled; one without a limit as cancelled."""
    if how == "immediate":
        with immediate_work_items(waits=waits):
            handle = queue_background_work_item(work_item)
    else:
        with captured_work_items(waits=waits) as captured:
            queue_background_work_item(work_item)
            [handle] = captured.run_all()
    assert (handle.status, seen) == ("succeeded", found)


def test_g54_reason(never_waits: None) -> None:
    """A token that is cancelled so says that it was a test, and an item that raises is CANCELLED."""

    def work_item(token) -> None:
        token.wait(60)
        token.raise_if_cancellation_requested()

    with immediate_work_items(waits="cancel"):
        handle = queue_background_work_item(work_item)
    assert (handle.status, handle.info.cancel_reason) == ("cancelled", "requested")
    assert handle.token.message == "waits are cancelled in this test"


def test_g54_wait_on_a_loop(never_waits: None) -> None:
    """What is refused in production is refused here: a wait that would stop the event loop."""

    async def work_item(token) -> None:
        token.wait(60)

    with immediate_work_items(waits="skip"):
        handle = queue_background_work_item(work_item)
    assert "await token.cancelled()" in str(handle.exception())


def test_g54_unknown_option() -> None:
    """A word that means nothing is refused at once."""
    for block in (immediate_work_items, captured_work_items):
        with pytest.raises(ValueError, match='"real", "skip" or "cancel"'), block(waits="never"):
            pass


# Captured.


def test_captured_items_are_a_list() -> None:
    """What was queued can be looked at: function, arguments, name, timeout, status."""
    with captured_work_items() as captured:
        handle = queue_background_work_item(fail, name="failing", timeout=5)
        sync_item.queue("b")
        first, second = captured
        assert (first.work_item, first.args, first.name, first.timeout) == (fail, (), "failing", 5)
        assert (second.args, second.status, second.name) == (("b",), "queued", "tests.test_testing.sync_item")
        assert first.handle == handle
        assert repr(second) == "<CapturedWorkItem tests.test_testing.sync_item args=('b',) status=queued>"
    assert ran == []


@BOTH
def test_one_captured_item_is_run(work_item) -> None:
    """`run()` runs one of them, once."""
    with captured_work_items() as captured:
        work_item.queue("first")
        work_item.queue("second")
        assert captured[1].run().status == "succeeded"
        assert captured[1].run().status == "succeeded"
    assert ran == ["second"]


def test_run_all_runs_what_items_queue() -> None:
    """`run_all()` goes on until nothing is left, in the order of queueing."""

    def outer(token) -> None:
        ran.append("outer")
        sync_item.queue("inner")

    with captured_work_items() as captured:
        queue_background_work_item(outer)
        async_item.queue("other")
        handles = captured.run_all()
    assert ran == ["outer", "other", "inner"]
    assert [handle.status for handle in handles] == ["succeeded"] * 3


def test_run_all_can_be_called_again() -> None:
    """A second `run_all()` runs only what is new, and returns the handles of all."""
    with captured_work_items() as captured:
        sync_item.queue("first")
        captured.run_all()
        sync_item.queue("second")
        assert len(captured.run_all()) == 2
    assert ran == ["first", "second"]


def test_failure_of_a_captured_item() -> None:
    """A failure is in the handle."""
    with captured_work_items() as captured:
        queue_background_work_item(fail)
        [handle] = captured.run_all()
    assert str(handle.exception()) == "no such album"


def test_cancelled_captured_item_is_not_run() -> None:
    """An item that was cancelled is not run."""
    with captured_work_items() as captured:
        handle = sync_item.queue()
        assert handle.cancel()
        captured.run_all()
    assert (handle.status, ran) == ("cancelled", [])


def test_captured_items_that_were_not_run_are_discarded() -> None:
    """Leaving the block discards the rest, so that nobody waits for ever; nothing is logged."""
    with captured_work_items():
        handle = sync_item.queue()
    assert (handle.status, handle.wait(0), ran) == ("discarded", True, [])


def test_inner_block_wins() -> None:
    """Blocks nest: the inner one decides."""
    with captured_work_items() as captured, immediate_work_items():
        sync_item.queue()
    assert (captured, ran) == ([], ["a"])


# Drain.


def test_drain_waits() -> None:
    """`drain()` returns True when everything has ended by itself."""
    release = threading.Event()
    handles = [queue_background_work_item(lambda token: release.wait(PATIENCE)) for _ in range(10)]
    release.set()
    assert drain(PATIENCE) is True
    assert {handle.status for handle in handles} == {"succeeded"}


def test_drain_of_nothing() -> None:
    """Without items it returns True at once."""
    assert drain(0) is True


def test_drain_gives_up() -> None:
    """At its limit it returns False, what is left was cancelled and abandoned, and new items are accepted."""
    release = threading.Event()
    handle = queue_background_work_item(lambda token: release.wait(PATIENCE))
    assert drain(0.01) is False
    assert (handle.status, handle.info.cancel_reason) == ("abandoned", "shutdown")
    release.set()
    assert sync_item.queue().wait(PATIENCE)


def test_drain_lets_items_save() -> None:
    """Items that look at their token have a moment to save."""

    def saves(token) -> None:
        assert token.wait(PATIENCE)
        ran.append(token.reason)

    handle = queue_background_work_item(saves)
    assert drain(0.01) is False
    assert (handle.status, ran) == ("succeeded", ["shutdown"])


# The warning.


@pytest.fixture
def warned_again() -> None:
    """Forget that this process has warned already."""
    from django_qbwi import hosting

    hosting.this_process().hints.test_warned = False


CURES = r"IMMEDIATE.*immediate_work_items\(\).*TransactionTestCase"


@pytest.mark.django_db
@pytest.mark.parametrize("queue", [lambda: sync_item.queue(), lambda: queue_background_work_item(sync_item)])
def test_warning_inside_a_tests_transaction(warned_again: None, queue: Callable) -> None:
    """An item that is queued inside a TestCase's transaction warns once, names the cures and the caller's line."""
    with pytest.warns(WorkItemWarning, match=CURES) as warned:
        queue()
    assert sync_item.queue().wait(PATIENCE)
    assert [record.filename for record in warned] == [__file__]


@pytest.mark.django_db
@override_settings(ROOT_URLCONF=__name__)
@VIEWS
@CLIENTS
def test_warning_from_a_view(warned_again: None, view: str, ask: Callable) -> None:
    """It warns once for items of sync and async views, through both clients."""
    with override_settings(QBWI={}):
        with pytest.warns(WorkItemWarning, match=CURES) as warned:
            ask(f"/{view}?item=creates")
        drain(PATIENCE)
        # A second warning would be an error here.
        ask(f"/{view}?item=creates")
        drain(PATIENCE)
    assert len(warned) == 1


@pytest.mark.django_db(transaction=True)
def test_no_warning_in_a_transaction_test(warned_again: None) -> None:
    """Where data is committed there is nothing to warn of."""
    Group.objects.count()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sync_item.queue().wait(PATIENCE)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("work_item", [creates, creates_async])
def test_hint_at_locks(warned_again: None, caplog, work_item) -> None:
    """Where items share an in-memory SQLite database with a test, one WARNING record names the cures beforehand."""
    with override_settings(QBWI={}):
        for _ in range(2):
            work_item.queue()
            assert drain(PATIENCE)
    [record] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "IMMEDIATE" in record.getMessage()
    assert "drain()" in record.getMessage()


@pytest.mark.django_db(transaction=True)
def test_no_hint_without_a_database(warned_again: None, caplog) -> None:
    """Items that use no database have nothing to do with locks."""
    Group.objects.count()
    assert sync_item.queue().wait(PATIENCE)
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []


@pytest.mark.django_db
@pytest.mark.parametrize("block", [immediate_work_items, captured_work_items])
def test_no_warning_with_the_cure(warned_again: None, block: Callable) -> None:
    """Who has taken the cure is not warned."""
    with warnings.catch_warnings(), block():
        warnings.simplefilter("error")
        sync_item.queue()
