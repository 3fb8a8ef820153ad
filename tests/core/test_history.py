"""G13: the history of ended items holds text; an exception lives as long as somebody keeps its handle."""

import gc
import weakref
from collections.abc import Callable

import pytest

from django_qbwi.core.failures import traceback_of, without_frames
from django_qbwi.core.items import WorkItemHandle, WorkItemStatus
from tests.support.manual import ManualRuntime


class Heavy(ValueError):
    """Stands for an exception with a document of 2 MB."""


def failed(manual: ManualRuntime) -> tuple[WorkItemHandle, "weakref.ref[Heavy]"]:
    """Have an item end by an exception, and return its handle and a reference to what it raised."""
    handle = manual.handle()
    item = manual.sync.start()
    assert item is not None
    error = Heavy("a document")
    manual.sync.finish(item, error)
    return handle, weakref.ref(error)


def test_g13_history_keeps_no_exception(manual: ManualRuntime) -> None:
    """It is gone with the handle; the history still says what it was, under the same id."""
    handle, error = failed(manual)
    assert handle.exception() is error()
    public_id = handle.id
    del handle
    manual.observer.events.clear()
    gc.collect()
    assert error() is None
    [info] = [item.info() for item in manual.scheduler.finished_items()]
    assert (info.id, info.status) == (public_id, WorkItemStatus.FAILED)
    assert info.error is not None
    assert (info.error.type, info.error.message) == ("tests.core.test_history.Heavy", "a document")


def raised(error: BaseException) -> BaseException:
    """Return it with a traceback."""
    try:
        raise error
    except BaseException as caught:
        return caught


def in_arguments(inner: BaseException) -> BaseException:
    """Hold it as an argument, as `MaxRetryError` does."""
    return Heavy("after", inner)


def in_an_attribute(inner: BaseException) -> BaseException:
    """Hold it as an attribute."""
    error = Heavy("after")
    error.reason = inner  # type: ignore[attr-defined]
    return error


def in_a_list(inner: BaseException) -> BaseException:
    """Hold it in a list of causes."""
    return Heavy("after", [inner])


def twice(inner: BaseException) -> BaseException:
    """Hold it at a greater depth."""
    return in_arguments(raised(in_an_attribute(inner)))


@pytest.mark.parametrize("hold", [in_arguments, in_an_attribute, in_a_list, twice])
def test_g13_exceptions_that_hold_exceptions_keep_no_frames(hold: Callable[[BaseException], BaseException]) -> None:
    """The frames go at any depth."""
    inner = raised(KeyError("before"))
    assert traceback_of(inner) is not None
    without_frames(raised(hold(inner)))
    assert traceback_of(inner) is None
