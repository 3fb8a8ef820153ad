"""The labels of an item: plain values by name, given where it is queued, by which people find it again."""

from __future__ import annotations

import datetime
import decimal
import math
import re
import types
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

from django_qbwi.core.exceptions import InvalidWorkItem
from django_qbwi.core.names import name_of, printable
from django_qbwi.core.records import Label, Labels

MAX_LABELS = 8
MAX_NAME = 50
MAX_TEXT = 100
MAX_NUMBER = 2**63

_NAME = re.compile(rf"[A-Za-z_][A-Za-z0-9_.-]{{0,{MAX_NAME - 1}}}")
_PLAIN: Final = "a str, an int, a float, a bool, None, a UUID, a date, a datetime or a Decimal"


def checked_labels(labels: Any) -> Labels:
    """Return labels as an item has them: plain values that JSON knows, in their order.

    Raises:
        InvalidWorkItem: They are no mapping, too many, or one of them is wrong; the message says what to give.
    """
    if labels is None:
        return ()
    if not issubclass(type(labels), (dict, types.MappingProxyType)):
        raise InvalidWorkItem(f'labels is {labels!r}: give a dict, as in labels={{"order": 42}}, or leave it out')
    if len(labels) > MAX_LABELS:
        raise InvalidWorkItem(f"labels has {len(labels)} entries: give at most {MAX_LABELS}, those that you search for")
    return tuple((_checked_name(name), _plain(name, value)) for name, value in list(labels.items()))


def merged(labels: Labels, further: Any) -> dict[str, Label]:
    """Return those of a decorator with those of one call, which replace the ones of the same name.

    Raises:
        InvalidWorkItem: The further ones are wrong.
    """
    return {**dict(labels), **dict(checked_labels(further))}


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise InvalidWorkItem(
            f"labels has the name {name!r}: give one of at most {MAX_NAME} letters, digits and _ . - that begins "
            "with a letter"
        )
    return str.__str__(name)


def _plain(name: str, value: Any) -> Label:
    """Return a value as JSON has it; subclasses count as what they are made of."""
    kind = type(value)
    for base, plain in _PLAIN_OF.items():
        if issubclass(kind, base):
            found = plain(value)
            break
    else:
        raise InvalidWorkItem(
            f"labels[{name!r}] is a {printable(name_of(kind))}: give {_PLAIN}, such as the primary key of an object"
        )
    if isinstance(found, str):
        if len(found) > MAX_TEXT:
            raise InvalidWorkItem(
                f"labels[{name!r}] is {found[:MAX_TEXT]!r}..., of {len(found)} characters: give at most {MAX_TEXT}"
            )
        return printable(found)
    if isinstance(found, (int, float)) and not (-MAX_NUMBER <= found < MAX_NUMBER):
        given = repr(found) if isinstance(found, float) else f"an int of {found.bit_length()} bits"
        raise InvalidWorkItem(f"labels[{name!r}] is {given}: give a finite number of at most 63 bits, or a str")
    return found


# By the methods of the types themselves: those of a subclass are the user's. A bool is an int, a datetime is a date.
_PLAIN_OF: dict[type, Callable[[Any], Label]] = {
    str: str.__str__,
    bool: bool,
    int: int.__int__,
    float: lambda value: float.__float__(value) if not math.isnan(value) else math.inf,
    types.NoneType: lambda value: None,
    uuid.UUID: lambda value: str(uuid.UUID(int=value.int)),
    datetime.datetime: datetime.datetime.isoformat,
    datetime.date: datetime.date.isoformat,
    decimal.Decimal: decimal.Decimal.__str__,
}


def of_mapping(labels: Mapping[str, Any]) -> Labels:
    """Return labels that were checked before, and came back as JSON; those that are none any more are left out."""
    try:
        return checked_labels(dict(labels))
    except (InvalidWorkItem, TypeError, ValueError):
        return ()
