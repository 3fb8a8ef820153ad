"""Carriers for the tests."""

import contextlib
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

tenant: ContextVar[str | None] = ContextVar("tenant", default=None)
log: list[tuple[str, Any, int]] = []


class TenantCarrier:
    """Takes the tenant along."""

    def capture(self) -> Any:
        """Return the tenant."""
        log.append(("capture", tenant.get(), threading.get_ident()))
        return tenant.get()

    @contextlib.contextmanager
    def restore(self, captured: Any) -> Iterator[None]:
        """Set it for the item."""
        log.append(("enter", captured, threading.get_ident()))
        token = tenant.set(captured)
        try:
            yield
        finally:
            tenant.reset(token)
            log.append(("leave", captured, threading.get_ident()))


class BrokenCapture:
    """Fails in the caller."""

    def capture(self) -> Any:
        """Fail."""
        raise LookupError("no tenant")

    def restore(self, captured: Any) -> Any:
        """Never called."""


class BrokenRestore:
    """Fails in the item."""

    def capture(self) -> Any:
        """Capture something."""
        return 1

    def restore(self, captured: Any) -> Any:
        """Fail."""
        raise LookupError("tenant is gone")


class NoCarrier:
    """Lacks both methods."""


an_object = TenantCarrier()
