"""Is there a running event loop in this thread, which a blocking call would stop."""

from __future__ import annotations

import asyncio


def on_running_loop() -> bool:
    """Say whether this thread runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def refuse_on_running_loop(call: str, cure: str) -> None:
    """Raise RuntimeError if this thread runs an event loop, which the blocking `call` would stop."""
    if on_running_loop():
        raise RuntimeError(f"{call} would block the running event loop: {cure} instead")
