"""Labels of items: given at the call and by the decorator, shown and searched wherever an item is."""

from __future__ import annotations

import datetime
import decimal
import enum
import io
import json
import logging
import pickle
import types
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import transaction
from django.template.loader import render_to_string
from django.test import override_settings
from django.utils.functional import lazystr
from django.utils.safestring import mark_safe

from django_qbwi import (
    InvalidWorkItem,
    background_work_item,
    hosting,
    queue_background_work_item,
    queue_on_commit,
    recent_items,
)
from django_qbwi.console import dashboard
from django_qbwi.console.labels import has_label, texts
from django_qbwi.inspection.records import item_from_dict
from django_qbwi.intake.labels import checked_labels, of_mapping
from django_qbwi.logs import WorkItemFilter
from django_qbwi.signals import work_item_finished
from django_qbwi.testing import captured_work_items, immediate_work_items
from tests.support.gates import PATIENCE


def item(token: Any, *args: Any) -> None:
    """Do nothing."""


@background_work_item(labels={"kind": "report", "order": 0})
def labelled(token: Any) -> None:
    """Do nothing, with labels."""


@pytest.fixture(autouse=True)
def own_settings() -> Iterator[None]:
    """Give each test a scheduler of its own."""
    with override_settings(QBWI={}):
        yield


# Where they are given.


def test_label_of_a_call() -> None:
    """It is in the info of the item, and in its JSON."""
    handle = queue_background_work_item(item, 1, labels={"order": 42, "tenant": "acme"})
    assert handle.info.labels == {"order": 42, "tenant": "acme"}
    assert json.loads(json.dumps(handle.info.to_dict()))["labels"] == {"order": 42, "tenant": "acme"}
    assert handle.wait(PATIENCE)
    assert handle.info.labels == {"order": 42, "tenant": "acme"}


def test_item_without_labels() -> None:
    """It has none, shares its options with all other such items, and its info can be hashed and pickled."""
    first, second = queue_background_work_item(item), queue_background_work_item(item)
    assert first.info.labels == {}
    assert first._item.options is second._item.options
    assert pickle.loads(pickle.dumps(first.info)).labels == {}
    assert hash(queue_background_work_item(item, labels={"order": 1}).info)


def test_labels_of_the_decorator_and_of_a_call() -> None:
    """Those of `using` come to those of the decorator, and replace the ones of the same name."""
    assert labelled.queue().info.labels == {"kind": "report", "order": 0}
    assert labelled.using(labels={"order": 42, "at": "noon"}).queue().info.labels == {
        "kind": "report",
        "order": 42,
        "at": "noon",
    }
    assert labelled.using(name="other").queue().info.labels == {"kind": "report", "order": 0}
    assert queue_background_work_item(labelled, labels={"order": 1}).info.labels == {"kind": "report", "order": 1}


def test_labels_of_a_method() -> None:
    """They are those of its decorator."""

    class Album:
        @background_work_item(labels={"kind": "album"})
        def publish(self, token: Any) -> None:
            """Do nothing."""

    assert Album().publish.using(labels={"pk": 7}).queue().info.labels == {"kind": "album", "pk": 7}


@pytest.mark.django_db(transaction=True)
def test_labels_on_commit() -> None:
    """They are checked at the call, and there after the commit."""
    seen: list[Any] = []

    def note(info: Any, **kwargs: Any) -> None:
        seen.append(info.labels)

    work_item_finished.connect(note)
    try:
        with transaction.atomic():
            queue_on_commit(item, labels={"order": 1})
            labelled.queue_on_commit()
            with pytest.raises(InvalidWorkItem, match="labels has the name"):
                queue_on_commit(item, labels={"": 1})
        assert hosting.scheduler().wait_until_empty(PATIENCE)
    finally:
        work_item_finished.disconnect(note)
    assert sorted(seen, key=len) == [{"order": 1}, {"kind": "report", "order": 0}]


def test_labels_are_copied() -> None:
    """What happens to the dict after the call changes nothing, nor what happens to that of an info."""
    labels = {"order": 1}
    handle = queue_background_work_item(item, labels=labels)
    labels["order"] = 2
    handle.info.labels["order"] = 3
    assert handle.info.labels == {"order": 1}


def test_failed_item_keeps_them() -> None:
    """Also in the list of those that ended last, which keeps a copy."""

    def fail(token: Any) -> None:
        raise ValueError

    handle = queue_background_work_item(fail, labels={"order": 9})
    assert hosting.scheduler().wait_until_empty(PATIENCE)
    assert [info.labels for info in recent_items() if info.id == handle.id] == [{"order": 9}]


def test_labels_in_tests() -> None:
    """Items that are captured, or run at the call, have them."""
    with captured_work_items() as captured:
        handle = labelled.using(labels={"order": 1}).queue()
    assert captured[0].handle.info.labels == handle.info.labels == {"kind": "report", "order": 1}
    captured[0].discard()
    with immediate_work_items():
        assert queue_background_work_item(item, labels={"order": 1}).info.labels == {"order": 1}
    with override_settings(QBWI={"IMMEDIATE": True}):
        assert queue_background_work_item(item, labels={"order": 1}).info.labels == {"order": 1}


# What they may be.


class Colour(enum.StrEnum):
    """A choice, as models have them."""

    RED = "red"


class Size(enum.IntEnum):
    """Another one."""

    LARGE = 3


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ("spring", "spring"),
        (mark_safe("<b>"), "<b>"),
        (Colour.RED, "red"),
        (Size.LARGE, 3),
        (True, True),
        (None, None),
        (1.5, 1.5),
        (2**63 - 1, 2**63 - 1),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (datetime.date(2026, 1, 5), "2026-01-05"),
        (datetime.datetime(2026, 1, 5, tzinfo=datetime.UTC), "2026-01-05T00:00:00+00:00"),
        (decimal.Decimal("1.50"), "1.50"),
        ("a\x1b[31m\nb", "a?[31m?b"),
        ("x" * 100, "x" * 100),
    ],
)
def test_plain_values(value: Any, plain: Any) -> None:
    """A subclass counts as what it is made of; what JSON does not know becomes its text, without control characters."""
    ((name, found),) = checked_labels(types.MappingProxyType({"order.total-2": value}))
    assert (name, found, type(found)) == ("order.total-2", plain, type(plain))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([("order", 1)], r"labels is \[\('order', 1\)\]: give a dict, as in labels=\{\"order\": 42\}"),
        ({str(number): 1 for number in range(9)}, "labels has 9 entries: give at most 8"),
        ({1: 2}, "labels has the name 1: give one of at most 50 letters"),
        ({"a=b": 2}, "labels has the name 'a=b'"),
        ({"": 2}, "labels has the name ''"),
        ({"x" * 51: 2}, "labels has the name 'xxx"),
        ({"order": ["a"]}, r"labels\['order'\] is a builtins.list: give a str, an int"),
        ({"order": lazystr("late")}, r"labels\['order'\] is a .*: give a str"),
        ({"order": b"x"}, r"labels\['order'\] is a builtins.bytes"),
        ({"order": "x" * 101}, r"labels\['order'\] is 'xxx.*'\.\.\., of 101 characters: give at most 100"),
        ({"order": 10**5000}, r"labels\['order'\] is an int of 16610 bits: give a finite number"),
        ({"order": float("nan")}, r"labels\['order'\] is inf: give a finite number"),
        ({"order": float("-inf")}, r"labels\['order'\] is -inf: give a finite number"),
    ],
)
def test_bad_labels(labels: Any, message: str) -> None:
    """They are refused where they are given, with the value and the cure, and nothing is queued."""
    for give in (
        lambda: queue_background_work_item(item, labels=labels),
        lambda: background_work_item(labels=labels)(item),
        lambda: labelled.using(labels=labels),
    ):
        with pytest.raises(InvalidWorkItem, match=message):
            give()
    assert hosting.scheduler().queued_count == 0


def test_too_many_together() -> None:
    """Those of the decorator count."""
    with pytest.raises(InvalidWorkItem, match="labels has 9 entries"):
        labelled.using(labels={f"l{number}": 1 for number in range(7)})


@pytest.mark.parametrize("told", [{"": 1}, {"order": []}, {"order": {}}, [1]])
def test_labels_that_came_back_wrong(told: Any) -> None:
    """What an engine has stored of another version is left out, and keeps no item from its run."""
    assert of_mapping(told) == ()
    assert of_mapping({"order": 1}) == (("order", 1),)


# Where they are seen.


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("order=42", True),
        ("order=4", False),
        ("ORDER=42", False),
        ("acm", True),
        ("TENANT", True),
        ("paid=true", True),
        ("late=null", True),
        ("7", False),
    ],
)
def test_search(wanted: str, found: bool) -> None:
    """A whole label by `name=value`; any other text in names and values."""
    labels = {"order": 42, "tenant": "Acme", "paid": True, "late": None}
    assert has_label({"labels": labels}, wanted) is found
    assert texts(labels) == ["order=42", "tenant=Acme", "paid=true", "late=null"]


def test_labels_of_another_process() -> None:
    """They are read within bounds; another version may have none."""
    known = queue_background_work_item(item, labels={"order": 42, "paid": True, "late": None, "of": 0.5}).info.to_dict()
    assert item_from_dict(known)["labels"] == {"order": 42, "paid": True, "late": None, "of": 0.5}
    del known["labels"]
    assert item_from_dict(known)["labels"] == {}
    for wrong in ([], {"order": []}, {"order": float("inf")}, {str(number): 1 for number in range(101)}):
        with pytest.raises(Exception, match="a process answered with"):
            item_from_dict({**known, "labels": wrong})


def run(*arguments: str) -> str:
    """Run the command and return what it printed."""
    output = io.StringIO()
    call_command("qbwi", *arguments, stdout=output, no_color=True)
    return output.getvalue()


def test_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list shows and filters by them; `show` has them in a line."""
    monkeypatch.setenv("COLUMNS", "300")
    first = queue_background_work_item(item, delay=3600, labels={"order": 42, "tenant": "acme"})
    second = queue_background_work_item(item, delay=3600, labels={"order": 43, "tenant": "acme"})
    try:
        assert "order=42, tenant=acme" in run()
        found = json.loads(run("--label", "order=42", "--format=json"))
        assert [entry["id"] for process in found["processes"] for entry in process["items"]] == [first.id]
        both = run("list", "--label=acme", "--label=order")
        assert first.id in both
        assert second.id in both
        assert first.id not in run("--label=acme", "--label=order=43")
        assert "  labels        order=42, tenant=acme\n" in run("show", first.id)
    finally:
        assert first.cancel()
        assert second.cancel()


def test_page_filter() -> None:
    """The page has the filter in its address, and the labels in the row of an item."""
    handle = queue_background_work_item(item, labels={"order": 42})
    filters = dashboard.Filters.of({"label": " order=42 "})
    assert filters.active == {"label": "order=42"}
    assert filters.accept(handle.info.to_dict())
    assert not dashboard.Filters.of({"label": "order=4"}).accept(handle.info.to_dict())
    row = dashboard.ItemRow.of(handle.info.to_dict(), datetime.datetime.now(tz=datetime.UTC))
    assert row.labels == ["order=42"]
    shown = render_to_string("admin/django_qbwi/workitem/labels.html", {"labels": ["a=<b>"]})
    assert '<bdi class="qbwi-label">a=&lt;b&gt;</bdi>' in shown


# On the records of the log.


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """Return what a logger of the site has written, each record with its item."""
    found: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = found.append  # type: ignore[method-assign]
    handler.addFilter(WorkItemFilter())
    loggers = [logging.getLogger("tests.labels"), logging.getLogger("django_qbwi.scheduler")]
    for logger in loggers:
        logger.addHandler(handler)
    yield found
    for logger in loggers:
        logger.removeHandler(handler)


def test_records_of_an_item(records: list[logging.LogRecord]) -> None:
    """Each has the id, the name, the request id and the labels of the item that runs, its last one too."""

    def write(token: Any) -> None:
        logging.getLogger("tests.labels").warning("inside")
        raise ValueError

    handle = queue_background_work_item(write, name="writer", labels={"order": 42, "tenant": "acme"})
    assert handle.wait(PATIENCE)
    assert [record.getMessage()[:9] for record in records] == ["inside", "Work item"]
    for record in records:
        assert record.work_item_id == handle.id  # type: ignore[attr-defined]
        assert record.work_item_name == "writer"  # type: ignore[attr-defined]
        assert record.work_item_labels == {"order": 42, "tenant": "acme"}  # type: ignore[attr-defined]
        assert record.request_id == "-"  # type: ignore[attr-defined]
    formatter = logging.Formatter("%(work_item_name)s %(work_item_labels)s %(message)s")
    assert formatter.format(records[0]) == "writer order=42 tenant=acme inside"


def test_records_outside_of_an_item(records: list[logging.LogRecord]) -> None:
    """There is nothing but what others have put there; a record about an item has that one."""
    logging.getLogger("tests.labels").warning("outside", extra={"request_id": "r1"})
    logging.getLogger("tests.labels").warning("of it", extra={"qbwi": {"id": "1", "name": "n", "request_id": "r2"}})
    logging.getLogger("tests.labels").warning("other", extra={"qbwi": 7})
    shown = "%(work_item_id)s %(work_item_name)s %(work_item_labels)s %(request_id)s"
    formatter = logging.Formatter(shown)
    assert [formatter.format(record) for record in records] == ["- - - r1", "1 n - r2", "- - - -"]
