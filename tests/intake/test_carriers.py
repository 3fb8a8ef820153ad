"""QBWI["CONTEXT"]: what else of the caller's context an item gets, by name and never by copying the context."""

import asyncio
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import transaction
from django.test import RequestFactory, override_settings

from django_qbwi import (
    CancellationToken,
    WorkItemStatus,
    background_work_item,
    copies_request,
    queue_background_work_item,
    queue_on_commit,
)
from django_qbwi.testing import captured_work_items
from tests.intake.carriers import log, tenant

PATIENCE = 30
HERE = "tests.intake.carriers"


@pytest.fixture
def a_tenant() -> Iterator[None]:
    """Set a tenant in the caller's context."""
    log.clear()
    token = tenant.set("acme")
    yield
    tenant.reset(token)


def run(item: Any, *args: Any) -> Any:
    """Queue an item, wait for it and return its handle."""
    handle = queue_background_work_item(item, *args)
    assert handle.wait(PATIENCE)
    return handle


@pytest.mark.parametrize("path", [f"{HERE}.TenantCarrier", f"{HERE}.an_object"])
def test_sync_item(path: str, a_tenant: None) -> None:
    """What was captured in the caller's thread is restored in the item's, and left there."""
    seen: list[Any] = []
    with override_settings(QBWI={"CONTEXT": [path]}):
        handle = run(lambda token: seen.append((tenant.get(), threading.get_ident())))
    assert handle.status is WorkItemStatus.SUCCEEDED
    (value, worker) = seen[0]
    here = threading.get_ident()
    assert (value, worker != here) == ("acme", True)
    assert log == [("capture", "acme", here), ("enter", "acme", worker), ("leave", "acme", worker)]


def test_async_item(a_tenant: None) -> None:
    """In an async item it is there on the loop and in `sync_to_async`; it is entered once."""
    seen: list[Any] = []

    async def item(token: CancellationToken) -> None:
        seen.append(tenant.get())
        seen.append(await sync_to_async(tenant.get)())

    with override_settings(QBWI={"CONTEXT": [f"{HERE}.TenantCarrier"]}):
        run(item)
    assert seen == ["acme", "acme"]
    assert [event for event, *_ in log] == ["capture", "enter", "leave"]


def test_item_that_returns_an_awaitable(a_tenant: None) -> None:
    """Around a call that returns an awaitable it is entered twice, each time in the thread that runs it."""
    seen: list[Any] = []

    async def later() -> None:
        seen.append((tenant.get(), threading.get_ident()))

    def item(token: CancellationToken) -> Any:
        seen.append((tenant.get(), threading.get_ident()))
        return later()

    with override_settings(QBWI={"CONTEXT": [f"{HERE}.TenantCarrier"]}):
        run(item)
    assert [value for value, _ in seen] == ["acme", "acme"]
    assert [(event, ident) for event, _, ident in log[1:]] == [
        (event, ident) for _, ident in seen for event in ("enter", "leave")
    ]


def test_without_a_carrier_nothing_flows(a_tenant: None) -> None:
    """Without a carrier an item's context is empty."""
    seen: list[Any] = []
    run(lambda token: seen.append(tenant.get()))
    assert seen == [None]


def test_nothing_to_capture() -> None:
    """None means nothing: the item is not surrounded by anything."""
    log.clear()
    with override_settings(QBWI={"CONTEXT": [f"{HERE}.TenantCarrier"]}), captured_work_items() as captured:
        queue_background_work_item(print)
    assert (captured[0].work_item, [event for event, *_ in log]) == (print, ["capture"])


def test_together_with_a_copied_request(a_tenant: None) -> None:
    """Carriers and `copies_request` go together, by position and by keyword; name and origin stay."""
    seen: list[Any] = []

    @background_work_item
    @copies_request
    def item(token: CancellationToken, visit: Any) -> None:
        seen.append((tenant.get(), visit.path))

    with override_settings(QBWI={"CONTEXT": [f"{HERE}.TenantCarrier"]}):
        handles = [item.queue(RequestFactory().get("/a/")), item.queue(visit=RequestFactory().get("/b/"))]
        assert all(handle.wait(PATIENCE) for handle in handles)
    assert sorted(seen) == [("acme", "/a/"), ("acme", "/b/")]
    assert [handle.info.origin for handle in handles] == ["GET /a/", "GET /b/"]
    assert handles[0].name.endswith(".item")


def test_captured_before_the_commit(a_tenant: None, transactional_db: None) -> None:
    """For `queue_on_commit` it is captured at the call, and what is captured later is not seen."""
    seen: list[Any] = []
    with override_settings(QBWI={"CONTEXT": [f"{HERE}.TenantCarrier"]}), captured_work_items() as captured:
        with transaction.atomic():
            queue_on_commit(lambda token: seen.append(tenant.get()))
            tenant.set("another")
        captured.run_all()
    assert seen == ["acme"]


def test_capture_that_fails() -> None:
    """A carrier that fails in the caller reaches the caller: no item runs for the wrong tenant."""
    with override_settings(QBWI={"CONTEXT": [f"{HERE}.BrokenCapture"]}), captured_work_items() as captured:
        with pytest.raises(LookupError, match="no tenant"):
            queue_background_work_item(print)
        assert captured == []


@pytest.mark.parametrize("is_async", [False, True])
def test_restore_that_fails(is_async: bool) -> None:
    """A carrier that fails in the item fails the item, whose first line does not run."""
    ran: list[int] = []

    async def on_loop(token: CancellationToken) -> None:
        ran.append(1)

    with override_settings(QBWI={"CONTEXT": [f"{HERE}.BrokenRestore"]}):
        handle = run(on_loop if is_async else lambda token: ran.append(1))
    assert (handle.status, ran) == (WorkItemStatus.FAILED, [])
    assert "tenant is gone" in handle.info.error.message


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        (f"{HERE}.NoCarrier", "has no capture"),
        (f"{HERE}.Missing", "cannot be loaded"),
        ("no_such_module.Carrier", "No module named"),
        (f"{HERE.rpartition('.')[0]}.broken_module", "No module named 'no_such_module'"),
        (HERE, "Carrier"),
    ],
)
def test_path_that_is_no_carrier(path: str, problem: str) -> None:
    """A path that leads to no carrier is an error of the system checks, and at the first queueing."""
    with override_settings(QBWI={"CONTEXT": [path]}):
        with pytest.raises(ImproperlyConfigured, match=problem):
            queue_background_work_item(print)
        with pytest.raises(SystemCheckError, match=problem):
            call_command("check")


@pytest.mark.parametrize("value", ["a.path", [5], None])
def test_wrong_setting(value: Any) -> None:
    """CONTEXT is a list of dotted paths, REQUEST_CAPTURE one of three words."""
    with override_settings(QBWI={"CONTEXT": value}), pytest.raises(ImproperlyConfigured, match="dotted paths"):
        queue_background_work_item(print)
    with override_settings(QBWI={"REQUEST_CAPTURE": value}), pytest.raises(ImproperlyConfigured, match='"warn"'):
        queue_background_work_item(print)


# structlog


@pytest.fixture
def structlog() -> Iterator[Any]:
    """Return structlog with two variables bound, one of which is on the allow-list."""
    structlog = pytest.importorskip("structlog")
    with structlog.contextvars.bound_contextvars(request_id="r-1", user="ada"):
        yield structlog


@pytest.mark.parametrize("is_async", [False, True])
def test_structlog(structlog: Any, is_async: bool) -> None:
    """Only what is on the allow-list is bound in the item."""
    seen: list[Any] = []

    async def on_loop(token: CancellationToken) -> None:
        seen.append(await sync_to_async(structlog.contextvars.get_contextvars)())

    def in_thread(token: CancellationToken) -> None:
        seen.append(structlog.contextvars.get_contextvars())

    with override_settings(QBWI={"CONTEXT": ["django_qbwi.contrib.structlog"]}):
        run(on_loop if is_async else in_thread)
    assert seen == [{"request_id": "r-1"}]


class Ids(logging.Filter):
    """Adds the request's id to records, as a project's own filter does."""

    def filter(self, record: logging.LogRecord) -> bool:
        import structlog

        record.request_id = structlog.contextvars.get_contextvars().get("request_id")
        return True


@pytest.mark.parametrize("shape", ["sync", "async", "both"])
@pytest.mark.parametrize("fails", [False, True])
def test_g50_record_of_the_end_has_the_ids(structlog: Any, shape: str, fails: bool, caplog: Any) -> None:
    """It is written in the context that the carriers had restored around the item's code, and that is let go of."""

    def in_thread(token: CancellationToken) -> None:
        if fails:
            raise ValueError("no such album")

    async def on_loop(token: CancellationToken) -> None:
        in_thread(token)

    ids = Ids()
    caplog.handler.addFilter(ids)
    with (
        caplog.at_level("INFO", "django_qbwi.scheduler"),
        override_settings(QBWI={"CONTEXT": ["django_qbwi.contrib.structlog"]}),
    ):
        handle = run({"sync": in_thread, "async": on_loop, "both": lambda token: on_loop(token)}[shape])
    caplog.handler.removeFilter(ids)
    [record] = [record for record in caplog.records if f"id={handle.id}" in record.getMessage()]
    assert (record.request_id, record.levelname) == ("r-1", "ERROR" if fails else "INFO")


def test_structlog_with_other_names(structlog: Any) -> None:
    """Another allow-list is a class with other names."""
    from django_qbwi.contrib.structlog import StructlogCarrier

    class Carrier(StructlogCarrier):
        names = ("user", "absent")

    assert Carrier().capture() == {"user": "ada"}
    structlog.contextvars.clear_contextvars()
    assert Carrier().capture() is None


def test_all_carriers_run_on_any_loop(a_tenant: None) -> None:
    """A handle of a surrounded item can be awaited."""

    async def view() -> Any:
        return await queue_background_work_item(lambda token: None)

    with override_settings(QBWI={"CONTEXT": [f"{HERE}.TenantCarrier"]}):
        assert asyncio.run(view()).status is WorkItemStatus.SUCCEEDED
