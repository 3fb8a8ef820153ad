"""Keys of items as users give them: while one waits, turns on threads and on the loop, and keys that make no sense."""

from __future__ import annotations

import asyncio
import datetime
import enum
import gc
import io
import threading
import uuid
import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from django.core.management import call_command
from django.db import transaction
from django.template.loader import render_to_string
from django.test import RequestFactory, override_settings

from django_qbwi import (
    CancelReason,
    InvalidWorkItem,
    QueueFull,
    RequestSnapshot,
    WorkItemHandle,
    WorkItemStatus,
    background_work_item,
    copies_request,
    hosting,
)
from django_qbwi.console.dashboard import ItemRow
from django_qbwi.intake.keys import Keys, keyed
from django_qbwi.testing import captured_work_items, drain, immediate_work_items
from tests.support.gates import PATIENCE, Gate

S = WorkItemStatus


@pytest.fixture
def gate() -> Iterator[Gate]:
    """An item that holds its worker until the test opens it, or ends."""
    gate = Gate()
    yield gate
    gate.open()


class Crowd:
    """Counts how many items of a key run at once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running: dict[Any, int] = {}
        self.most: dict[Any, int] = {}
        self.ran: list[Any] = []

    def enter(self, key: Any) -> None:
        """Note one that begins."""
        with self.lock:
            self.running[key] = self.running.get(key, 0) + 1
            self.most[key] = max(self.most.get(key, 0), self.running[key])
            self.ran.append(key)

    def leave(self, key: Any) -> None:
        """Note one that ends."""
        with self.lock:
            self.running[key] -= 1


def index(token: Any, pk: int, deep: bool = False) -> None:
    """Stand for an item that reads the newest state."""


def wait_for(handles: list[WorkItemHandle]) -> None:
    """Wait for all of them to succeed."""
    for handle in handles:
        assert handle.wait(PATIENCE)
        assert handle.status is S.SUCCEEDED


def test_same_key_waits_once(gate: Gate) -> None:
    """While one waits its handle is returned; one that runs does not count; another function has keys of its own."""
    held = background_work_item(unique_key=lambda: "all", concurrency=1)(gate.__call__)
    other = background_work_item(unique_key=lambda pk: "all")(index)
    first = held.queue()
    gate.await_entered()
    second = held.queue()
    assert second != first
    assert held.queue() == second
    assert other.queue(1) not in (first, second)
    gate.open()
    wait_for([first, second])


def test_key_gets_the_arguments_of_the_item(gate: Gate) -> None:
    """Those after the token, by position and by keyword."""
    seen: list[Any] = []

    def key(pk: int, deep: bool = False) -> Any:
        seen.append((pk, deep, threading.current_thread()))
        return pk, deep

    decorated = background_work_item(unique_key=key)(index)
    handles = [decorated.using(delay=60).queue(1), decorated.queue(1, deep=True), decorated.queue(1)]
    here = threading.current_thread()
    assert seen == [(1, False, here), (1, True, here), (1, False, here)]
    assert handles[0] == handles[2] != handles[1]
    assert handles[0].cancel()


def test_key_of_a_method_gets_the_instance(gate: Gate) -> None:
    """As the method itself; so two instances of one row have one key."""

    class Album:
        def __init__(self, pk: int) -> None:
            self.pk = pk

        @background_work_item(unique_key=lambda self, size: (self.pk, size))
        def resize(self, token: Any, size: int) -> None:
            """Do nothing."""

        @background_work_item(unique_key=lambda cls: cls.__name__)
        @classmethod
        def clean(cls, token: Any) -> None:
            """Do nothing."""

    handles = [Album(pk).resize.using(delay=60).queue(9) for pk in (1, 1, 2)]
    assert handles[0] == handles[1] != handles[2]
    for handle in handles:
        handle.cancel()
    assert Album.clean.using(delay=60).queue().cancel()


def test_key_of_a_bound_method_is_that_of_its_instance() -> None:
    """One that was decorated with its instance takes the arguments behind that; other instances are others."""

    class Album:
        def resize(self, token: Any, size: int) -> None:
            """Do nothing."""

    first, second = Album(), Album()
    albums = [first, first, second]
    decorated = [background_work_item(unique_key=lambda size: size)(album.resize) for album in albums]
    handles = [one.using(delay=60).queue(9) for one in decorated]
    assert handles[0] == handles[1] != handles[2]
    for handle in handles:
        handle.cancel()


def test_nothing_of_the_call_is_kept() -> None:
    """Neither the instance nor the arguments, once it has ended."""

    class Album:
        @background_work_item(unique_key=lambda self, size: size, concurrency=1)
        def resize(self, token: Any, size: int) -> None:
            """Do nothing."""

    album = Album()
    kept, handle = weakref.ref(album), album.resize.queue(9)
    wait_for([handle])
    assert hosting.scheduler().wait_until_empty(PATIENCE)
    del album
    gc.collect()
    assert kept() is None


def test_key_gets_the_snapshot_of_a_request() -> None:
    """What the item gets, in both orders of the decorators."""
    seen: list[Any] = []

    def visit(token: Any, request: RequestSnapshot, page: str) -> None:
        """Do nothing."""

    def key(request: Any, page: str) -> str:
        seen.append(type(request))
        return page

    above = background_work_item(unique_key=key)(copies_request(visit))
    below = copies_request(background_work_item(unique_key=key)(visit))
    for decorated in (above, below):
        handle = decorated.using(delay=60).queue(RequestFactory().get("/"), "spring")
        # Both are the same function.
        assert decorated.using(delay=60).queue(RequestFactory().get("/"), "spring") == handle
    handle.cancel()
    assert seen == [RequestSnapshot] * 4


@pytest.mark.django_db(transaction=True)
def test_key_on_commit_is_made_at_the_call() -> None:
    """It is refused there; after the commit it is that of the call, and one that waits stands for the next."""
    calls: list[int] = []

    def key(pk: int) -> int:
        calls.append(pk)
        return 10 // pk

    decorated = background_work_item(unique_key=key)(index).using(delay=60)
    waiting = decorated.queue(1)
    with transaction.atomic():
        with pytest.raises(InvalidWorkItem, match=r"raised .*ZeroDivisionError"):
            decorated.queue_on_commit(0)
        decorated.queue_on_commit(1)
        assert calls == [1, 0, 1]
    assert calls == [1, 0, 1]
    assert decorated.queue(1) == waiting
    waiting.cancel()


@pytest.mark.parametrize("kind", ["sync", "async", "awaitable"])
def test_no_more_of_a_key_run_at_once(kind: str) -> None:
    """At most n of it, whatever there is to run, and all of them run."""
    crowd = Crowd()

    async def arun(token: Any, key: str) -> None:
        crowd.enter(key)
        await asyncio.sleep(0)
        crowd.leave(key)

    def run(token: Any, key: str) -> None:
        crowd.enter(key)
        crowd.leave(key)

    def awaitable(token: Any, key: str) -> Any:
        return arun(token, key)

    function: Any = {"sync": run, "async": arun, "awaitable": awaitable}[kind]
    decorated = background_work_item(concurrency=2, concurrency_key=lambda key: key)(function)
    wait_for([decorated.queue("abc"[number % 3]) for number in range(120)])
    assert sorted(crowd.ran) == sorted("abc" * 40)
    assert all(most <= 2 for most in crowd.most.values())


def test_limit_without_a_key_is_for_the_function(gate: Gate) -> None:
    """Others have the workers meanwhile."""
    one = background_work_item(concurrency=1)(gate.__call__)
    handles = [one.queue(), one.queue()]
    gate.await_entered()
    wait_for([background_work_item(index).queue(1)])
    assert [handle.status for handle in handles] == [S.RUNNING, S.QUEUED]
    gate.open()
    wait_for(handles)


def test_items_that_are_captured_or_run_at_the_call_do_not_wait() -> None:
    """Nobody waits there, so none is the same as another; keys are looked at all the same."""
    decorated = background_work_item(unique_key=lambda pk: 1 // pk, concurrency=1)(index)
    with captured_work_items() as captured:
        assert decorated.queue(1) != decorated.queue(1)
        with pytest.raises(InvalidWorkItem):
            decorated.queue(0)
        captured.run_all()
    with immediate_work_items():
        assert decorated.queue(1).status is S.SUCCEEDED
        with pytest.raises(InvalidWorkItem):
            decorated.queue(0)


# Keys.


class Colour(enum.Enum):
    """No plain value, and no subclass of one."""

    RED = 1


class Size(enum.IntEnum):
    """A subclass of a plain value."""

    SMALL = 1


class Place(NamedTuple):
    """Another one."""

    x: int
    y: str


class Hostile(str):
    """Text whose own methods are not called."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        raise AssertionError

    def __hash__(self) -> int:
        raise AssertionError

    def __repr__(self) -> str:
        raise AssertionError


def text_of(value: object) -> str:
    """The text of a key."""
    found = keyed(Keys(lambda: value), index, ()).unique
    assert found is not None
    return found[1]


def test_equal_keys_have_one_text() -> None:
    """Subclasses count as what they are made of."""
    number = uuid.uuid4()
    assert text_of(Size.SMALL) == text_of(1)
    assert text_of(Place(1, "a")) == text_of((1, "a"))
    assert text_of(Hostile("a")) == text_of("a")
    assert text_of(number) == text_of(uuid.UUID(str(number)))
    assert text_of("x" * 10_000) == text_of("x" * 10_000) != text_of("x" * 9_999)
    assert len(text_of("x" * 10_000)) < 200


def test_other_keys_have_other_texts() -> None:
    """Also those of another type that look alike."""
    number = uuid.UUID(int=7)
    day = datetime.date(2030, 1, 1)
    values: list[Any] = [None, "None", True, 1, "1", b"1", "", (), ((),), (1,), ("1",), (1, 1), ((1,), 1), ("1,1",)]
    values += [
        number,
        7,
        "UUID7",
        str(number),
        day,
        datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC),
        str(day),
        "a\udc80",
    ]
    assert len({text_of(value) for value in values}) == len(values)


class Unhashable:
    """As an instance of a model that is not saved."""

    __hash__ = None  # type: ignore[assignment]


def deep() -> tuple[Any, ...]:
    """A tuple that holds a tuple, and so on."""
    value: tuple[Any, ...] = ()
    for _ in range(10_000):
        value = (value,)
    return value


@pytest.mark.parametrize(
    "value",
    [[1], {1}, {}, 1.5, Unhashable(), object(), Colour.RED, deep(), 10**9999, index],
    ids=lambda value: type(value),
)
@pytest.mark.parametrize("option", ["unique_key", "concurrency_key"])
def test_key_that_is_no_plain_value(option: str, value: object) -> None:
    """It is refused at the call, with its type and the cure; nothing is queued."""
    options: Any = {option: lambda pk: value}
    decorated = background_work_item(concurrency=1, **options)(index)
    with pytest.raises(InvalidWorkItem, match=rf"the {option} of tests\.test_keys\.index (returned|raised)") as refused:
        decorated.queue(1)
    assert refused.value.__cause__ is not None


def test_key_of_an_object_names_the_cure() -> None:
    """A primary key, most likely."""
    with pytest.raises(
        InvalidWorkItem, match=r"returned a .*Unhashable.*return the primary key of an object, or a str"
    ):
        background_work_item(unique_key=lambda pk: Unhashable())(index).queue(1)


def test_key_that_raises() -> None:
    """It is refused at the call, chained; also if it takes other arguments."""
    with pytest.raises(InvalidWorkItem, match=r"raised .*ZeroDivisionError: ") as refused:
        background_work_item(unique_key=lambda pk: pk // 0)(index).queue(1)
    assert isinstance(refused.value.__cause__, ZeroDivisionError)
    with pytest.raises(InvalidWorkItem, match="without the token, where that is queued"):
        background_work_item(unique_key=lambda token, pk: pk)(index).queue(1)


async def akey(pk: int) -> int:
    """An async key."""
    return pk


def test_key_that_is_a_coroutine() -> None:
    """It is refused where it is given; one that comes out of a plain function is closed."""
    with pytest.raises(InvalidWorkItem, match="an async function: give a function that returns a key"):
        background_work_item(unique_key=akey)(index)
    with pytest.raises(InvalidWorkItem, match=r"returned a .*coroutine"):
        background_work_item(unique_key=lambda pk: akey(pk))(index).queue(1)


@pytest.mark.parametrize("concurrency", [0, -1, 1.0, "2", True])
def test_wrong_concurrency(concurrency: Any) -> None:
    """It is named, with the cure, where the item is decorated, and by `using`."""
    with pytest.raises(InvalidWorkItem, match=r"concurrency is .*, a whole number of 1 or more"):
        background_work_item(concurrency=concurrency)(index)
    with pytest.raises(InvalidWorkItem, match="concurrency is"):
        background_work_item(index).using(concurrency=concurrency)


def test_wrong_keys() -> None:
    """They are no functions, or a limit's without a limit."""
    for option in ("unique_key", "concurrency_key"):
        wrong: Any = {option: "album_id", "concurrency": 1}
        with pytest.raises(InvalidWorkItem, match=f"{option} is 'album_id', no function: give a function"):
            background_work_item(**wrong)(index)
    with pytest.raises(InvalidWorkItem, match="no concurrency: say how many of a key, as concurrency=1"):
        background_work_item(concurrency_key=lambda pk: pk)(index)
    # In one of both places is enough.
    background_work_item(concurrency=1)(index).using(concurrency_key=lambda pk: pk)


def test_item_that_waits_for_its_turn_is_told_of(gate: Gate) -> None:
    """In its info, in the tables and the description of the command, and on the page."""
    one = background_work_item(concurrency=1)(gate.__call__)
    handles = [one.queue(), one.queue()]
    gate.await_entered()
    assert [handle.info.held for handle in handles] == [False, True]
    for arguments, told in ((["list"], "waits for its turn"), (["show", handles[1].id], "waits for that of its key")):
        written = io.StringIO()
        call_command("qbwi", *arguments, stdout=written)
        assert written.getvalue().count(told) == 1
    rows = [ItemRow.of(handle.info.to_dict(), datetime.datetime.now(datetime.UTC)) for handle in handles]
    badges = [render_to_string("admin/django_qbwi/workitem/status.html", {"row": row}) for row in rows]
    assert ["waits for its turn" in badge for badge in badges] == [False, True]
    gate.open()
    wait_for(handles)
    assert not handles[1].info.held


# Beside other options.


def test_item_that_waits_already_needs_no_room(gate: Gate) -> None:
    """Who would wait for room gets its handle, in a thread and on a loop, however long that would take."""
    ran: list[int] = []

    @background_work_item(unique_key=lambda pk: pk)
    def refresh(token: Any, pk: int) -> None:
        ran.append(pk)

    with override_settings(QBWI={"MAX_WORKERS": 1, "MAX_QUEUED": 1}):
        background_work_item(gate.__call__).queue()
        gate.await_entered()
        handle = refresh.queue(1)
        patient = refresh.using(wait_for_room=PATIENCE)

        async def aqueue() -> WorkItemHandle:
            return await patient.aqueue(1)

        assert patient.queue(1) == handle == asyncio.run(aqueue())
        with pytest.raises(QueueFull):
            refresh.using(wait_for_room=0).queue(2)
        gate.open()
        assert drain(PATIENCE)
    assert ran == [1]


def test_item_that_expires_while_its_key_is_busy(gate: Gate) -> None:
    """It is DISCARDED when its time is over, and nobody waits for it."""
    one = background_work_item(concurrency=1)(gate.__call__)
    first = one.queue()
    gate.await_entered()
    late = one.using(expires=0.01).queue()
    assert late.wait(PATIENCE)
    assert (late.status, late.info.cancel_reason, late.info.held) == (S.DISCARDED, CancelReason.EXPIRED, False)
    gate.open()
    wait_for([first])
    assert first.status is S.SUCCEEDED


def test_fan_out_of_items_that_take_turns() -> None:
    """Three of each key at once at most, and as many as there is room for wait."""
    crowd = Crowd()

    @background_work_item(concurrency=3, concurrency_key=lambda key, number: key)
    def work(token: Any, key: str, number: int) -> None:
        crowd.enter(key)
        crowd.leave(key)

    with override_settings(QBWI={"MAX_WORKERS": 4, "MAX_QUEUED": 10}):
        for number in range(300):
            work.using(wait_for_room=PATIENCE).queue("ab"[number % 2], number)
        assert drain(PATIENCE)
    assert len(crowd.ran) == 300
    assert max(crowd.most.values()) <= 3
