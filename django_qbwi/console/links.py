"""Links from an item to what other systems know of it: its log lines, its trace."""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter
from typing import Any
from urllib.parse import quote


def links(templates: Mapping[str, str] | None, values: Mapping[str, Any]) -> dict[str, str]:
    """Return the URLs by their titles; one that needs a value which the item has not is left out.

    Args:
        templates: QBWI["LINKS"], which was checked.
        values: `id`, `request_id` and `trace_id`, each a text or None; they are quoted, slashes too.
    """
    found = {}
    for title, template in (templates or {}).items():
        needed = {name for _, name, _, _ in Formatter().parse(template) if name is not None}
        if all(values.get(name) for name in needed):
            found[title] = template.format(**{name: quote(str(values[name]), safe="") for name in needed})
    return found
