"""What operators see of other hosts, by a registry of all, and how the command shows it."""

import io
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from django_qbwi import InspectionError, WorkItemNotFound, hosting
from django_qbwi.console import operations
from django_qbwi.hosting import asking, visibility
from django_qbwi.inspection import registry as protocol
from django_qbwi.inspection.reader import Answers
from django_qbwi.inspection.records import ProcessRecord
from django_qbwi.inspection.registry import StoredProcess, place_of_this_process
from django_qbwi.inspection.subject import Subject
from django_qbwi.lifecycle.servers import TestHost
from tests.admin import site

PATIENCE = 30


class FakeRegistry:
    """Stands for the registry: what it tells, and what it is asked."""

    name = "fake registry"
    pick_up_seconds = 10.0

    def __init__(self) -> None:
        self.stored: list[StoredProcess] = []
        self.asked: dict[str, list[str]] = {}
        self.by = ""
        self.read_error = self.write_error = ""
        self.full: set[str] = set()
        self.opened: list[Subject] = []
        self.closed = 0

    def open(self, subject: Subject) -> None:
        """Note it down."""
        self.opened.append(subject)

    def close(self) -> None:
        """Note it down."""
        self.closed += 1

    def read(self) -> list[StoredProcess]:
        """Tell it."""
        if self.read_error:
            raise InspectionError(self.read_error)
        return self.stored

    def request_cancellation(self, wanted: Mapping[str, Iterable[str]], by: str) -> set[str]:
        """Note it down."""
        if self.write_error:
            raise InspectionError(self.write_error)
        self.by = by
        self.asked = {key: list(item_ids) for key, item_ids in wanted.items() if key not in self.full}
        return set(self.asked)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, outside_of_tests: None) -> Iterator[FakeRegistry]:
    """Have a registry, one idle process of this machine that answers, and nothing of this process."""
    fake = FakeRegistry()
    monkeypatch.setattr(hosting, "_registries", [fake])
    monkeypatch.setattr(operations, "place_of_this_process", lambda: "here")

    def ask(place: Any, sites: Any, request: dict[str, Any], **options: Any) -> Answers:
        answers = {"overview": site.process(pid=1), "find": None, "cancel": {}}
        return Answers(answers=[(1, answers[request["operation"]])], unresponsive=[], refused=[])

    monkeypatch.setattr(asking, "ask", ask)
    with override_settings(QBWI={}):
        # As a command that runs nothing does, this process is not listed.
        monkeypatch.setattr(hosting.this_process(), "host", operations.CommandHost())
        yield fake


def stored(*items: dict[str, Any], age: float = 4.0, place: str = "elsewhere", **fields: Any) -> StoredProcess:
    """Return a process of another host."""
    record = ProcessRecord.from_dict(site.process(*items, **{"host": "web-2", "pid": 7} | fields))
    key = f"{record.host}:{record.pid}"
    return StoredProcess(key=key, record=record, place=place, age=age, is_stale=age > 30)


def shown() -> list[tuple[str, int]]:
    """Return host and pid of the processes that are shown."""
    return [(record["host"], record["pid"]) for record in operations.overview().to_dict()["processes"]]


# What is told.


def test_processes_of_other_hosts_are_shown(registry: FakeRegistry) -> None:
    """After those that have just answered, with the age of what they say; the registry is named."""
    registry.stored = [stored(site.item())]
    found = operations.overview().to_dict()
    assert [(record["host"], record["age"]) for record in found["processes"]] == [("web-1", None), ("web-2", 4.0)]
    assert (found["scope"], found["answered"], found["stale"]) == ("site", 2, [])
    assert found["registry"] == {"name": "fake registry", "error": None}


def test_limit_holds_for_other_hosts(registry: FakeRegistry) -> None:
    """What was cut is said."""
    registry.stored = [stored(site.item(id="a"), site.item(id="b"))]
    record = operations.overview(limit=1).to_dict()["processes"][1]
    assert ([item["id"] for item in record["items"]], record["truncated"]) == (["a"], True)


def test_registry_is_left_alone_if_wished(registry: FakeRegistry) -> None:
    """Who polls the processes of this machine asks no database."""
    registry.read_error = "asked"
    assert operations.overview(shared=False).to_dict()["registry"] is None


def test_live_answer_wins(registry: FakeRegistry) -> None:
    """A process that answers is not shown a second time for what it wrote down."""
    registry.stored = [stored(host="web-1", pid=1, place=""), stored()]
    assert shown() == [("web-1", 1), ("web-2", 7)]


def test_namesake_is_shown(registry: FakeRegistry) -> None:
    """Two containers may have one host name and the same pid."""
    registry.stored = [stored(host="web-1", pid=1, started_at=site.ago(5))]
    assert shown() == [("web-1", 1), ("web-1", 1)]


def test_dead_process_of_this_machine_is_gone(registry: FakeRegistry) -> None:
    """It would answer, if it lived; so its row is not shown until it is purged."""
    registry.stored = [stored(host="web-1", pid=9, place="here"), stored(host="web-1", pid=8, place="here", age=60.0)]
    assert (shown(), operations.overview().to_dict()["stale"]) == ([("web-1", 1)], [])


def test_without_a_channel_rows_of_this_machine_count(registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows, for instance."""
    monkeypatch.setattr(asking, "find_place", lambda: None)
    registry.stored = [stored(host="web-1", pid=9, place="here")]
    assert ("web-1", 9) in shown()


def test_silent_process_is_stale(registry: FakeRegistry) -> None:
    """It is told, and its items are not: nobody knows what became of them."""
    registry.stored = [stored(site.item(), age=31.04)]
    found = operations.overview().to_dict()
    assert (found["answered"], found["stale"]) == (1, [{"host": "web-2", "pid": 7, "age": 31.0}])


def test_registry_that_cannot_be_read_is_told(registry: FakeRegistry) -> None:
    """The processes of this machine are shown all the same."""
    registry.read_error = "no database"
    found = operations.overview().to_dict()
    assert (found["scope"], found["answered"]) == ("machine", 1)
    assert found["registry"] == {"name": "fake registry", "error": "no database"}


@pytest.mark.parametrize("tested", [True, False])
def test_registry_is_not_asked(registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch, tested: bool) -> None:
    """Under test, whose processes are one site, and with INSPECTION = False."""
    host = TestHost() if tested else operations.CommandHost()
    monkeypatch.setattr(hosting.this_process(), "host", host)
    registry.read_error = "asked"
    with override_settings(QBWI={"INSPECTION": tested}):
        assert operations.overview().to_dict()["registry"] is None


# One item.


def test_item_of_another_host_is_found(registry: FakeRegistry) -> None:
    """Without a stack, which is not in the registry; an ended one too."""
    registry.stored = [stored(site.item(id="a"), recent=(site.failure(id="b"),))]
    found = operations.find("a").to_dict()
    assert found["process"] == {"pid": 7, "host": "web-2", "server": "gunicorn", "state": "open", "age": 4.0}
    assert (found["item"]["id"], found["stack"]) == ("a", None)
    assert operations.find("b").to_dict()["item"]["error"]["type"] == "ValueError"


@pytest.mark.parametrize(("error", "reason"), [("", r"nothing was heard of web-2:7"), ("no database", "no database")])
def test_unknown_item_may_be_elsewhere(registry: FakeRegistry, error: str, reason: str) -> None:
    """The message says who was not heard of, or what went wrong."""
    registry.stored, registry.read_error = [stored(age=31.0)], error
    with pytest.raises(WorkItemNotFound, match=reason):
        operations.find("x")


def test_cancellation_is_requested(registry: FakeRegistry) -> None:
    """Of the process that has the item, by whom and from where; one that has ended is too late."""
    registry.stored = [stored(site.item(id="a"), recent=(site.failure(id="b"),)), stored(site.item(id="c"), pid=8)]
    results = operations.cancel(["a", "b", "x"], by="ada")
    assert (results.outcomes, results.requested) == ({"a": None, "b": False, "x": None}, {"a": "web-2:7"})
    assert (registry.asked, results.pick_up_seconds, results.error) == ({"web-2:7": ["a"]}, 10.0, "")
    assert registry.by.startswith("ada (host ")


def test_crowded_processes_are_asked_for_any_item(registry: FakeRegistry) -> None:
    """One that has more items than it lists may have it."""
    registry.stored = [stored(truncated=True), stored(pid=8)]
    assert operations.cancel(["x"], by="ada").requested == {"x": "web-2:7"}


def test_process_that_is_asked_too_much_takes_none(registry: FakeRegistry) -> None:
    """Nothing is promised then."""
    registry.stored, registry.full = [stored(site.item(id="a"))], {"web-2:7"}
    results = operations.cancel(["a"], by="ada")
    assert (results.requested, results.pick_up_seconds) == ({}, 0.0)


@pytest.mark.parametrize("failing", ["read_error", "write_error"])
def test_failed_request_is_told(registry: FakeRegistry, failing: str) -> None:
    """What was cancelled on this machine is told beside it."""
    registry.stored = [stored(site.item(id="a"))]
    setattr(registry, failing, "no database")
    results = operations.cancel(["a"], by="ada")
    assert (results.outcomes, results.requested, results.error) == ({"a": None}, {}, "no database")


def test_silent_host_may_have_it(registry: FakeRegistry) -> None:
    """It is not asked: nobody could say when it would look."""
    registry.stored = [stored(site.item(id="a"), age=31.0)]
    results = operations.cancel(["a"], by="ada")
    assert (registry.asked, results.error) == ({}, "nothing was heard of web-2:7 for too long")


# The command.


def run(*arguments: str, **options: Any) -> str:
    """Run the command and return what it printed."""
    output = options.pop("stdout", None) or io.StringIO()
    call_command("qbwi", *arguments, stdout=output, no_color=True, **options)
    return str(output.getvalue())


def test_command_shows_hosts(registry: FakeRegistry) -> None:
    """Of each process and of each item, and which registry was used."""
    registry.stored = [stored(site.item(id="a"))]
    lines = run().splitlines()
    assert lines[:2] == ["2 of 2 processes answered.", "Registry: fake registry."]
    assert lines[2].split()[:4] == ["PID", "HOST", "STATE", "TOLD"]
    assert lines[4].split()[:5] == ["7", "web-2", "open", "4.0", "s"]
    assert lines[-1].split()[:4] == ["a", "running", "101", "web-2"]


def test_command_names_silent_processes(registry: FakeRegistry) -> None:
    """As a row, and with exit code 3."""
    registry.stored = [stored(age=31.0)]
    output = io.StringIO()
    with pytest.raises(CommandError, match="nothing was heard of web-2:7 for too long") as caught:
        run(stdout=output)
    assert caught.value.returncode == 3
    assert "1 of 2 processes answered." in output.getvalue()
    assert "7  web-2  stale  31 s ago" in output.getvalue()
    assert "web-2" not in run("--pid", "1")


def test_command_says_that_a_registry_failed(registry: FakeRegistry) -> None:
    """Exit code 3: only a part is shown."""
    registry.read_error = "no database"
    with pytest.raises(CommandError, match="no database") as caught:
        run()
    assert caught.value.returncode == 3


def test_command_shows_an_item_of_another_host(registry: FakeRegistry) -> None:
    """With the age of what is told."""
    registry.stored = [stored(site.item(id="a"))]
    assert "4.0 s ago" in run("show", "a")


def test_command_requests_a_cancellation(registry: FakeRegistry) -> None:
    """It says who will look at it, and by when."""
    registry.stored = [stored(site.item(id="a"))]
    assert run("cancel", "a") == "a  requested, web-2:7 picks it up within 10 s\n"
    assert json.loads(run("cancel", "a", "--format=json"))["items"] == [
        {"id": "a", "outcome": "elsewhere", "process": "web-2:7"}
    ]


def test_command_cannot_say_that_an_item_is_unknown(registry: FakeRegistry) -> None:
    """Exit code 3 where a host is silent, which may have it; else 4."""
    with pytest.raises(CommandError) as caught:
        run("cancel", "x")
    assert caught.value.returncode == 4
    registry.stored = [stored(age=31.0)]
    with pytest.raises(CommandError) as caught:
        run("cancel", "x")
    assert caught.value.returncode == 3


# Where it comes from.


@pytest.fixture
def opened(registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Subject]]:
    """Return a function that does what the first request does, and says who was opened."""
    monkeypatch.setattr(visibility, "find_place", lambda: None)

    def first_request() -> list[Subject]:
        hosting.this_process().open_channel()
        return registry.opened

    return first_request


def test_registry_is_opened_with_the_channel(opened: Callable[[], list[Subject]]) -> None:
    """For this process, also where there is no channel."""
    assert opened() == [hosting.this_process().subject]


def test_registry_is_not_opened_if_switched_off(opened: Callable[[], list[Subject]]) -> None:
    """INSPECTION = False is for both."""
    with override_settings(QBWI={"INSPECTION": False}):
        assert opened() == []


def test_registry_without_a_thread_is_no_error(
    opened: Callable[[], list[Subject]], registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Items run all the same."""

    def fail(subject: Subject) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(registry, "open", fail)
    assert opened() == []


def test_last_registry_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one at the most."""
    monkeypatch.setattr(hosting, "_registries", [])
    assert hosting.registry() is None
    first, second = FakeRegistry(), FakeRegistry()
    hosting.share(first)
    hosting.share(second)
    assert hosting.registry() is second


def test_place_is_that_of_the_network_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for every thread of this machine, another one under another host name, unknown without /proc."""
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(place_of_this_process()))
    thread.start()
    thread.join(PATIENCE)
    here = place_of_this_process()
    assert found == [here]
    monkeypatch.setattr(protocol.socket, "gethostname", lambda: "elsewhere")
    assert place_of_this_process() != here or not here

    def fail(path: str) -> str:
        raise PermissionError(path)

    monkeypatch.setattr(protocol.os, "readlink", fail)
    assert place_of_this_process() == ""
