"""Calls like earlier ones are recognised, and anything else about them is still refused."""

import functools
import types
from collections.abc import Callable
from typing import Any

import pytest
from django.test import RequestFactory

from django_qbwi import CapturedRequest, InvalidWorkItem, queue_background_work_item
from django_qbwi.intake.callables import COROUTINE_MARK, examine
from django_qbwi.intake.familiar import FamiliarCalls, is_simple
from django_qbwi.testing import captured_work_items

GET = RequestFactory().get("/")


def plain(token: Any, *args: Any) -> None:
    """Take anything."""


def one(token: Any, number: int) -> None:
    """Take one argument."""


def with_default(token: Any, number: int = 5, /) -> None:
    """Take one argument, or none."""


def with_keyword(token: Any, *, album: Any) -> None:
    """Take one argument by its name."""


def with_keyword_default(token: Any, *, album: Any = 5) -> None:
    """Take one argument by its name, or none."""


async def asynchronous(token: Any, number: int) -> None:
    """Take one argument."""


def nested() -> Callable[..., None]:
    """Make a function."""

    def function(token: Any) -> None:
        """Do nothing."""

    return function


def closure() -> Callable[..., None]:
    """Make a function that holds something."""
    held = 5

    def function(token: Any) -> None:
        assert held

    return function


def meet(calls: FamiliarCalls, work_item: Callable[..., Any], *args: Any) -> None:
    """Look at a call for the first time, as `hosting.queue` does."""
    assert calls.recognise(work_item, args) is None
    is_async = examine(work_item, args)
    assert is_simple(work_item, args)
    calls.learn(work_item, args, is_async)


@pytest.mark.parametrize(
    ("first", "then", "is_async"),
    [
        ((one, 1), (one, 2), False),
        ((asynchronous, 1), (asynchronous, "text"), True),
        ((with_default,), (with_default,), False),
        ((functools.partial(one, 1),), (functools.partial(one), 7), False),
        ((functools.partial(asynchronous), 1), (functools.partial(asynchronous, 1),), True),
        ((functools.partial(with_keyword, album=1),), (functools.partial(with_keyword, album=2),), False),
    ],
)
def test_same_call_is_recognised(first: tuple[Any, ...], then: tuple[Any, ...], is_async: bool) -> None:
    """The same function with as many plain values is known, and whether it is async."""
    calls = FamiliarCalls()
    meet(calls, first[0], *first[1:])
    assert calls.recognise(then[0], then[1:]) is is_async


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ((one, 1), (one,)),
        ((one, 1), (one, 1, 2)),
        ((one, 1), (one, GET)),
        ((one, 1), (one, [])),
        ((one, 1), (functools.partial(one, 1),)),
        ((functools.partial(one, 1),), (one, 1)),
        ((functools.partial(one, 1),), (functools.partial(one, 1), 2)),
        ((functools.partial(one, 1),), (functools.partial(one, number=1),)),
        ((functools.partial(with_keyword, album=1),), (functools.partial(with_keyword, albums=1),)),
        ((functools.partial(with_keyword, album=1),), (functools.partial(with_keyword, album=GET),)),
        ((functools.partial(one, 1),), (functools.partial(one, GET),)),
        ((functools.partial(one), 1), (functools.partial(one), GET)),
        ((one, 1), (plain, 1)),
        ((one, 1), (len, 1)),
        ((one, 1), (functools.partial(len), 1)),
    ],
)
def test_other_call_is_looked_at(first: tuple[Any, ...], then: tuple[Any, ...]) -> None:
    """Another number of arguments, another name, another function, or a value that is not plain: not known."""
    calls = FamiliarCalls()
    meet(calls, first[0], *first[1:])
    assert calls.recognise(then[0], then[1:]) is None


@pytest.mark.parametrize("wrap", [lambda function: function, functools.partial])
@pytest.mark.parametrize("make", [nested, closure, lambda: with_keyword_default])
def test_functions_that_may_hold_something_are_not_kept(make: Callable[[], Any], wrap: Callable[[Any], Any]) -> None:
    """A function inside of a function, one with a closure, and one with keyword defaults are looked at each time."""
    calls = FamiliarCalls()
    work_item = wrap(make())
    meet(calls, work_item)
    assert calls.recognise(work_item, ()) is None


def test_callables_of_other_kinds_are_not_kept() -> None:
    """A partial of a built-in function is looked at each time."""
    calls = FamiliarCalls()
    work_item = functools.partial(print)
    calls.learn(work_item, (), False)
    assert calls.recognise(work_item, ()) is None


@pytest.mark.parametrize("wrap", [lambda function: function, functools.partial])
def test_function_with_other_code_is_looked_at(wrap: Callable[[Any], Any]) -> None:
    """A tool that reloads a module puts new code into the function that is there."""
    calls = FamiliarCalls()
    function = types.FunctionType(one.__code__, {})
    meet(calls, wrap(function), 1)
    function.__code__ = plain.__code__
    assert calls.recognise(wrap(function), (1,)) is None


def test_marked_partial_is_looked_at() -> None:
    """A mark as a coroutine function may stand on one partial, and not on the next."""
    calls = FamiliarCalls()
    meet(calls, functools.partial(one), 1)
    marked = functools.partial(one)
    setattr(marked, COROUTINE_MARK, object())
    assert calls.recognise(marked, (1,)) is None
    calls.learn(marked, (1,), True)
    assert calls.recognise(functools.partial(one), (1,)) is False


def test_memory_is_bounded() -> None:
    """Functions that are made without end are forgotten."""
    calls = FamiliarCalls()
    for _ in range(3_000):
        calls.learn(types.FunctionType(one.__code__, {}), (1,), False)
    assert 0 < int(repr(calls).split()[1].rstrip(">")) <= 1024


def test_familiar_function_is_still_refused_what_it_does_not_take() -> None:
    """A call that went well once does not excuse the next one."""
    with captured_work_items() as captured:
        queue_background_work_item(one, 1)
        queue_background_work_item(one, 2)
        with pytest.raises(InvalidWorkItem, match="takes at most 2"):
            queue_background_work_item(one, 1, 2)
        with pytest.raises(CapturedRequest, match="'number'"):
            queue_background_work_item(one, GET)
    assert len(captured) == 2
