"""Makes the event loop, wholly or not at all."""

from __future__ import annotations

import asyncio
import selectors


def new_loop(selector: selectors.BaseSelector | None) -> asyncio.SelectorEventLoop:
    """Return a loop on `selector`, or on the usual one.

    Raises:
        OSError: There is no file descriptor for the loop's own pipe. Nothing is left open.
    """
    selector = selectors.DefaultSelector() if selector is None else selector
    try:
        return _Loop(selector)
    except BaseException:
        selector.close()
        raise


class _Loop(asyncio.SelectorEventLoop):
    is_whole = False

    def __init__(self, selector: selectors.BaseSelector) -> None:
        super().__init__(selector)
        self.is_whole = True

    def __del__(self) -> None:
        # asyncio's own warns of a loop that was not closed, though one without a pipe cannot be.
        if self.is_whole:
            super().__del__()
