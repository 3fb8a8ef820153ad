"""What a process says of itself survives the wire, and nothing else does."""

import functools
import json
import math
from typing import Any

import pytest

from django_qbwi.core.exceptions import ProcessUnreachable
from django_qbwi.inspection.records import ProcessRecord, item_from_dict
from tests.inspection.conftest import Inspection


def failing(token: Any) -> None:
    """Fail, with a local that nobody may see."""
    password = "a secret local"
    raise ValueError(f"no {len(password)}")


@pytest.fixture
def described(inspection: Inspection) -> dict[str, Any]:
    """Return the description of a process with a running, a queued and a failed item."""
    assert inspection.queue(failing).wait(30)
    inspection.queue_held()
    inspection.queue(inspection.hold)
    return inspection.subject.overview()


def test_record_survives_json(described: dict[str, Any]) -> None:
    """A record is the same after a way through JSON."""
    wire = json.loads(json.dumps(described))
    assert ProcessRecord.from_dict(wire).to_dict() == described


def test_unknown_fields_are_dropped(described: dict[str, Any]) -> None:
    """S10: only listed fields are taken over, of a process and of an item."""
    described["secret"] = described["items"][0]["secret"] = described["recent"][0]["error"]["secret"] = "x"
    assert "secret" not in json.dumps(ProcessRecord.from_dict(described).to_dict())


@pytest.mark.parametrize("value", [None, [], "text", 1, {}])
def test_anything_else_is_no_record(value: Any) -> None:
    """What is not an object with all fields is refused."""
    with pytest.raises(ProcessUnreachable):
        ProcessRecord.from_dict(value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pid", "1"),
        ("running", None),
        ("items", {}),
        ("items", [None]),
        ("limits", {"max_workers": "4"}),
        ("pools", []),
        ("pools", {"mail": None}),
        ("truncated", 0),
        ("state", 1),
    ],
)
def test_wrong_type_is_refused(described: dict[str, Any], field: str, value: Any) -> None:
    """A field of the wrong type makes the whole answer invalid."""
    described[field] = value
    with pytest.raises(ProcessUnreachable):
        ProcessRecord.from_dict(described)


DEEP = functools.reduce(lambda inner, _: [inner], range(40), [])
NESTED = functools.reduce(lambda inner, _: {"a": inner}, range(40), {"a": 1})
STRANGE = [
    *(
        ("started_at", value)
        for value in ("2026-01-01T00:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31", "x", "", 1)
    ),
    *((name, value) for name in ("remaining", "running", "pid") for value in (math.nan, math.inf, 10**400, True, DEEP)),
    *(
        ("limits", value)
        for value in (NESTED, {"max_workers": math.nan}, {"a": 10**4000}, dict.fromkeys("ab" * 99, DEEP))
    ),
    *(("pools", value) for value in (NESTED, {"mail": {"running": 1}}, {str(number): {} for number in range(1001)})),
    *((name, NESTED) for name in ("host", "state", "items", "recent", "truncated", "server", "queued")),
    ("running", -1),
    ("host", None),
]


@pytest.mark.parametrize(("field", "value"), STRANGE)
def test_g35_what_nobody_could_compute_with_is_refused(described: dict[str, Any], field: str, value: Any) -> None:
    """Naive times, numbers that are none, values of any depth: the whole record is no record."""
    with pytest.raises(ProcessUnreachable):
        ProcessRecord.from_dict({**described, field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("queued_at", "2026-01-01T00:00:00"),
        ("started_at", "2026-01-01"),
        ("finished_at", DEEP),
        ("timeout", math.nan),
        ("overdue", "no"),
        ("error", DEEP),
        ("error", NESTED),
        ("origin", 1),
        ("pid", 1.5),
        ("pool", 5),
    ],
)
def test_g35_items_are_validated_as_well(described: dict[str, Any], field: str, value: Any) -> None:
    """Of running, waiting and ended ones."""
    with pytest.raises(ProcessUnreachable):
        ProcessRecord.from_dict({**described, "recent": [{**described["recent"][0], field: value}]})


REPORT = {"done": 1, "total": 2.5, "text": "a", "at": "2026-01-01T00:00:00+00:00"}


def test_progress_survives_json(described: dict[str, Any]) -> None:
    """Field by field, with its time in UTC and its text within bounds."""
    for report in (REPORT, {**REPORT, "total": None}, None):
        assert item_from_dict({**described["items"][0], "progress": report})["progress"] == report
    sent = {**REPORT, "text": "x\ud800" * 500, "at": "2026-01-01T02:00:00+02:00", "secret": "x"}
    found = item_from_dict({**described["items"][0], "progress": sent})["progress"]
    assert found == {**REPORT, "text": "x?" * 100}


def test_pools_survive_json(described: dict[str, Any]) -> None:
    """Count by count, and nothing else of them; a version that does not know of pools has none."""
    names = ("running", "running_async", "queued", "max_workers", "max_async_in_flight", "max_queued")
    counts = dict(zip(names, range(6), strict=True))
    record = ProcessRecord.from_dict({**described, "pools": {"mail": {**counts, "secret": "x"}}})
    assert record.pools == {"mail": counts}
    del described["pools"], described["items"][0]["pool"]
    record = ProcessRecord.from_dict(described)
    assert (record.pools, record.items[0]["pool"]) == ({}, "default")


def test_progress_of_an_older_version_is_missing(described: dict[str, Any]) -> None:
    """A process that runs the version before does not say it, and is read all the same."""
    for item in (*described["items"], *described["recent"]):
        del item["progress"]
    record = ProcessRecord.from_dict(json.loads(json.dumps(described)))
    assert [item["progress"] for item in (*record.items, *record.recent)] == [None] * 3


@pytest.mark.parametrize(
    "report",
    [
        *(REPORT | {"done": value} for value in (None, -1, math.nan, math.inf, 10**400, True, "1", DEEP)),
        *(REPORT | {"total": value} for value in (-1, math.nan, 10**400, False, "1", DEEP)),
        *(REPORT | {"at": value} for value in (None, "2026-01-01T00:00:00", "x", 1, "0001-01-01T00:00:00+14:00")),
        *(REPORT | {"text": value} for value in (None, 1, DEEP)),
        *({}, [], "50 %", 0.5, NESTED, True),
    ],
)
def test_wrong_progress_is_refused(described: dict[str, Any], report: Any) -> None:
    """Whoever gets it may compute with it."""
    with pytest.raises(ProcessUnreachable):
        item_from_dict({**described["items"][0], "progress": report})


def test_g35_what_is_taken_is_within_bounds(described: dict[str, Any]) -> None:
    """Times are in UTC, texts are cut, and can be written everywhere."""
    item = {**described["items"][0], "name": "x\ud800" * 500, "queued_at": "2026-01-01T02:00:00+02:00"}
    record = ProcessRecord.from_dict({**described, "items": [item], "host": "h" * 10_000})
    assert (len(record.host), len(record.items[0]["name"])) == (255, 200)
    assert record.items[0]["name"].encode().startswith(b"x?x?")
    assert record.items[0]["queued_at"] == "2026-01-01T00:00:00+00:00"


def test_item_with_wrong_error_is_refused(described: dict[str, Any]) -> None:
    """The error of an item is looked at as well."""
    item = described["recent"][0]
    item["error"] = {"type": 1}
    with pytest.raises(ProcessUnreachable):
        item_from_dict(item)


def test_traceback_has_no_locals(described: dict[str, Any]) -> None:
    """S8: a failure is described without the values of its frames."""
    text = json.dumps(described)
    assert "ValueError" in text
    assert "a secret local" not in text.replace('password = \\"a secret local\\"', "")
