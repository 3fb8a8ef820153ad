"""Where the record of an async item's end is written."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from django_qbwi.core.ports import NullEnvironment
from django_qbwi.executors.loop_slots import ItemExecutors

PATIENCE = 30


class Records:
    """Executors of a process that ends, or not, and the threads that wrote a record."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.executors = ItemExecutors(NullEnvironment(), self.closed.is_set)
        self.gate = threading.Event()
        self.threads: list[str] = []

    def record(self) -> None:
        self.threads.append(threading.current_thread().name)

    def write(self) -> None:
        asyncio.run(self.executors.write(self.record))

    def block(self) -> None:
        """Have a handler block in the thread for records."""
        begun = threading.Event()
        self.executors.records.submit(lambda: begun.set() or self.gate.wait(PATIENCE))
        assert begun.wait(PATIENCE)


@pytest.fixture
def records() -> Iterator[Records]:
    """Records whose thread ends with the test."""
    records = Records()
    yield records
    records.gate.set()
    records.executors.records.retire()
    assert records.executors.records.join(PATIENCE)


@pytest.mark.parametrize("closed", [False, True])
def test_written_in_the_thread_for_records(records: Records, closed: bool) -> None:
    """Also while the process ends, as long as that thread keeps up."""
    if closed:
        records.closed.set()
    records.write()
    assert records.threads == ["qbwi-records"]


def test_written_once_where_the_thread_is_behind_at_the_end(records: Records) -> None:
    """Nothing else may stand between the process and its last records: it is written on the loop, and only there."""
    records.closed.set()
    records.block()
    records.write()
    records.gate.set()
    records.executors.records.submit(records.record).result(PATIENCE)
    assert records.threads == [threading.current_thread().name, "qbwi-records"]


def test_waits_for_the_thread_before_the_end(records: Records) -> None:
    """The waiters of an item wake behind its record."""
    records.block()

    async def item() -> None:
        writing = asyncio.ensure_future(records.executors.write(records.record))
        await asyncio.sleep(0)
        assert records.threads == []
        # A native cancel does not cut it off either.
        writing.cancel()
        records.gate.set()
        await writing

    asyncio.run(item())
    assert records.threads == ["qbwi-records"]


def test_written_here_where_no_thread_can_be_had(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the exit of the interpreter, for instance."""

    def refuse(*args: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(records.executors.records, "submit", refuse)
    records.write()
    assert records.threads == [threading.current_thread().name]
