"""Makes the event loop, wholly or not at all."""

from __future__ import annotations

import asyncio
import selectors

from django_qbwi.executors.loop_children import LoopWithChildren


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


class _Loop(LoopWithChildren):
    """A loop whose finalizer has nothing to say of one that was never made wholly.

    asyncio's own warns of a loop that was not closed, and one without a pipe cannot be. There is no finalizer here,
    since what a signal handler raises in one is printed.
    """

    # asyncio's own name: what is closed is left alone. Its `__init__` sets it to False.
    _closed = True

    def __init__(self, selector: selectors.BaseSelector) -> None:
        try:
            super().__init__(selector)
        except BaseException:
            self._closed = True
            raise
