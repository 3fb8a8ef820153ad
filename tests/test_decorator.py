"""`background_work_item`: a function that can be queued, and that stays a function."""

import functools
import inspect
import threading
from collections.abc import Iterator

import pytest
from asgiref.sync import iscoroutinefunction
from django.db import transaction
from django.test import override_settings

from django_qbwi import (
    CancellationToken,
    InvalidWorkItem,
    WorkItemStatus,
    background_work_item,
    queue_background_work_item,
)
from django_qbwi.testing import captured_work_items

PATIENCE = 30

seen: list[tuple] = []


@pytest.fixture(autouse=True)
def own_scheduler() -> Iterator[None]:
    """Give each test a scheduler that ends with it, and an empty list."""
    seen.clear()
    with override_settings(QBWI={}):
        yield


@background_work_item
def resize(token, album: int, *, size: int = 10) -> str:
    """Resize the images of an album."""
    seen.append((token, album, size))
    return "resized"


@background_work_item(name="resizing", timeout=120)
def resize_slowly(token, album):
    seen.append((token, album, None))


@background_work_item
async def resize_async(token, album):
    seen.append((token, album, None))
    return "resized"


class Album:
    """Methods that are work items."""

    def __init__(self, number: int) -> None:
        self.number = number

    @background_work_item(timeout=60)
    def publish(self, token, *, loud=False):
        seen.append((self.number, loud))

    @background_work_item
    async def publish_async(self, token):
        seen.append((self.number, "async"))

    @background_work_item
    @staticmethod
    def tidy(token, number):
        seen.append((number, "static"))


def test_queue_runs_it() -> None:
    """`queue(...)` takes the function's own arguments, by position and by keyword."""
    handle = resize.queue(5, size=7)
    assert handle.wait(PATIENCE)
    [(token, album, size)] = seen
    assert isinstance(token, CancellationToken)
    assert (album, size, handle.name) == (5, 7, "tests.test_decorator.resize")


def test_queue_of_an_async_function() -> None:
    """An async function is queued as an async item."""
    handle = resize_async.queue(5)
    assert handle.wait(PATIENCE)
    assert (handle.info.kind, seen[0][1]) == ("async", 5)


def test_options_of_the_decorator() -> None:
    """Name and timeout given to the decorator are those of every item."""
    info = resize_slowly.queue(5).info
    assert (info.name, info.timeout) == ("resizing", 120)


def test_using_changes_options() -> None:
    """`using(...)` is the same function with other options, and leaves the original as it was."""
    info = resize_slowly.using(name="again").queue(5).info
    assert (info.name, info.timeout) == ("again", 120)
    info = resize_slowly.using(timeout=5).queue(5).info
    assert (info.name, info.timeout) == ("resizing", 5)
    assert resize_slowly.queue(5).info.timeout == 120


def test_options_of_its_own_name_reach_the_function() -> None:
    """A parameter called `name` or `timeout` is the function's: options of an item are given by `using`."""

    @background_work_item
    def greet(token, name, timeout):
        seen.append((name, timeout))

    handle = greet.using(name="greeting").queue("Ada", timeout="soon")
    assert handle.wait(PATIENCE)
    assert (handle.name, seen) == ("greeting", [("Ada", "soon")])


def test_plain_call_runs_the_function() -> None:
    """A call with a token runs the function here and now, as a unit test does, and returns its result."""
    token = CancellationToken.none()
    assert resize(token, 5, size=3) == "resized"
    assert seen == [(token, 5, 3)]


def test_plain_call_of_an_async_function() -> None:
    """Calling an async item gives its coroutine."""
    coroutine = resize_async(CancellationToken.none(), 5)
    assert inspect.iscoroutine(coroutine)
    with pytest.raises(StopIteration, match="resized"):
        coroutine.send(None)


def test_metadata_is_that_of_the_function() -> None:
    """Name, docstring, module and signature are the function's."""
    assert (resize.__name__, resize.__doc__) == ("resize", "Resize the images of an album.")
    assert (resize.__module__, resize.__qualname__) == (__name__, "resize")
    assert list(inspect.signature(resize).parameters) == ["token", "album", "size"]
    assert inspect.unwrap(resize)(CancellationToken.none(), 5) == "resized"


def test_async_function_is_recognised() -> None:
    """Django and asgiref see that a decorated async function is one."""
    assert iscoroutinefunction(resize_async)
    assert not iscoroutinefunction(resize)


def test_repr_names_it() -> None:
    """The repr has the name."""
    assert repr(resize_slowly) == "<BackgroundWorkItem resizing>"
    assert repr(resize) == "<BackgroundWorkItem tests.test_decorator.resize>"


@pytest.mark.parametrize("queue", [lambda: resize_slowly.queue(), lambda: resize_slowly.queue_on_commit()])
def test_wrong_arguments_are_refused_at_the_call(queue) -> None:
    """Arguments that the function cannot take are refused when it is queued."""
    with pytest.raises(InvalidWorkItem, match="no value for album"):
        queue()


def test_wrong_keyword_is_refused_at_the_call() -> None:
    """So are keyword arguments that it does not have."""
    with pytest.raises(InvalidWorkItem, match="no keyword argument 'colour'"):
        resize.queue(5, colour="red")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"timeout": -1}, "timeout is -1"), ({"name": ""}, "name is ''"), ({"retries": 3}, "unknown option.*'retries'")],
)
def test_options_are_checked_where_they_are_given(options: dict, message: str) -> None:
    """A wrong option is refused at the decoration."""
    with pytest.raises(InvalidWorkItem, match=message):
        background_work_item(**options)(lambda token: None)


def test_wrong_option_of_using() -> None:
    """`using` refuses at once too."""
    with pytest.raises(InvalidWorkItem, match="timeout is 0"):
        resize.using(timeout=0)


def test_decorating_no_function() -> None:
    """What cannot be called cannot be decorated."""
    with pytest.raises(InvalidWorkItem, match="decorates functions"):
        background_work_item(5)


# Methods.


def test_method_is_queued_with_its_instance() -> None:
    """`instance.method.queue(...)` passes the instance along, and keeps the options."""
    handle = Album(3).publish.queue(loud=True)
    assert handle.wait(PATIENCE)
    assert (seen, handle.info.timeout) == ([(3, True)], 60)
    assert handle.name == "tests.test_decorator.Album.publish"


def test_async_method() -> None:
    """An async method is an async item."""
    handle = Album(3).publish_async.queue()
    assert handle.wait(PATIENCE)
    assert (seen, handle.info.kind) == ([(3, "async")], "async")


def test_plain_call_of_a_method() -> None:
    """A plain call of the method works as well."""
    Album(4).publish(CancellationToken.none())
    assert seen == [(4, False)]


def test_static_method() -> None:
    """A static method is queued from the class and from an instance."""
    assert Album.tidy.queue(1).wait(PATIENCE)
    assert Album(9).tidy.queue(2).wait(PATIENCE)
    assert seen == [(1, "static"), (2, "static")]


# With the other functions.


def test_queued_by_the_function() -> None:
    """`queue_background_work_item` takes a decorated function, with the name and the timeout of its decorator."""
    handle = queue_background_work_item(resize_slowly, 5)
    assert handle.wait(PATIENCE)
    assert (handle.status, seen[0][1]) == (WorkItemStatus.SUCCEEDED, 5)
    assert (handle.name, handle.info.timeout) == ("resizing", 120)


def test_queued_by_the_function_with_options() -> None:
    """Options of the call stand before those of the decorator."""
    handle = queue_background_work_item(resize_slowly, 5, name="mine", timeout=3)
    assert handle.wait(PATIENCE)
    assert (handle.name, handle.info.timeout) == ("mine", 3)


def test_async_one_queued_by_the_function() -> None:
    """A decorated async function is an async item there too."""
    handle = queue_background_work_item(resize_async, 5)
    assert handle.wait(PATIENCE)
    assert (handle.info.kind, handle.status) == ("async", WorkItemStatus.SUCCEEDED)


def test_partial_of_a_decorated_function() -> None:
    """A partial around a decorated function can be queued."""
    handle = queue_background_work_item(functools.partial(resize, size=2), 5)
    assert handle.wait(PATIENCE)
    assert seen[0][1:] == (5, 2)


def test_decorated_functions_can_be_queued_from_a_thread() -> None:
    """`queue` may be called in any thread."""
    handles = []
    thread = threading.Thread(target=lambda: handles.append(resize.queue(1)))
    thread.start()
    thread.join(PATIENCE)
    assert handles[0].wait(PATIENCE)


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_queue_on_commit_with_an_alias() -> None:
    """`using(using=alias)` waits for the commit of that database."""
    with captured_work_items() as captured:
        with transaction.atomic(using="other"):
            resize.using(using="other", name="other's").queue_on_commit(5, size=3)
            assert captured == []
        assert [item.name for item in captured] == ["other's"]
        captured.run_all()
    assert seen[0][1:] == (5, 3)
