"""What the items of these tests do; in a module, as engines demand."""

import asyncio
from typing import Any

from django_qbwi import CancellationToken, RequestSnapshot, background_work_item, copies_request, current_work_item
from django_qbwi.machine.running_loop import on_running_loop
from tests.support.gates import Gate

ran: list[Any] = []
gate = Gate()


def start_afresh() -> None:
    """Forget what tests before this one have left."""
    ran.clear()
    gate.opened.clear()
    while gate.entered.acquire(blocking=False):
        pass


@background_work_item(hand_off="durable")
def resize(token: CancellationToken, album: int, *, width: int = 100) -> None:
    """Do something that can go on elsewhere."""
    item = current_work_item()
    ran.append((album, width, None if item is None else item.id))


@background_work_item(hand_off="durable")
async def aresize(token: CancellationToken, album: int) -> None:
    """The same on a loop."""
    ran.append((album, on_running_loop()))


@background_work_item(hand_off="durable", name="pages", timeout=30)
def read(token: CancellationToken, book: str, first: int = 0) -> None:
    """Stop at a page where the process ends."""
    for page in range(first, 5):
        ran.append((book, page))
        gate.entered.release()
        if page == 2:
            assert gate.opened.wait(30)
        token.checkpoint(first=page + 1)


@background_work_item(hand_off="durable")
def fail(token: CancellationToken) -> None:
    """Fail."""
    raise ValueError("no such album")


@background_work_item(hand_off="durable")
def stop(token: CancellationToken) -> None:
    """Be cancelled by its own token."""
    item = current_work_item()
    assert item is not None
    item.cancel("enough")
    token.raise_if_cancellation_requested()


@background_work_item
def plain(token: CancellationToken, value: Any = None) -> None:
    """Have no engine of its own."""
    ran.append(value)


@background_work_item(hand_off="durable")
@copies_request
def visit(token: CancellationToken, request: RequestSnapshot) -> None:
    """Take a request along."""


def bare(token: CancellationToken) -> None:
    """Not decorated at all."""


class Albums:
    """Has work that belongs to a class."""

    @staticmethod
    @background_work_item(hand_off="durable")
    def scan(token: CancellationToken, album: int) -> None:
        """Found by the name of its class."""
        ran.append(album)


def add(first: int, second: int = 0) -> int:
    """A task."""
    ran.append(first + second)
    return first + second


async def aadd(first: int) -> int:
    """A task, on a loop."""
    return first


def count(context: Any, last: int, first: int = 0) -> int:
    """A task with a context, and checkpoints."""
    item = current_work_item()
    for number in range(first, last):
        ran.append(number)
        gate.entered.release()
        assert gate.opened.wait(30)
        if item is not None:
            item.token.checkpoint(first=number + 1)
    return last


async def acount(last: int, first: int = 0) -> int:
    """The same on a loop, without a context."""
    item = current_work_item()
    for number in range(first, last):
        ran.append(number)
        gate.entered.release()
        assert await asyncio.to_thread(gate.opened.wait, 30)
        if item is not None:
            item.token.checkpoint(first=number + 1)
    return last


def hold() -> None:
    """A task that keeps its worker until the test lets it go."""
    gate.entered.release()
    assert gate.opened.wait(30)


def give_up(last: int, first: int = 0) -> int:
    """Fail behind a checkpoint."""
    item = current_work_item()
    assert item is not None
    item.token.checkpoint(first=first + 1)
    raise ValueError(first)


def much_later(attempt: int, error: BaseException) -> float:
    """Come again in an hour."""
    return 3600
