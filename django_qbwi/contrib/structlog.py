"""Named structlog context variables in an item: QBWI = {"CONTEXT": ["django_qbwi.contrib.structlog"]}.

An allow-list: what a middleware binds for its request (a user's name, an address) does not belong into the records of
an item by itself. For other names, derive:

    class Carrier(StructlogCarrier):
        names = ("request_id", "tenant")
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import structlog

from django_qbwi.intake.plain import copy_plain


class StructlogCarrier:
    """Takes the context variables in `names` along."""

    names: tuple[str, ...] = ("request_id", "correlation_id")

    def capture(self) -> dict[str, Any] | None:
        """Return the named variables that are bound, None if there are none."""
        bound = structlog.contextvars.get_contextvars()
        return {name: copy_plain(bound[name], f"structlog's {name!r}") for name in self.names if name in bound} or None

    def restore(self, captured: Mapping[str, Any], /) -> AbstractContextManager[None]:
        """Bind them for the time of the item."""
        return structlog.contextvars.bound_contextvars(**captured)


Carrier = StructlogCarrier
