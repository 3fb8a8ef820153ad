"""What may cross into a helper process is proven at the call, and refused there with the cure."""

import functools
import threading
from collections.abc import Callable
from typing import Any

import pytest

from django_qbwi.core.exceptions import InvalidWorkItem
from django_qbwi.intake.crossing import Crossing, checked_executor, crossing
from tests.executors.processes import functions


class Album:
    """Has a method."""

    def resize(self, token: Any) -> None:
        """Do nothing."""


async def load(token: Any) -> None:
    """Do nothing."""


def unnamed(token: Any) -> None:
    """Stand in no module under this name."""


nameless = unnamed
del unnamed


@pytest.mark.parametrize(
    ("work_item", "args", "problem"),
    [
        pytest.param(
            lambda token: None, (), "cannot be imported by its name: give a function of a module", id="lambda"
        ),
        pytest.param(Album().resize, (), "cannot be imported by its name", id="method"),
        pytest.param(nameless, (), "cannot be imported by its name", id="deleted"),
        pytest.param(functools.partial(functions.add, None, "path"), (), "cannot be imported", id="positional partial"),
        pytest.param(load, (), "is async: async items run on the loop of this process", id="async"),
        pytest.param(
            functions.add, ("a", threading.Lock()), r"its argument 2, a _thread.lock, cannot be pickled", id="arg"
        ),
        pytest.param(
            functools.partial(functions.add, other=threading.Lock()),
            ("a", 1),
            r"its argument other, a _thread.lock, cannot be pickled \(builtins.TypeError: .*: give plain values",
            id="keyword",
        ),
    ],
)
def test_what_cannot_cross_is_refused(work_item: Callable[..., Any], args: tuple[Any, ...], problem: str) -> None:
    """The message says which part, and what to do."""
    with pytest.raises(InvalidWorkItem, match=problem):
        crossing(work_item, args)


def test_function_of_main_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A helper does not run `__main__`."""
    import __main__

    function = functools.partial(functions.nothing).func
    monkeypatch.setattr(function, "__module__", "__main__")
    monkeypatch.setattr(__main__, "nothing", function, raising=False)
    with pytest.raises(InvalidWorkItem, match="stands in __main__, which a helper process does not run"):
        crossing(function, ())


def test_call_is_packed_once() -> None:
    """The same arguments are the same bytes; those of a checkpoint are packed anew."""
    packed = crossing(functions.add, ("a", 1))
    assert packed.with_arguments(("a", 1), {}) is packed
    other = packed.with_arguments(("a", 2), {"other": 3})
    assert (other.path, other.args, other.keywords) == (packed.path, ("a", 2), {"other": 3})
    assert isinstance(other, Crossing)


def test_value_whose_equality_raises_crosses() -> None:
    """Arguments are compared by identity."""

    class Odd(list[int]):
        def __eq__(self, other: object) -> bool:
            raise AssertionError("nobody compares")

        __hash__ = None  # type: ignore[assignment]

        def __reduce__(self) -> Any:
            return list, ()

    odd = Odd()
    packed = crossing(functions.add, ("a", odd))
    assert packed.with_arguments(("a", odd), {}) is packed


@pytest.mark.parametrize(("given", "found"), [(None, None), ("thread", None), ("process", "process")])
def test_executor_is_one_of_two(given: str | None, found: str | None) -> None:
    """Threads are what an item has without one."""
    assert checked_executor(given) == found


@pytest.mark.parametrize("given", ["processes", "", 1, b"process"])
def test_other_executor_is_refused(given: Any) -> None:
    """The message names the two."""
    with pytest.raises(InvalidWorkItem, match=r'give "thread" or "process", or leave it out'):
        checked_executor(given)
