"""`queue_background_work_item`: what it takes, what it refuses, and from where it may be called."""

import asyncio
import functools
import threading
from collections.abc import Iterator

import pytest
from django.test import override_settings

from django_qbwi import (
    CancellationToken,
    InvalidWorkItem,
    QueueFull,
    WorkItemHandle,
    WorkItemRejected,
    WorkItemStatus,
    current_work_item,
    queue_background_work_item,
)

PATIENCE = 30


@pytest.fixture(autouse=True)
def own_scheduler() -> Iterator[None]:
    """Give each test a scheduler that ends with it."""
    with override_settings(QBWI={}):
        yield


class Recorder:
    """Work items of every kind; `seen` gets what each was called with."""

    def __init__(self) -> None:
        self.seen: list[tuple] = []

    def method(self, token, *args, **kwargs):
        self.seen.append((token, args, kwargs))

    async def async_method(self, token, *args, **kwargs):
        await asyncio.sleep(0)
        self.method(token, *args, **kwargs)

    def returns_coroutine(self, token, *args):
        return self.async_method(token, *args)


class CallableObject(Recorder):
    def __call__(self, token, *args):
        self.method(token, *args)


class AsyncCallableObject(Recorder):
    async def __call__(self, token, *args):
        await self.async_method(token, *args)


def functions_of(recorder):
    def function(token, *args):
        recorder.method(token, *args)

    async def async_function(token, *args):
        await recorder.async_method(token, *args)

    return function, async_function


KINDS = {
    "function": (lambda recorder: functions_of(recorder)[0], "sync"),
    "async function": (lambda recorder: functions_of(recorder)[1], "async"),
    "lambda": (lambda recorder: lambda token, *args: recorder.method(token, *args), "sync"),
    "bound method": (lambda recorder: recorder.method, "sync"),
    "async bound method": (lambda recorder: recorder.async_method, "async"),
    "object": (lambda recorder: recorder, "sync"),
    "async object": (lambda recorder: recorder, "async"),
    "partial": (lambda recorder: functools.partial(recorder.method), "sync"),
    "async partial": (lambda recorder: functools.partial(functools.partial(recorder.async_method)), "async"),
    # Its second half runs on the loop, like that of any async item.
    "returns an awaitable": (lambda recorder: recorder.returns_coroutine, "async"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_callable_runs(kind: str) -> None:
    """Each kind is called once, with the token and then the arguments, and its end is the item's end."""
    recorder = {"object": CallableObject, "async object": AsyncCallableObject}.get(kind, Recorder)()
    make, expected_kind = KINDS[kind]
    handle = queue_background_work_item(make(recorder), 1, "two")
    assert handle.wait(PATIENCE)
    [(token, args, kwargs)] = recorder.seen
    assert isinstance(token, CancellationToken)
    assert (args, kwargs) == ((1, "two"), {})
    assert (handle.status, handle.info.kind) == (WorkItemStatus.SUCCEEDED, expected_kind)


def test_builtin_function_runs() -> None:
    """A method of a built-in type is an item like any other."""
    tokens = []
    assert queue_background_work_item(tokens.append).wait(PATIENCE)
    assert [type(token) for token in tokens] == [CancellationToken]


def test_partial_carries_keyword_arguments() -> None:
    """Keyword arguments travel in a partial, beside the positional ones of the call."""
    recorder = Recorder()
    assert queue_background_work_item(functools.partial(recorder.method, size=3), "a").wait(PATIENCE)
    [(_, args, kwargs)] = recorder.seen
    assert (args, kwargs) == (("a",), {"size": 3})


def test_awaitable_is_part_of_the_item() -> None:
    """A sync function that returns an awaitable runs until the awaitable has ended."""
    entered, go_on = threading.Event(), asyncio.Event()
    loops = []

    async def rest():
        loops.append(asyncio.get_running_loop())
        entered.set()
        await go_on.wait()

    handle = queue_background_work_item(lambda token: rest())
    assert entered.wait(PATIENCE)
    assert handle.status is WorkItemStatus.RUNNING
    loops[0].call_soon_threadsafe(go_on.set)
    assert handle.wait(PATIENCE)
    assert handle.status is WorkItemStatus.SUCCEEDED


def test_items_of_a_kind_start_first_in_first_out() -> None:
    """With one worker the items run in the order of queueing."""
    order = []
    with override_settings(QBWI={"MAX_WORKERS": 1}):
        handles = [queue_background_work_item(lambda token, n: order.append(n), number) for number in range(50)]
        assert handles[-1].wait(PATIENCE)
    assert order == list(range(50))


# Options.


def test_name_is_given() -> None:
    """`name=` names the item, and never reaches the function."""
    handle = queue_background_work_item(lambda token: None, name="thumbnails")
    assert handle.name == handle.info.name == "thumbnails"
    assert handle.wait(PATIENCE)


def test_name_is_that_of_the_function() -> None:
    """Without `name=`, an item has the module and the qualified name of its function, through partials too."""
    handle = queue_background_work_item(functools.partial(Recorder().method, size=1))
    assert handle.name == "tests.test_queue.Recorder.method"
    assert handle.wait(PATIENCE)


def test_name_is_bounded() -> None:
    """A name of a megabyte is cut, and says so (F8)."""
    handle = queue_background_work_item(lambda token: None, name="x" * 1_000_000)
    assert handle.name == "x" * 199 + "…"
    assert handle.wait(PATIENCE)


def test_control_characters_leave_the_name() -> None:
    """Line breaks, escapes and direction marks cannot forge a line of a log (S14)."""
    handle = queue_background_work_item(lambda token: None, name="a\nb\x1b[31m\u202ec")
    assert handle.name == "a?b?[31m?c"
    assert handle.wait(PATIENCE)


@pytest.mark.parametrize("name", ["", 5, b"bytes"])
def test_name_that_is_none_is_refused(name: object) -> None:
    """A name is a non-empty str."""
    with pytest.raises(InvalidWorkItem, match="name is"):
        queue_background_work_item(lambda token: None, name=name)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 10**400, "5", True])
def test_timeout_that_is_none_is_refused(timeout: object) -> None:
    """A timeout is a finite number of seconds above 0."""
    with pytest.raises(InvalidWorkItem, match="timeout is"):
        queue_background_work_item(lambda token: None, timeout=timeout)


def test_timeout_cancels_the_token() -> None:
    """At its timeout the item sees its token cancelled with TIMEOUT."""
    handle = queue_background_work_item(
        lambda token: token.wait(PATIENCE) and token.raise_if_cancellation_requested(), timeout=0.01
    )
    assert handle.wait(PATIENCE)
    info = handle.info
    assert (info.status, info.cancel_reason, info.timeout) == ("cancelled", "timeout", 0.01)


def test_timeout_is_the_deadline_of_the_token() -> None:
    """`token.remaining()` counts down from the timeout."""
    remaining = []
    assert queue_background_work_item(lambda token: remaining.append(token.remaining()), timeout=60).wait(PATIENCE)
    assert 0 < remaining[0] <= 60


@override_settings(QBWI={"ITEM_TIMEOUT": 25})
def test_item_timeout_is_the_default() -> None:
    """QBWI["ITEM_TIMEOUT"] holds for items that name none, and `timeout=` stands before it."""
    default = queue_background_work_item(lambda token: None)
    named = queue_background_work_item(lambda token: None, timeout=5)
    assert (default.info.timeout, named.info.timeout) == (25, 5)


def test_timeout_of_ages_is_possible() -> None:
    """A timeout that no clock of the system can wait for is as good as none, for later timeouts too."""
    assert queue_background_work_item(lambda token: None, timeout=1e300).wait(PATIENCE)
    released = threading.Event()
    held = queue_background_work_item(lambda token: released.wait(PATIENCE), timeout=1e300)
    ended = queue_background_work_item(lambda token: token.wait(PATIENCE), timeout=0.01)
    assert ended.wait(PATIENCE / 2)
    released.set()
    assert held.wait(PATIENCE)
    assert ended.info.cancel_reason == "timeout"


def test_unknown_keyword_names_the_partial() -> None:
    """An option that there is not is refused with the cure: arguments of the item travel in a partial."""
    with pytest.raises(InvalidWorkItem, match=r"unknown option\(s\) 'size'.*functools\.partial"):
        queue_background_work_item(lambda token, size: None, size=3)


# Refusals at the call.


def generator(token):
    yield


async def async_generator(token):
    yield


class Unfinished:
    def method(self, token, first, second):
        pass


REFUSED = {
    "a number": (5, (), "must be callable"),
    "None": (None, (), "must be callable"),
    "generator": (generator, (), "generator function"),
    "async generator": (async_generator, (), "generator function"),
    "partial of a generator": (functools.partial(generator), (), "generator function"),
    "no token": (lambda: None, (), "first parameter must be the cancellation token"),
    "too few": (lambda token, a: None, (), "no value for a"),
    "too many": (lambda token: None, (1,), "takes at most 1 positional"),
    "method": (Unfinished().method, (1,), "no value for second"),
    "keyword-only": (eval("lambda token, *, size: None"), (), "keyword-only 'size'"),
    "partial twice": (functools.partial(lambda token, a: None, a=1), (2,), "two values for 'a'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_at_the_call(case: str) -> None:
    """What cannot be called as work_item(token, *args) is refused at once, and the message says why."""
    work_item, args, message = REFUSED[case]
    with pytest.raises(InvalidWorkItem, match=message):
        queue_background_work_item(work_item, *args)


def test_coroutine_object_is_refused() -> None:
    """A coroutine object is refused with the cure, and without a "never awaited" warning."""

    async def send(token):
        pass

    with pytest.raises(InvalidWorkItem, match="pass the function, do not call it"):
        queue_background_work_item(send(CancellationToken.none()))


def test_invalid_work_item_is_a_type_error() -> None:
    """Who knows nothing of us may catch TypeError."""
    with pytest.raises(TypeError):
        queue_background_work_item("not callable")


@pytest.mark.parametrize("is_async", [False, True])
def test_full_queue_refuses_at_once(is_async: bool) -> None:
    """Beyond MAX_QUEUED waiting items QueueFull comes at once, names the setting, and nothing is queued."""
    started, release, ran = threading.Event(), threading.Event(), []
    with override_settings(QBWI={"MAX_WORKERS": 1, "MAX_QUEUED": 2}):
        blocker = queue_background_work_item(lambda token: started.set() or release.wait(PATIENCE))
        assert started.wait(PATIENCE)
        waiting = [queue_background_work_item(lambda token: None) for _ in range(2)]
        sync_item, async_item = functions_of(Recorder())
        with pytest.raises(QueueFull, match=r'2 items are waiting already.*QBWI\["MAX_QUEUED"\]') as refusal:
            queue_background_work_item(async_item if is_async else sync_item, ran)
        release.set()
        assert all(handle.wait(PATIENCE) for handle in [blocker, *waiting])
    assert isinstance(refusal.value, (WorkItemRejected, RuntimeError))
    assert ran == []


def test_queue_has_room_again() -> None:
    """A QueueFull is about a moment: when an item has started, the next one is accepted."""
    started, release = threading.Event(), threading.Event()
    with override_settings(QBWI={"MAX_WORKERS": 1, "MAX_QUEUED": 1}):
        queue_background_work_item(lambda token: started.set() or release.wait(PATIENCE))
        assert started.wait(PATIENCE)
        waiting = queue_background_work_item(lambda token: None)
        with pytest.raises(QueueFull):
            queue_background_work_item(lambda token: None)
        release.set()
        assert waiting.wait(PATIENCE)
        assert queue_background_work_item(lambda token: None).wait(PATIENCE)


# Where from.


@pytest.mark.parametrize("index", [0, 1], ids=["sync", "async"])
def test_queueing_on_a_running_loop(index: int) -> None:
    """On a running event loop queueing works, and the item runs elsewhere."""
    threads = []

    def sync_item(token):
        threads.append(threading.get_ident())

    async def async_item(token):
        threads.append(threading.get_ident())

    async def view():
        return await queue_background_work_item((sync_item, async_item)[index])

    assert asyncio.run(view()).status is WorkItemStatus.SUCCEEDED
    assert threads != [threading.get_ident()]


@pytest.mark.parametrize("is_async", [False, True])
def test_an_item_queues_items(is_async: bool) -> None:
    """An item may queue further items, from a worker and from our own loop."""
    queued: list[WorkItemHandle] = []

    def sync_item(token):
        queued.append(queue_background_work_item(lambda token: None))

    async def async_item(token):
        queued.append(queue_background_work_item(lambda token: None))
        await queued[0]

    assert queue_background_work_item(async_item if is_async else sync_item).wait(PATIENCE)
    assert queued[0].wait(PATIENCE)


def test_a_thousand_threads_queue_at_once() -> None:
    """The counts are exact when 1,000 threads queue at the same moment (F26)."""
    barrier, handles, ran = threading.Barrier(1000), [], []

    def queue() -> None:
        barrier.wait(PATIENCE)
        handles.append(queue_background_work_item(lambda token: ran.append(1)))

    threads = [threading.Thread(target=queue) for _ in range(1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(handles) == 1000
    assert all(handle.wait(PATIENCE) for handle in handles)
    assert len(ran) == 1000


# Inside the item.


@pytest.mark.parametrize("is_async", [False, True])
def test_current_work_item(is_async: bool) -> None:
    """Inside of an item `current_work_item()` is its handle, with its token; outside it is None."""
    seen = []

    def sync_item(token):
        seen.append((current_work_item(), token))

    async def async_item(token):
        sync_item(token)

    handle = queue_background_work_item(async_item if is_async else sync_item)
    assert handle.wait(PATIENCE)
    [(inside, token)] = seen
    assert inside == handle
    assert inside.token is token
    assert current_work_item() is None
