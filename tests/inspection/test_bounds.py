"""Whatever an item is called, raises or stands in: what leaves its process is bounded where it is made."""

import json
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from django_qbwi.core.records import WorkItemError, WorkItemInfo
from django_qbwi.inspection.publisher import Publisher
from django_qbwi.inspection.records import ProcessRecord
from django_qbwi.inspection.subject import own_frames
from tests.inspection.conftest import PATIENCE, SITE, Inspection

HUGE = 9_000_000


class Text(str):
    """A text whose slices are something else."""

    def __getitem__(self, key: Any) -> Any:
        return self


class HugeText(Exception):
    """One that says more than anybody wants to read."""

    def __str__(self) -> str:
        return Text("x" * HUGE)


def of_huge_class() -> Exception:
    """Return an exception of a class with a huge name."""
    return type("E" * HUGE, (Exception,), {})("message")


def of_huge_module() -> Exception:
    """Return an exception of a class from a huge module."""
    return type("E", (Exception,), {"__module__": "m" * HUGE})("message")


def of_strange_module() -> Exception:
    """Return an exception of a class whose module is no text."""
    return type("E", (Exception,), {"__module__": ["m" * HUGE]})("message")


def chained() -> Exception:
    """Return exceptions that were raised from one another."""
    error: Exception = of_huge_class()
    for _ in range(3):
        cause, error = error, ValueError("y" * 100_000)
        error.__cause__ = cause
    return error


def grouped() -> Exception:
    """Return a group of large ones."""
    return ExceptionGroup("g" * HUGE, [ValueError("z" * 100_000), of_huge_class()])


def noted() -> Exception:
    """Return one with a huge note."""
    error = ValueError("message")
    error.add_note("n" * HUGE)
    return error


@pytest.mark.parametrize(
    "make",
    [
        of_huge_class,
        of_huge_module,
        of_strange_module,
        HugeText,
        chained,
        grouped,
        noted,
        lambda: ValueError("x" * HUGE),
    ],
)
def test_g14_process_with_a_huge_failure_can_be_inspected(
    inspection: Inspection, make: Callable[[], Exception]
) -> None:
    """Its answer is short, can be read, and says where the failure came from."""

    def fail(token: Any) -> None:
        raise make()

    handle = inspection.queue(fail)
    assert handle.wait(PATIENCE)
    answer = inspection.subject.overview()
    assert len(json.dumps(answer)) < 10_000
    (item,) = ProcessRecord.from_dict(answer).recent
    found = inspection.subject.find(handle.id)
    assert found is not None
    assert (item["status"], len(json.dumps(found)) < 50_000) == ("failed", True)
    error = found["item"]["error"]
    assert (len(error["type"]) <= 500, len(error["message"]) <= 2_000) == (True, True)


def test_g14_traceback_keeps_its_frames() -> None:
    """A huge last line is cut itself, and does not push out what stands above it."""
    try:
        raise of_huge_class()
    except Exception as error:
        described = WorkItemError.of(error)
    assert "in test_g14_traceback_keeps_its_frames" in described.traceback
    assert len(described.traceback) < 5_000


@pytest.mark.parametrize("field", ["origin", "request_id", "thread"])
def test_g14_labels_are_bounded(inspection: Inspection, field: str) -> None:
    """What a client of the site, or a library, has given."""
    info = inspection.queue(lambda token: None).info
    values = {name: getattr(info, name) for name in WorkItemInfo.__slots__}
    assert len(WorkItemInfo(**{**values, field: "x" * HUGE}).to_dict()[field]) <= 2_000


@pytest.mark.parametrize("stack", ["x" * HUGE, "  File\n" * 1_000_000, f"  File x\n    {'y' * HUGE}\n"])
def test_g14_stacks_are_bounded(stack: str) -> None:
    """A line of code, and a recursion, may have any length."""
    assert 0 < len(own_frames(stack)) <= 100_000


def test_g14_thread_with_a_huge_name_is_shown(inspection: Inspection, listener: Publisher) -> None:
    """An item that renames its thread cannot hide its process."""

    def rename(token: Any) -> None:
        threading.current_thread().name = "t" * HUGE
        inspection.hold(token)

    inspection.queue(rename)
    assert inspection.entered.acquire(timeout=PATIENCE)
    assert len(json.dumps(inspection.subject.overview())) < 5_000
    assert listener.address is not None
    assert (listener.address.pid, listener.address.site) == (os.getpid(), SITE.name)
