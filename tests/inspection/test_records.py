"""What a process says of itself survives the wire, and nothing else does."""

import json
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
        ("truncated", 0),
        ("state", 1),
    ],
)
def test_wrong_type_is_refused(described: dict[str, Any], field: str, value: Any) -> None:
    """A field of the wrong type makes the whole answer invalid."""
    described[field] = value
    with pytest.raises(ProcessUnreachable):
        ProcessRecord.from_dict(described)


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
