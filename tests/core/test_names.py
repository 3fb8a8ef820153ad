"""What a callable is called, without running any code of it."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_qbwi.core.names import MAX_NAME_LENGTH, FunctionWrapper, layers_of, name_of, printable


def plain(token: Any, album: Any = None) -> None:
    """Stand for any item."""


class Items:
    """A method, and a callable object."""

    def method(self, token: Any) -> None: ...

    def __call__(self, token: Any) -> None: ...


@pytest.mark.parametrize(
    ("work_item", "name"),
    [
        (plain, f"{__name__}.plain"),
        (functools.partial(functools.partial(plain), 1), f"{__name__}.plain"),
        (Items().method, f"{__name__}.Items.method"),
        (Items(), f"{__name__}.Items"),
        (Items, f"{__name__}.Items"),
        (print, "builtins.print"),
        ([].append, "list.append"),
    ],
)
def test_name_is_module_and_qualified_name(work_item: Any, name: str) -> None:
    """An item is called as its function, whatever stands around it."""
    assert name_of(work_item) == name


def test_f8_name_that_raises_is_replaced() -> None:
    """F8: an object whose attributes raise gets a name all the same."""

    class Hostile:
        def __getattribute__(self, name: str) -> Any:
            raise ValueError(name)

    assert name_of(Hostile()).endswith("Hostile")


def test_f8_odd_qualified_name_falls_back_to_the_class() -> None:
    """F8: a `__qualname__` that is no string is passed over."""
    work_item = Items()
    work_item.__qualname__ = 7  # type: ignore[attr-defined]
    assert name_of(work_item) == f"{__name__}.Items"


def test_f8_huge_name_is_bounded() -> None:
    """F8: a name of a megabyte is cut, and shows that it is."""

    def item(token: Any) -> None: ...

    item.__qualname__ = "x" * 1_000_000
    assert len(name_of(item)) == MAX_NAME_LENGTH
    assert name_of(item).endswith("…")


def test_s14_control_characters_are_replaced() -> None:
    """S14: neither a terminal nor a log file can be steered by a name."""
    assert printable("one\x1b[31m\ntwo\u202e") == "one?[31m?two?"
    assert printable("Größe ✓") == "Größe ✓"


@given(st.text())
def test_printable_text_is_bounded_and_printable(text: str) -> None:
    """Whatever the text, the result is short and printable; what was so already is not changed."""
    result = printable(text)
    assert result.isprintable()
    assert len(result) <= MAX_NAME_LENGTH
    if text.isprintable() and len(text) <= MAX_NAME_LENGTH:
        assert result == text


class Selfish(FunctionWrapper):
    """A wrapper that says that it calls itself."""

    @property
    def function(self) -> Callable[..., Any]:
        return self  # type: ignore[return-value]


def test_layers_end() -> None:
    """Following a callable ends, also where it never reaches a function."""
    assert len(list(layers_of(Selfish()))) == 100
    assert name_of(Selfish()) == f"{__name__}.Selfish"


def test_wrapper_that_raises_is_unnamed() -> None:
    """A name is for display: what cannot say what it calls must not stop the item."""
    assert name_of(FunctionWrapper()) == "<unnamed>"


class Loud(functools.partial[Any]):
    """A partial with a call of its own: an object like others."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...


class Spaced(dict[str, Any]):
    """A namespace of the user's own kind."""


def test_names_of_odd_objects() -> None:
    """An object is called as its class, unless it says another name in a plain way."""
    odd = Items()
    odd.__dict__ = Spaced(__qualname__="other")
    assert name_of(odd) == f"{__name__}.Items"
    assert name_of(Loud(plain)) == f"{__name__}.Loud"
    assert name_of(functools.update_wrapper(Items(), plain)) == f"{__name__}.plain"
    assert name_of(object()) == "builtins.object"
    assert name_of(functools.cache(plain)) == f"{__name__}.plain"
