"""The numbers by name as an operator sees them: added up, as percentiles, in the command and on the page."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client, override_settings

from django_qbwi import hosting, queue_background_work_item
from django_qbwi.console import operations
from django_qbwi.console.dashboard import NameRow
from django_qbwi.console.statistics import OfName, Percentiles, from_dict, merged, percentile
from django_qbwi.core.exceptions import ProcessUnreachable
from django_qbwi.core.statistics import BOUNDS, MAX_NAMES, OTHER
from django_qbwi.inspection import publisher
from tests.admin.site import user
from tests.support.gates import PATIENCE


def fail(token: Any) -> None:
    """Fail."""
    raise ValueError


@pytest.fixture
def ended() -> Iterator[None]:
    """Have two items ended in this process, one of which has failed."""
    with override_settings(QBWI={}):
        queue_background_work_item(lambda token: None, name="quick")
        queue_background_work_item(fail, name="failing")
        assert hosting.scheduler().wait_until_empty(PATIENCE)
        yield


def buckets(**counts: int) -> list[int]:
    """Return the counts of all buckets of those that are not empty."""
    return [counts.get(f"b{bucket}", 0) for bucket in range(len(BOUNDS) + 1)]


@pytest.mark.parametrize(
    ("found", "percent", "seconds"),
    [
        (buckets(), 50, None),
        (buckets(b20=100), 100, 1.0),
        (buckets(b20=100), 50, 10 ** (-0.1)),
        (buckets(b0=4), 50, 0.00005),
        (buckets(b20=99, b30=1), 99, 1.0),
        (buckets(b20=90, b30=10), 95, 10 ** (1.9)),
        (buckets(b46=1), 50, 100_000.0),
    ],
)
def test_percentiles(found: list[int], percent: float, seconds: float | None) -> None:
    """They are estimated within a bucket, as the buckets are spaced."""
    assert percentile(found, percent) == (None if seconds is None else pytest.approx(seconds))


def test_processes_are_added_up() -> None:
    """Counts and buckets, of names that only some know; trailing buckets may be missing."""
    first = {"a": {"count": 2, "failures": 1, "waiting": [2], "running": [0, 2]}}
    second = {
        "a": {"count": 3, "failures": 0, "waiting": [0, 0, 3], "running": []},
        "b": {"count": 9, "failures": 9, "waiting": [], "running": []},
    }
    b, a = merged([first, second])
    assert (b.name, b.count, b.failures, b.waiting.p50) == ("b", 9, 9, None)
    assert (a.name, a.count, a.failures) == ("a", 5, 1)
    assert a.waiting.p95 == pytest.approx(BOUNDS[1] * (BOUNDS[2] / BOUNDS[1]) ** ((4.75 - 2) / 3))
    assert a.running.p99 is not None


def test_names_of_all_processes_are_bounded() -> None:
    """The rarest ones are one."""
    answer = {
        f"n{number}": {"count": number + 1, "failures": 0, "waiting": [], "running": []}
        for number in range(MAX_NAMES + 3)
    }
    rows = merged([answer])
    assert len(rows) == MAX_NAMES + 1
    assert next(row for row in rows if row.name == OTHER).count == 1 + 2 + 3


@pytest.mark.parametrize(
    "told",
    [
        [],
        {"a": []},
        {"a": {"count": 1}},
        {"a": {"count": -1, "failures": 0, "waiting": [], "running": []}},
        {"a": {"count": 1, "failures": 0, "waiting": [0] * 48, "running": []}},
        {"a": {"count": 1, "failures": 0, "waiting": ["1"], "running": []}},
        {str(number): {} for number in range(MAX_NAMES + 2)},
    ],
)
def test_answer_that_is_none(told: Any) -> None:
    """What another process sends is read within bounds."""
    with pytest.raises(ProcessUnreachable):
        from_dict(told)


def test_over_the_channel(ended: None) -> None:
    """A process answers with its numbers, which survive JSON."""
    told = publisher.answer(hosting.this_process().subject, {"operation": "statistics"}, 10, "a test")
    found = from_dict(json.loads(json.dumps(told)))
    assert {name: (numbers["count"], numbers["failures"]) for name, numbers in found.items()} == {
        "quick": (1, 0),
        "failing": (1, 1),
    }


def run(*arguments: str) -> str:
    """Run the command and return what it printed."""
    output = io.StringIO()
    call_command("qbwi", *arguments, stdout=output, no_color=True)
    return output.getvalue()


def test_command(ended: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table for people, JSON for programs, and one process if that is wanted."""
    monkeypatch.setenv("COLUMNS", "120")
    lines = run("stats").splitlines()
    assert lines[0].split()[:3] == ["NAME", "COUNT", "FAILED"]
    assert sorted(line.split()[:3] for line in lines[1:]) == [["failing", "1", "1"], ["quick", "1", "0"]]
    found = json.loads(run("stats", "--format=json"))
    assert (found["schema"], [row["name"] for row in found["names"]]) == (1, ["failing", "quick"])
    assert set(found["names"][0]["running"]) == {"p50", "p95", "p99"}
    assert [json.loads(line)["count"] for line in run("stats", "--format=jsonl").splitlines()] == [1, 1]
    assert "quick" in run("stats", "--pid", str(hosting.this_process().pid))


def test_command_refuses_what_it_cannot_do(ended: None) -> None:
    """It counts what is not listed any more; a process that there is not is not found."""
    for option in ("--status=failed", "--label=order=1"):
        with pytest.raises(CommandError, match="is for items that are listed"):
            run("stats", option)
    with pytest.raises(CommandError) as error:
        run("stats", "--pid", "4194305")
    assert error.value.returncode == 4


def test_command_where_nothing_has_ended() -> None:
    """It says so."""
    with override_settings(QBWI={}):
        assert run("stats") == "No item has ended yet.\n"


@pytest.mark.django_db(transaction=True)
@pytest.mark.urls("tests.admin.urls")
def test_page(ended: None) -> None:
    """Who may see items sees the numbers; the list leads there."""
    client = user("view_workitem")
    page = client.get("/admin/django_qbwi/workitem/statistics/").text
    assert "failing" in page
    assert 'href="/admin/django_qbwi/workitem/?name=quick"' in page
    assert "/admin/django_qbwi/workitem/statistics/" in client.get("/admin/django_qbwi/workitem/").text
    assert Client().get("/admin/django_qbwi/workitem/statistics/").status_code == 302


@pytest.mark.django_db
@pytest.mark.urls("tests.admin.urls")
def test_page_is_not_for_everybody() -> None:
    """Who may not see items sees no numbers of them."""
    assert user("cancel_workitem").get("/admin/django_qbwi/workitem/statistics/").status_code == 403


def test_row_of_what_never_began() -> None:
    """There is a dash."""
    nothing = Percentiles.of([])
    row = NameRow.of(OfName(name="<b>", count=1, failures=0, waiting=nothing, running=nothing))
    assert [span["text"] for span in (*row.waited, *row.ran)] == [""] * 6
    assert operations.statistics().asked.scope in {"process", "machine"}
