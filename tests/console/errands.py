"""Work items that `manage.py qbwi run` is given."""

import threading
from typing import Any

from django_qbwi import CancellationToken, background_work_item, current_work_item

seen: list[Any] = []
"""What they were called with."""
NUMBER = 42


def note(token: CancellationToken, *args: Any) -> None:
    """Note the arguments."""
    seen.append(args)


def take_two(token: CancellationToken, first: Any, second: Any = None) -> None:
    """Take one or two arguments."""
    seen.append((first, second))


@background_work_item(name="decorated", timeout=33)
def decorated(token: CancellationToken, number: int) -> None:
    """Note the argument, and the options of the decorator."""
    item = current_work_item()
    assert item is not None
    seen.append((number, item.name, item.info.timeout))


async def asynchronous(token: CancellationToken, number: int) -> None:
    """Note the argument on the event loop."""
    seen.append((number, threading.current_thread().name))


def fail(token: CancellationToken) -> None:
    """Raise, with what could command a terminal."""
    raise ValueError("bad\x1b[31m text")


@background_work_item(timeout=0.01)
def time_out(token: CancellationToken) -> None:
    """Go on until the time is over."""
    token.wait()
    token.raise_if_cancellation_requested()


def cancel_itself(token: CancellationToken) -> None:
    """End as an operator's cancellation ends it."""
    item = current_work_item()
    assert item is not None
    item.cancel()
    token.raise_if_cancellation_requested()


def leave(token: CancellationToken) -> None:
    """Raise what ends a program."""
    raise SystemExit(0)


def generate(token: CancellationToken) -> Any:
    """Yield."""
    yield


class Errand:
    """Not to be reached by a path."""

    def run(self, token: CancellationToken) -> None:
        """Do nothing."""
