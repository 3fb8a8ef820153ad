"""`background_work_item`: a function that can be queued, and that stays a function."""

import functools
import inspect
import sys
import threading
from collections.abc import Iterator
from unittest.mock import Mock

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

    @staticmethod
    @background_work_item
    def tidy_outside(token, number):
        seen.append((number, "static outside"))

    @background_work_item(timeout=7)
    @classmethod
    def rebuild(cls, token, number):
        seen.append((cls.__name__, number))

    @classmethod
    @background_work_item
    def rebuild_outside(cls, token, number=0):
        seen.append((cls.__name__, number))


class Special(Album):
    """Inherits them."""


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


# G22: a call in the place of `.queue(...)`.


@pytest.mark.parametrize(
    "call",
    [
        lambda: resize(5),
        lambda: resize(),
        lambda: resize(album=5),
        lambda: resize(5, CancellationToken.none()),
        lambda: resize_slowly(5),
        lambda: resize_async(5),
        lambda: resize.using(name="again")(5),
        lambda: functools.partial(resize, 5)(),
        lambda: Album(3).publish(5),
        lambda: Album(3).publish(),
        lambda: Album.tidy(5),
        lambda: Album.rebuild(5),
    ],
)
def test_g22_call_without_a_token_is_refused(call) -> None:
    """G22: a plain call whose first argument is no token runs nothing, and says what to use instead."""
    with pytest.raises(InvalidWorkItem, match=r"in the place of its CancellationToken.*\w+\.queue\(\.\.\.\)"):
        call()
    assert seen == []


def test_g22_message_says_what_was_given() -> None:
    """G22: the message names the function, what stood in the token's place, and both cures."""
    with pytest.raises(InvalidWorkItem) as caught:
        resize(5)
    assert str(caught.value) == (
        "tests.test_decorator.resize was called with a builtins.int in the place of its CancellationToken: to run it "
        "in the background, use resize.queue(...); to run it here, as in a unit test, "
        "resize(CancellationToken.none(), ...)"
    )


def test_g22_calls_with_a_token_run() -> None:
    """G22: what a unit test calls by hand still runs: functions, methods, partials, and a method of its class."""
    token = CancellationToken.none()
    resize(token, 1)
    Album(3).publish(token)
    Album.publish(Album(4), token)
    functools.partial(Album.publish, Album(5))(token)
    Album.tidy(token, 6)
    Album.rebuild(token, 7)
    Special.rebuild(token, 8)
    assert seen == [
        (token, 1, 10),
        (3, False),
        (4, False),
        (5, False),
        (6, "static"),
        ("Album", 7),
        ("Special", 8),
    ]


# The names of other libraries.


@pytest.mark.parametrize("name", ["delay", "enqueue", "apply_async", "aenqueue"])
@pytest.mark.parametrize("decorated", [resize, resize_async, Album.publish, Album(1).publish, Album.tidy])
def test_names_of_other_libraries_lead_to_queue(name: str, decorated) -> None:
    """`.delay(...)` and its like are an AttributeError that names `.queue(...)`."""
    with pytest.raises(AttributeError, match=rf"has no \.{name}\(\.\.\.\): .* queued with \.queue\(\.\.\.\)"):
        getattr(decorated, name)
    assert not hasattr(decorated, name)


def test_other_names_are_attribute_errors() -> None:
    """Any other attribute is missing as it always is."""
    with pytest.raises(AttributeError, match="'BackgroundWorkItem' object has no attribute 'retries'"):
        resize.retries  # noqa: B018


# Methods of the class.


@pytest.mark.parametrize("kind", [Album, Special])
@pytest.mark.parametrize("reached", [lambda kind: kind, lambda kind: kind(9)])
def test_class_method(kind: type, reached) -> None:
    """A class method is queued with the class that it is reached through, and keeps the options."""
    handle = reached(kind).rebuild.queue(5)
    assert handle.wait(PATIENCE)
    assert (seen, handle.info.timeout) == ([(kind.__name__, 5)], 7)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="before Python 3.13 classmethod() binds what it holds")
@pytest.mark.parametrize(
    "queue",
    [
        lambda: Album.rebuild_outside.queue(5),
        lambda: Album.rebuild_outside.queue(),
        lambda: Album(1).rebuild_outside.queue(5),
        lambda: Album.rebuild_outside.queue_on_commit(5),
    ],
)
def test_decorator_below_classmethod_is_refused(queue) -> None:
    """Below `classmethod` nobody knows the class: refused, with the cure."""
    with pytest.raises(InvalidWorkItem, match="put @background_work_item above @classmethod"):
        queue()


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="from Python 3.13 on it is refused")
def test_decorator_below_classmethod_binds() -> None:
    """Before Python 3.13 it works in this order too."""
    assert Special.rebuild_outside.queue(5).wait(PATIENCE)
    assert seen == [("Special", 5)]


def test_plain_call_below_classmethod() -> None:
    """A plain call works in this order too, and so does the function that queues."""
    Album.rebuild_outside(CancellationToken.none(), 5)
    assert queue_background_work_item(Album.rebuild_outside, 6).wait(PATIENCE)
    assert seen == [("Album", 5), ("Album", 6)]


@pytest.mark.parametrize(
    "queue",
    [
        lambda: Album.publish.queue(Album(3)),
        lambda: Album.publish.queue_on_commit(Album(3)),
        lambda: Album.publish.using(name="again").queue(),
        lambda: queue_background_work_item(Album.publish),
        lambda: queue_background_work_item(Album.publish, Album(3)),
    ],
)
def test_method_of_the_class_is_refused(queue) -> None:
    """A method without its instance would take the token for it: refused, with the cure."""
    with pytest.raises(InvalidWorkItem, match=r"no instance: queue it from one, as in instance\.publish\.queue"):
        queue()


def test_partial_of_a_method_of_the_class() -> None:
    """A partial that gives the instance can be queued."""
    assert queue_background_work_item(functools.partial(Album.publish, Album(3))).wait(PATIENCE)
    assert seen == [(3, False)]


@pytest.mark.parametrize("reached", [Album, Album(9)])
def test_decorator_below_staticmethod(reached) -> None:
    """The order of the decorators does not matter for a static method."""
    assert reached.tidy_outside.queue(1).wait(PATIENCE)
    assert seen == [(1, "static outside")]


def test_callable_object_as_an_attribute() -> None:
    """A decorated object that binds nothing is the same for all instances."""

    class Job:
        def __call__(self, token, number):
            seen.append(number)

    class Owner:
        work = background_work_item(Job())

    assert Owner().work.queue(4).wait(PATIENCE)
    assert seen == [4]


# G16, G17: doubles and hostile objects can be decorated.


def test_g16_double_is_decorated() -> None:
    """G16: a double is decorated as the callable object that it is."""
    double = Mock(spec=resize.function)
    handle = background_work_item(double).queue(5)
    assert handle.wait(PATIENCE)
    assert double.call_args.args[1:] == (5,)


def test_g17_attributes_that_raise_are_refused() -> None:
    """G17: an object whose attributes raise cannot be decorated, and the message says why."""

    class Hostile:
        def __getattr__(self, name):
            raise RuntimeError(name)

        def __call__(self, token):
            pass

    with pytest.raises(InvalidWorkItem, match="cannot be decorated, since one of its attributes raises RuntimeError"):
        background_work_item(Hostile())
