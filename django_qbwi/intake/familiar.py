"""Calls like those that were queued before: a second look takes a fraction of what the first one takes.

This stands on the path of every item, before `examine` and the guard, which look at whatever is not known here.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from types import CellType, CodeType, FunctionType
from typing import Any

from django_qbwi.intake.callables import COROUTINE_MARK
from django_qbwi.intake.plain import PLAIN

_MAX_CALLS = 1024


class FamiliarCalls:
    """Remembers the plain functions that were found to carry nothing along, and how they, or partials, were called.

    Invariant: an entry holds as long as its function has the same code, which tools that reload modules replace.
    Functions inside of functions are made anew at each call, and can hold anything: none of them is kept.
    Any thread, without a lock: an entry that is lost is made again.
    """

    __slots__ = ("_functions", "_partials")

    def __init__(self) -> None:
        self._functions: dict[FunctionType, tuple[CodeType, int, bool]] = {}
        # By function, number of positional arguments, names of the others.
        self._partials: dict[tuple[Any, ...], tuple[CodeType, bool]] = {}

    def __repr__(self) -> str:
        return f"<FamiliarCalls {len(self._functions) + len(self._partials)}>"

    def recognise(self, work_item: Any, args: tuple[Any, ...]) -> bool | None:
        """Say of a call that needs no further look whether it is async; None of one that does."""
        if type(work_item) is not FunctionType:
            return self._recognise_partial(work_item, args) if type(work_item) is functools.partial else None
        known = self._functions.get(work_item)
        if known is None:
            return None
        code, count, is_async = known
        if code is not work_item.__code__ or count != len(args):
            return None
        try:
            for value in args:
                if type(value) not in PLAIN:
                    return None
        except Exception:
            # A metaclass may have a hash that raises, or none; the guard does without.
            return None
        return is_async

    def learn(self, work_item: Callable[..., Any], args: tuple[Any, ...], is_async: bool) -> None:
        """Remember a call that was examined, and that the guard found to be simple."""
        function = work_item.func if type(work_item) is functools.partial else work_item
        if (
            type(function) is not FunctionType
            or function.__code__.co_flags & inspect.CO_NESTED
            or function.__closure__ is not None
            or function.__kwdefaults__ is not None
        ):
            return
        if len(self._functions) + len(self._partials) >= _MAX_CALLS:
            # Code that makes functions without end, with `exec`, shall not be kept alive by this.
            self._functions.clear()
            self._partials.clear()
        if type(work_item) is not functools.partial:
            self._functions[function] = (function.__code__, len(args), is_async)
        elif not hasattr(work_item, COROUTINE_MARK):
            self._partials[_shape(work_item, args)] = (function.__code__, is_async)

    def _recognise_partial(self, partial: functools.partial[Any], args: tuple[Any, ...]) -> bool | None:
        if type(partial.func) is not FunctionType:
            return None
        known = self._partials.get(_shape(partial, args))
        if known is None:
            return None
        code, is_async = known
        if code is not partial.func.__code__ or hasattr(partial, COROUTINE_MARK):
            return None
        return is_async if _are_plain((*args, *partial.args, *partial.keywords.values())) else None


def is_simple(work_item: Any, args: tuple[Any, ...]) -> bool:
    """Say whether a function, or a partial of one, has but plain values about it; on the path of every new call."""
    kind = type(work_item)
    if kind is functools.partial:
        if not _are_plain(work_item.args) or not _are_plain(work_item.keywords.values()):
            return False
        work_item = work_item.func
        kind = type(work_item)
    if kind is not FunctionType or (args and not _are_plain(args)):
        return False
    defaults, keyword_defaults = work_item.__defaults__, work_item.__kwdefaults__
    if defaults is not None and not _are_plain(defaults):
        return False
    if keyword_defaults is not None and not _are_plain(keyword_defaults.values()):
        return False
    closure = work_item.__closure__
    return closure is None or _are_plain(_contents_of(closure))


def _are_plain(values: Iterable[Any]) -> bool:
    try:
        for value in values:
            if type(value) not in PLAIN:
                return False
    except Exception:
        # As above.
        return False
    return True


def _contents_of(cells: tuple[CellType, ...]) -> list[Any]:
    contents = []
    for cell in cells:
        try:
            contents.append(cell.cell_contents)
        except ValueError:  # not assigned yet
            continue
    return contents


def _shape(partial: functools.partial[Any], args: tuple[Any, ...]) -> tuple[Any, ...]:
    return (partial.func, len(args) + len(partial.args), *partial.keywords)
