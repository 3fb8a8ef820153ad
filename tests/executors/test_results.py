"""G12: an item whose result only says what would be done is waited for, or FAILED with the cure; never SUCCEEDED."""

import asyncio
import functools
import itertools
import types
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from django_qbwi.core.exceptions import InvalidWorkItem
from django_qbwi.core.items import WorkItemHandle
from django_qbwi.core.records import WorkItemStatus
from tests.support.gates import PATIENCE
from tests.support.runtime import Runtime

S = WorkItemStatus

ran: list[str] = []
"""What really ran; each test empties it."""


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    """Forget what other tests ran."""
    ran.clear()


def generator(token: Any = None) -> Iterator[int]:
    """Run when somebody loops over it."""
    ran.append("generator")
    yield 1


async def async_generator(token: Any = None) -> AsyncIterator[int]:
    """Run when somebody loops over it, on a loop."""
    ran.append("async generator")
    yield 1


def wrapped(token: Any) -> Any:
    """Stand for what a decorator of a project makes."""
    return generator(token)


def step(value: Any, *others: Any) -> Any:
    """Stand for the work that an iterator would do."""
    ran.append("step")
    return value


async def coroutine(token: Any = None) -> None:
    """Run when it is awaited."""
    await asyncio.sleep(0)
    ran.append("coroutine")


async def failing(token: Any = None) -> None:
    """Fail when it is awaited."""
    await asyncio.sleep(0)
    raise LookupError("no such album")


@types.coroutine
def old_coroutine(token: Any) -> Iterator[Any]:
    """Run when it is awaited, as the coroutines of a library that are generators."""
    yield from asyncio.sleep(0).__await__()
    ran.append("coroutine")


LAZY: dict[str, Callable[[], Any]] = {
    "generator": generator,
    "generator expression": lambda: (step(number) for number in (1, 2)),
    "asynchronous generator": async_generator,
    "map": lambda: map(step, [1]),
    "filter": lambda: filter(step, [1]),
    "starmap": lambda: itertools.starmap(step, [(1,)]),
    "takewhile": lambda: itertools.takewhile(step, [1]),
    "accumulate": lambda: itertools.accumulate([1, 2], step),
}


def asynchronous(make: Callable[[], Any]) -> Callable[[Any], Any]:
    """Return an async item that returns what `make` makes."""

    async def item(token: Any) -> Any:
        return make()

    return item


def plain(make: Callable[[], Any]) -> Callable[[Any], Any]:
    """Return a sync item that returns what `make` makes."""
    return lambda token: make()


def awaited(make: Callable[[], Any]) -> Callable[[Any], Any]:
    """Return a sync item whose awaitable gives what `make` makes."""
    return lambda token: asynchronous(make)(token)


def ended(runtime: Runtime, item: Callable[..., Any]) -> WorkItemHandle:
    """Queue an item, wait for its end, and return its handle."""
    handle = runtime.queue(item)
    assert handle.wait(PATIENCE)
    return handle


@pytest.mark.parametrize("kind", [plain, asynchronous, awaited])
@pytest.mark.parametrize("name", LAZY)
def test_g12_result_of_which_nothing_ran_fails(
    runtime: Runtime, kind: Callable[[Callable[[], Any]], Callable[[Any], Any]], name: str
) -> None:
    """It says what was returned and what to do instead, however the item was made."""
    handle = ended(runtime, kind(LAZY[name]))
    assert handle.status is S.FAILED
    assert isinstance(handle.exception(), InvalidWorkItem)
    assert name.split()[0] in str(handle.exception())
    assert "loop over it" in str(handle.exception())
    assert ran == []


@pytest.mark.parametrize(
    "item",
    [
        lambda token: generator(token),
        functools.wraps(wrapped)(lambda token: generator(token)),
        functools.lru_cache(lambda token: generator(token)),
    ],
    ids=["lambda", "wraps", "lru_cache"],
)
def test_g12_generator_function_behind_something(runtime: Runtime, item: Callable[..., Any]) -> None:
    """What hides the generator function at the call does not hide that nothing has run."""
    assert ended(runtime, item).status is S.FAILED
    assert ran == []


def test_g12_coroutine_out_of_a_cache_runs_once(runtime: Runtime) -> None:
    """The second item gets the coroutine of the first, and fails with the cure."""
    item = functools.lru_cache(lambda token: kept)
    kept = coroutine()
    assert ended(runtime, item).status is S.SUCCEEDED
    handle = ended(runtime, item)
    assert handle.status is S.FAILED
    assert "call the async function for each item" in str(handle.exception())
    assert ran == ["coroutine"]


@pytest.mark.parametrize(
    "item",
    [
        lambda token: coroutine(),
        asynchronous(coroutine),
        awaited(coroutine),
        lambda token: old_coroutine(token),
        asynchronous(lambda: asyncio.ensure_future(coroutine())),
    ],
    ids=["lambda", "async", "async-twice", "types.coroutine", "task"],
)
def test_g12_awaitable_is_awaited_wherever_it_comes_from(runtime: Runtime, item: Callable[..., Any]) -> None:
    """What is returned without `await` runs inside of the item, also by an async one."""
    assert ended(runtime, item).status is S.SUCCEEDED
    assert ran == ["coroutine"]


@pytest.mark.parametrize(
    "item",
    [asynchronous(failing), awaited(failing), asynchronous(lambda: asyncio.ensure_future(failing()))],
    ids=["async", "async-twice", "task"],
)
def test_g12_failure_of_what_is_returned_is_the_items(runtime: Runtime, item: Callable[..., Any]) -> None:
    """It is not lost."""
    handle = ended(runtime, item)
    assert handle.status is S.FAILED
    assert isinstance(handle.exception(), LookupError)


@pytest.mark.parametrize("kind", [plain, asynchronous, awaited])
def test_g12_future_of_a_pool_is_waited_for(
    runtime: Runtime, kind: Callable[[Callable[[], Any]], Callable[[Any], Any]]
) -> None:
    """The item runs until the future is done, and its failure is the item's."""
    good: Future[None] = Future()
    bad: Future[None] = Future()
    handles = [runtime.queue(kind(lambda: good)), runtime.queue(kind(lambda: bad))]
    assert ended(runtime, coroutine).status is S.SUCCEEDED
    assert not any(handle.status.is_terminal for handle in handles)
    good.set_result(None)
    bad.set_exception(LookupError("no such album"))
    assert all(handle.wait(PATIENCE) for handle in handles)
    assert [handle.status for handle in handles] == [S.SUCCEEDED, S.FAILED]
    assert isinstance(handles[1].exception(), LookupError)


def used_generator() -> Iterator[int]:
    """Return a generator that was looped over."""
    made = generator()
    list(made)
    return made


@pytest.mark.parametrize(
    "make",
    [used_generator, lambda: iter([1]), lambda: [1], lambda: generator, dict, lambda: zip([1], [2], strict=True)],
    ids=["used", "iterator", "list", "function", "dict", "zip"],
)
@pytest.mark.parametrize("kind", [plain, asynchronous])
def test_g12_other_results_are_dropped(
    runtime: Runtime, kind: Callable[[Callable[[], Any]], Callable[[Any], Any]], make: Callable[[], Any]
) -> None:
    """A result that hides no work is nobody's mistake."""
    assert ended(runtime, kind(make)).status is S.SUCCEEDED


class Proxy:
    """Says that it is of another class, by code of its own."""

    @property
    def __class__(self) -> Any:
        raise SystemExit("evaluated")


def test_g12_result_is_not_evaluated(runtime: Runtime) -> None:
    """A lazy proxy stays what it is, and ends nobody."""
    assert ended(runtime, lambda token: Proxy()).status is S.SUCCEEDED
    assert ended(runtime, asynchronous(Proxy)).status is S.SUCCEEDED
