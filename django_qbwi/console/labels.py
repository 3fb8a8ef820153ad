"""The labels of an item for people: as text, and whether they are those that somebody looks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django_qbwi.core.names import printable


def texts(labels: Mapping[str, Any] | None) -> list[str]:
    """Return each label as `name=value`; values as JSON writes them, texts without quotes."""
    return [printable(f"{name}={_text(value)}") for name, value in (labels or {}).items()]


def has_label(item: Mapping[str, Any], wanted: str) -> bool:
    """Say whether an item has a label: `name=value` as a whole, any other text as a part of a name or of a value."""
    found = texts(item.get("labels"))
    if "=" in wanted:
        return wanted in found
    return any(wanted.casefold() in text.casefold() for text in found)


def has_labels(item: Mapping[str, Any], wanted: Iterable[str]) -> bool:
    """Say whether an item has all of them."""
    return all(has_label(item, label) for label in wanted)


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
