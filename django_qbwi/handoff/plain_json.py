"""What a task is called with, and returns, as it is behind a true round trip through JSON.

A task shall be called here as by an engine that stores it: `normalize_json` of the framework lets through what JSON
changes (a key that is a number), and what it does not have (NaN).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from django_qbwi.core.exceptions import InvalidWorkItem
from django_qbwi.core.names import printable


def round_trip(value: Any, what: str, normalize: Callable[[Any], Any]) -> Any:
    """Return `value` as JSON gives it back.

    Args:
        value: Anything.
        what: What it is, for the message: "the arguments of shop.tasks.ship".
        normalize: What the framework does with it.

    Raises:
        InvalidWorkItem: It is no JSON, or would lose something.
    """
    try:
        plain = normalize(value)
        found = json.loads(json.dumps(plain, allow_nan=False))
        if found != plain and not _is_kept(plain, found):
            raise ValueError("two keys of a dict are the same in JSON")
    except (TypeError, ValueError) as error:
        raise InvalidWorkItem(
            f"{what} cannot be passed on as JSON: {printable(str(error))}. Pass plain values (a primary key, not its "
            "object; a text in ISO format, not a date)"
        ) from error
    except RecursionError as error:
        raise InvalidWorkItem(
            f"{what} cannot be passed on as JSON: it contains itself, or is nested too deeply"
        ) from error
    return found


def _is_kept(plain: Any, found: Any) -> bool:
    # Keys become texts; two that become the same would be one.
    if isinstance(plain, dict):
        values = [
            found.get(key if isinstance(key, str) else json.loads(json.dumps({key: 0}).partition(":")[0][1:]))
            for key in plain
        ]
        return len(found) == len(plain) and all(map(_is_kept, plain.values(), values))
    if isinstance(plain, list):
        return all(map(_is_kept, plain, found))
    return True
