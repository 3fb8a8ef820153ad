"""Exceptions whose classes get in the way of whoever handles them."""

import dataclasses
from typing import Any, ClassVar


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """Refuses every attribute that is set."""

    album: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenSlots(Exception):
    """The same with slots."""

    album: int = 1


@dataclasses.dataclass(eq=True)
class Unhashable(Exception):
    """Compared by value, and so without a hash."""

    album: int = 1


class RefusesToSet(Exception):
    """Leaves, where an attribute is set."""

    def __setattr__(self, name: str, value: Any) -> None:
        raise SystemExit(name)


class RefusesToGet(Exception):
    """Has no attributes at all."""

    def __getattribute__(self, name: str) -> Any:
        raise LookupError(name)


class OwnTraceback(Exception):
    """Answers for its chain and its class with code of its own."""

    @property
    def __traceback__(self) -> Any:
        raise LookupError

    __cause__ = __context__ = __suppress_context__ = __class__ = __traceback__  # type: ignore[assignment]


class _Meta(type):
    def __getattribute__(cls, name: str) -> Any:
        raise LookupError(name)


class OfHostileClass(Exception, metaclass=_Meta):
    """Has a class that does not say its name."""


class Nameless(Exception):
    """Has a class whose module is no text."""

    __module__: ClassVar[Any] = 7  # type: ignore[misc]


class HostileText(str):
    """A text whose slices raise."""

    def __getitem__(self, index: Any) -> str:
        raise LookupError


class SaysHostileText(Exception):
    """Says such a text."""

    def __str__(self) -> str:
        return HostileText("no such album")


class HostileGroup(ExceptionGroup[Exception]):
    """A group that does not show its members, and sets nothing."""

    @property
    def exceptions(self) -> Any:
        raise LookupError

    __setattr__ = RefusesToSet.__setattr__


NAMES = [
    "Frozen",
    "FrozenSlots",
    "Unhashable",
    "RefusesToSet",
    "RefusesToGet",
    "OwnTraceback",
    "OfHostileClass",
    "Nameless",
    "SaysHostileText",
    "HostileGroup",
]


def make(name: str) -> BaseException:
    """Return an exception of the class `name`; a test's parameter is the name, since pytest looks at parameters."""
    if name == "HostileGroup":
        return HostileGroup("several", [ValueError(1), Frozen()])
    error: BaseException = globals()[name]()
    return error
