"""`manage.py qbwi`: what it prints, what it does, and how it ends."""

import dataclasses
import io
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.core.management.color import color_style
from django.test import override_settings

from django_qbwi import WorkItemHandle, hosting, queue_background_work_item
from django_qbwi.console import operations, tables
from django_qbwi.console import text as text_module
from django_qbwi.console.tables import Cell, Column
from django_qbwi.hosting import asking
from django_qbwi.inspection.places import AbstractPlace
from django_qbwi.inspection.reader import Answers, Stranger
from django_qbwi.lifecycle.servers import ServerHost
from django_qbwi.management.commands import qbwi
from tests.admin import site

PATIENCE = 30
NAME = "tests.background.resize_all_images_of_an_album"


class Terminal(io.StringIO):
    """An output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def held() -> Iterator[WorkItemHandle]:
    """Return an item of this process that runs until its token is cancelled."""
    entered = threading.Event()

    def hold(token: Any) -> None:
        entered.set()
        token.wait(PATIENCE)

    with override_settings(QBWI={}):
        handle = queue_background_work_item(hold, name=NAME, timeout=60)
        assert entered.wait(PATIENCE)
        yield handle
        handle.cancel()
        assert handle.wait(PATIENCE)


@pytest.fixture
def failed(held: WorkItemHandle) -> WorkItemHandle:
    """Return an item that failed beside it, with control characters in its message."""

    def fail(token: Any) -> None:
        raise ValueError("bad\x1b[31m \u202e text")

    handle = queue_background_work_item(fail, name="failing")
    assert handle.wait(PATIENCE)
    while not operations.overview().processes[0].record.recent:
        threading.Event().wait(0.001)
    return handle


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have one more process of the site not answer."""
    ask = operations._ask

    def also_silent(*args: Any, **options: Any) -> Any:
        asked, found = ask(*args, **options)
        return dataclasses.replace(asked, scope="machine", unresponsive=(4711,)), found

    monkeypatch.setattr(operations, "_ask", also_silent)


@pytest.fixture
def columns(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that sets the width of the terminal."""
    return lambda count: monkeypatch.setenv("COLUMNS", str(count))


def run(*arguments: str, **options: Any) -> str:
    """Run the command and return what it printed."""
    output = options.pop("stdout", None) or io.StringIO()
    call_command("qbwi", *arguments, stdout=output, no_color=True, **options)
    return str(output.getvalue())


# The list.


def test_list_says_what_is_waited_for(columns: Callable[[int], None]) -> None:
    """When a delayed item is due, and when it expires; `show` has the moments."""
    handle = queue_background_work_item(lambda token: None, name=NAME, delay=3600, expires=7200)
    columns(400)
    try:
        output, shown = run(), run("show", handle.id)
    finally:
        assert handle.cancel()
    assert re.search(r"due in \d+ (min|h) \d\d (s|min), expires in", output)
    assert re.search(r"due at +2", shown)
    assert re.search(r"expires at +2", shown)


def test_list_is_the_default(held: WorkItemHandle) -> None:
    """Without an operation the command lists."""
    assert json.loads(run("--format=json"))["processes"][0]["items"][0]["id"] == held.id


def test_table_shows_processes_and_items(held: WorkItemHandle) -> None:
    """The state of each process, and each item with its whole id and name."""
    output = run("list")
    assert output.splitlines()[1].split() == [
        "PID",
        "STATE",
        "SERVER",
        "UP",
        "FOR",
        *["RUNNING", "QUEUED", "FINISHED", "FAILED"],
    ]
    for text in (str(os.getpid()), "open", "1/4 sync, 0/100 async", held.id, "running", NAME):
        assert text in output


def test_only_this_process_is_said(held: WorkItemHandle) -> None:
    """Where the other processes cannot be asked, the output says so."""
    assert run().startswith("Only this process can be looked at here")


@pytest.mark.parametrize("operation", ["list", "show", "cancel", "stacks", "drain"])
def test_g32_command_survives_any_discovery(
    held: WorkItemHandle, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """An error of the search is one sentence and exit code 3, after what is known of this process."""
    arguments = {"show": ["x"], "cancel": ["x"], "drain": ["--all"]}.get(operation, [])
    output = io.StringIO()

    def fail(sites: Any) -> Any:
        raise ValueError("invalid literal for int()\n@qbwi")

    place = AbstractPlace()
    monkeypatch.setattr(place, "find", fail)
    monkeypatch.setattr(hosting.this_process(), "host", ServerHost())
    monkeypatch.setattr(asking, "find_place", lambda: place)
    with pytest.raises(CommandError, match="could not be looked for: invalid literal") as caught:
        run(operation, *arguments, stdout=output)
    assert (caught.value.returncode, "\n" in str(caught.value)) == (3, False)
    assert bool(output.getvalue()) is (operation != "show")


def test_json_is_the_contract(held: WorkItemHandle) -> None:
    """The same as `operations.overview`, with ISO 8601 times."""
    found = json.loads(run("list", "--format", "json"))
    assert (found["schema"], found["answered"], found["unresponsive"]) == (1, 1, [])
    assert found["processes"][0]["items"][0]["queued_at"].endswith("+00:00")


def test_jsonl_is_one_item_a_line(failed: WorkItemHandle) -> None:
    """Running, queued, and ended ones."""
    items = [json.loads(line) for line in run("--format", "jsonl").splitlines()]
    assert [item["status"] for item in items] == ["running", "failed"]


@pytest.mark.parametrize("arguments", [("--format=jsonl", "list"), ("list", "--format=jsonl"), ("--format", "jsonl")])
def test_options_stand_before_or_after_the_operation(held: WorkItemHandle, arguments: tuple[str, ...]) -> None:
    """The place of an option makes no difference."""
    assert json.loads(run(*arguments))["id"] == held.id


def test_option_before_is_not_lost_after(held: WorkItemHandle) -> None:
    """An option before the operation holds beside another one after it."""
    assert run("--format=jsonl", "list", "--status=queued") == ""


def test_items_are_filtered_by_status(failed: WorkItemHandle) -> None:
    """Ended items are in the table only if they are asked for."""
    assert "failing" not in run()
    output = run("--status", "failed")
    assert ("failing" in output, NAME in output, "builtins.ValueError" in output) == (True, False, True)


def test_several_statuses_are_allowed(failed: WorkItemHandle) -> None:
    """By repeating the option, or as a list from code."""
    for found in (
        run("--status=failed", "--status=running", "--format=jsonl"),
        run(status=["failed", "running"], format="jsonl"),
    ):
        assert len(found.splitlines()) == 2


def test_processes_are_filtered_by_pid(held: WorkItemHandle) -> None:
    """Only the given one."""
    assert held.id in run("--pid", str(os.getpid()))


def test_unknown_pid_is_not_found(held: WorkItemHandle) -> None:
    """Exit code 4."""
    with pytest.raises(CommandError, match="no process of this site with pid 1") as caught:
        run("--pid", "1")
    assert caught.value.returncode == 4


def test_unresponsive_process_is_shown(held: WorkItemHandle, silent: None) -> None:
    """The answers of the others are printed all the same; exit code 3."""
    output = io.StringIO()
    with pytest.raises(CommandError, match="no answer from process 4711") as caught:
        run(stdout=output)
    assert caught.value.returncode == 3
    assert "1 of 2 processes answered." in output.getvalue()
    assert "4711  unresponsive" in output.getvalue()


def test_unresponsive_process_that_was_not_asked_for_is_left_out(held: WorkItemHandle, silent: None) -> None:
    """With --pid only the given processes count."""
    assert "4711" not in run("--pid", str(os.getpid()))


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140])
def test_tables_fit_the_terminal(held: WorkItemHandle, columns: Callable[[int], None], width: int) -> None:
    """Columns are left out and names are cut, ids never."""
    columns(width)
    output = run()
    table = output.splitlines()[1:]
    assert held.id in output
    assert max(map(len, table)) <= width or width < 60


def test_column_without_a_word_is_left_out(held: WorkItemHandle) -> None:
    """There are notes only where there is something to note."""
    assert ("NOTES" in run(), "NAME" in run()) == (False, True)


def test_end_of_a_long_name_stays(held: WorkItemHandle, columns: Callable[[int], None]) -> None:
    """The last part of a dotted name tells most."""
    columns(70)
    assert "…" in run()
    assert "images_of_an_album" in run()


def test_colours_do_not_move_columns(held: WorkItemHandle) -> None:
    """Escape sequences have no width."""
    rows = [[Cell("a", color_style(force_color=True).SUCCESS), Cell("b")], [Cell("long"), Cell("c")]]
    lines = tables.render([Column(title="X"), Column(title="Y")], rows, 80, str)
    assert (lines[1].index("b") - len(color_style(force_color=True).SUCCESS("a")) + 1, lines[2]) == (6, "long  c")


# One item.


def test_running_item_is_shown_with_its_stack(held: WorkItemHandle) -> None:
    """Where it is, since when, and no locals."""
    output = run("show", held.id)
    assert "token.wait(PATIENCE)" in output
    assert f"{os.getpid()} (" in output


def test_failed_item_is_shown_with_its_traceback(failed: WorkItemHandle) -> None:
    """S14: without what could command a terminal."""
    output = run("show", failed.id)
    assert "ValueError: bad?[31m ? text" in output


@pytest.fixture
def reporting(held: WorkItemHandle) -> Iterator[WorkItemHandle]:
    """Run an item beside it that has reported, until the end of the test."""
    reported = threading.Event()

    def work(token: Any) -> None:
        token.report(21, 50, "page 21")
        reported.set()
        token.wait(PATIENCE)

    handle = queue_background_work_item(work, name="reporting")
    assert reported.wait(PATIENCE)
    yield handle
    handle.cancel()
    assert handle.wait(PATIENCE)


def test_progress_is_shown(reporting: WorkItemHandle, held: WorkItemHandle) -> None:
    """In a column of the list, with all of it for one item, and in the JSON."""
    header, *rows = run().split("\n\n")[1].splitlines()
    assert "PROGRESS" in header
    assert [row.split().count("42") for row in rows if "reporting" in row] == [1]
    assert "  progress      42 %, 21 of 50, page 21, " in run("show", reporting.id)
    assert "\n  progress  " not in run("show", held.id)
    shown = json.loads(run("--format=json", "show", reporting.id))["item"]["progress"]
    assert (shown["done"], shown["total"], shown["text"]) == (21, 50, "page 21")


def test_progress_takes_no_room_where_nothing_reports(held: WorkItemHandle) -> None:
    """The column is left out."""
    assert "PROGRESS" not in run()


def test_item_is_shown_as_json(held: WorkItemHandle) -> None:
    """Item, process and stack."""
    found = json.loads(run("show", held.id, "--format=json"))
    assert (found["schema"], found["item"]["id"], found["process"]["pid"]) == (1, held.id, os.getpid())
    assert "token.wait" in found["stack"]


def test_unknown_item_is_not_found(held: WorkItemHandle) -> None:
    """Exit code 4."""
    with pytest.raises(CommandError, match="no process knows the work item 'x'") as caught:
        run("show", "x")
    assert caught.value.returncode == 4


def test_stacks_are_shown(held: WorkItemHandle) -> None:
    """Those of all running items, in each format."""
    assert "token.wait(PATIENCE)" in run("stacks")
    assert json.loads(run("stacks", "--format=json"))["stacks"][0]["item"]["id"] == held.id
    assert json.loads(run("stacks", "--format=jsonl"))["item"]["id"] == held.id


def test_no_stacks_are_said() -> None:
    """An empty output would look like a failure."""
    assert run("stacks") == "Nothing is running.\n"


# Steering.


def test_item_is_cancelled(held: WorkItemHandle) -> None:
    """The token is cancelled, in the name of who did it."""
    assert run("cancel", held.id) == f"{held.id}  cancel requested\n"
    assert held.wait(PATIENCE)
    assert "manage.py" in (held.token.message or "")


def test_second_cancellation_is_said(held: WorkItemHandle) -> None:
    """It changes nothing, and is no error."""
    held.cancel()
    assert run("cancel", held.id) == f"{held.id}  was cancelled before, or has ended\n"


def test_unknown_id_is_not_found(held: WorkItemHandle) -> None:
    """Exit code 4; the other ids are cancelled all the same."""
    output = io.StringIO()
    with pytest.raises(CommandError) as caught:
        run("cancel", "x", held.id, stdout=output)
    assert (caught.value.returncode, output.getvalue()) == (4, f"x  not found\n{held.id}  cancel requested\n")


def test_unknown_id_with_a_silent_process_is_incomplete(held: WorkItemHandle, silent: None) -> None:
    """Exit code 3: the process that did not answer may have it."""
    with pytest.raises(CommandError) as caught:
        run("cancel", "x")
    assert caught.value.returncode == 3


def test_cancellation_is_told_as_json(held: WorkItemHandle) -> None:
    """Id by id."""
    assert json.loads(run("cancel", held.id, "--format=json"))["items"] == [
        {"id": held.id, "outcome": "requested", "process": None}
    ]
    assert json.loads(run("cancel", held.id, "--format=jsonl")) == {
        "id": held.id,
        "outcome": "too_late",
        "process": None,
    }


def test_process_is_drained(held: WorkItemHandle) -> None:
    """The command waits for the end of the items, and says that the scheduler is open again."""
    output = run("drain", "--pid", str(os.getpid()))
    assert held.wait(PATIENCE)
    assert "waiting for 1 item, 90 s at the most." in output
    assert "Its scheduler is OPEN again" in output


def test_drained_processes_are_told_as_json(held: WorkItemHandle) -> None:
    """Each with the number of items that were waited for."""
    (result,) = json.loads(run("drain", "--all", "--format=json"))["drained"]
    assert (result["pid"], result["waiting_for"]) == (os.getpid(), 1)
    assert held.wait(PATIENCE)


def test_idle_process_has_nothing_to_drain() -> None:
    """It stays open."""
    assert "nothing to drain" in run("drain", "--all")


@pytest.mark.parametrize("arguments", [(), ("--all", "--pid", "1")])
def test_drain_wants_to_know_which(arguments: tuple[str, ...]) -> None:
    """Draining everything by a forgotten option would be a pity."""
    with pytest.raises(CommandError, match="--pid, or all of them with --all") as caught:
        run("drain", *arguments)
    assert caught.value.returncode == 1


def test_unknown_process_is_not_drained(held: WorkItemHandle) -> None:
    """Exit code 4."""
    with pytest.raises(CommandError) as caught:
        run("drain", "--pid", "1")
    assert (caught.value.returncode, held.token.is_cancellation_requested) == (4, False)


# G37: never 0 for what was not done.


class Answering:
    """Sets what the other processes answer to each request, in turn the last one again and again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found = Answers(answers=[], unresponsive=[], refused=[])
        self.asked: list[str] = []
        monkeypatch.setattr(asking, "ask", self._ask)
        monkeypatch.setattr(hosting.this_process(), "host", operations.CommandHost())

    def _ask(self, place: Any, sites: Any, request: dict[str, Any], **options: Any) -> Answers:
        self.asked.append(request["operation"])
        return self.found


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answering]:
    """Run as an idle command, beside processes that answer as they are told."""
    with override_settings(QBWI={}):
        yield Answering(monkeypatch)


def ends(*arguments: str) -> tuple[int, str, str]:
    """Run the command; return its exit code, its last line and its output."""
    output = io.StringIO()
    try:
        run(*arguments, stdout=output)
    except CommandError as error:
        return error.returncode, str(error), output.getvalue()
    return 0, "", output.getvalue()


OPERATIONS = [("list",), ("show", "x"), ("cancel", "x"), ("stacks",), ("drain", "--all")]


@pytest.mark.parametrize("arguments", OPERATIONS)
def test_g37_site_without_a_process_is_not_found(others: Answering, arguments: tuple[str, ...]) -> None:
    """Exit code 4; which site was looked for is said, and which others were seen."""
    others.found = dataclasses.replace(others.found, elsewhere=[7, 8])
    code, text, _ = ends(*arguments)
    assert (code, "ROOT_URLCONF tests.urls" in text, "of other sites: process 7, 8" in text) == (4, True, True)


@pytest.mark.parametrize("arguments", OPERATIONS)
def test_g37_processes_of_another_user_are_named(others: Answering, arguments: tuple[str, ...]) -> None:
    """Exit code 3: they were seen, and not asked."""
    others.found = dataclasses.replace(others.found, refused=[4711, 4712])
    code, text, _ = ends(*arguments)
    assert (code, "of another user: process 4711, 4712" in text) == (3, True)


@pytest.mark.parametrize("arguments", OPERATIONS)
def test_g37_inspection_off_is_said(others: Answering, arguments: tuple[str, ...]) -> None:
    """Exit code 3: with INSPECTION = False nobody is asked."""
    with override_settings(QBWI={"INSPECTION": False}):
        code, text, _ = ends(*arguments)
    assert (code, "INSPECTION" in text, others.asked) == (3, True, [])


@pytest.mark.parametrize("arguments", OPERATIONS)
def test_g37_system_without_sockets_is_said(
    others: Answering, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """Exit code 3: as on Windows."""
    monkeypatch.setattr(asking, "find_place", lambda: None)
    code, text, _ = ends(*arguments)
    assert (code, "no sockets" in text) == (3, True)


def test_g37_other_sites_and_strangers_are_listed_beside(others: Answering) -> None:
    """They are no part of the answer: exit code 0 where all of this site have answered."""
    strangers = [Stranger(pid=9, uid=65_534, sockets=12_000), *[Stranger(pid=None, uid=None, sockets=1)] * 9]
    answers = [(1, site.process(pid=1))]
    others.found = dataclasses.replace(
        others.found, answers=answers, elsewhere=list(range(1, 161)), strangers=strangers
    )
    code, _, output = ends()
    assert code == 0
    assert "Not asked, since of other sites: process 1, 2," in output
    assert "and 110 more" in output
    assert "12000 socket(s): process 9, uid 65534" in output
    assert "So have 5 other strangers" in output


@pytest.mark.parametrize("arguments", [("list",), ("stacks",), ("drain",)])
def test_g37_given_process_is_not_found(others: Answering, arguments: tuple[str, ...]) -> None:
    """Exit code 4, also of `stacks`, where it was 0."""
    code, text, _ = ends(*arguments, "--pid", "1")
    assert (code, "no process of this site with pid 1" in text) == (4, True)


@pytest.mark.parametrize(
    ("records", "code", "text"),
    [
        pytest.param([{"state": "draining", "remaining": 0.0}], 1, "process 1: it still drains", id="goes on"),
        pytest.param([{"left_behind": 2}], 1, "process 1: 2 item(s) did not end", id="left"),
        pytest.param([{}], 0, "", id="all ended"),
        pytest.param([], 4, "no process", id="gone"),
    ],
)
def test_g37_drain_with_items_left_is_an_error(
    others: Answering, monkeypatch: pytest.MonkeyPatch, records: list[dict[str, Any]], code: int, text: str
) -> None:
    """Exit code 0 only if all that was drained has ended."""
    answer = {"pid": 1, "state": "draining", "remaining": 0.0, "waiting_for": 2, "ending": False}
    monkeypatch.setattr("django_qbwi.management.commands.qbwi._POLL_SECONDS", 0.0)
    monkeypatch.setattr("django_qbwi.management.commands.qbwi._GRACE_SECONDS", 0.05)

    def found(request: dict[str, Any]) -> list[tuple[int, Any]]:
        if request["operation"] == "drain":
            return [(1, answer)] if records else []
        return [(1, site.process(**{"pid": 1, **record})) for record in records]

    def ask(place: Any, sites: Any, request: dict[str, Any], **options: Any) -> Answers:
        return Answers(answers=found(request), unresponsive=[], refused=[])

    monkeypatch.setattr(asking, "ask", ask)
    found_code, found_text, _ = ends("drain", "--all")
    assert (found_code, text in found_text) == (code, True)


# Watching.


@pytest.fixture
def two_looks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Have Ctrl-C pressed after the second look; return the waits."""
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("django_qbwi.management.commands.qbwi.time.sleep", sleep)
    return waits


def test_watch_redraws_in_place(held: WorkItemHandle, two_looks: list[float]) -> None:
    """In a terminal each look replaces the one before; Ctrl-C ends it in good order."""
    output = run("list", "--watch", "5", stdout=Terminal())
    assert output.startswith("\x1b[2J\x1b[H")
    assert (output.count("\x1b[H"), output.count(held.id), output.endswith("\n")) == (2, 2, True)
    assert 4 < two_looks[0] <= 5


def test_watch_fits_the_height(held: WorkItemHandle, two_looks: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is longer than the terminal would make it scroll."""
    monkeypatch.setenv("LINES", "6")
    output = run("--watch=1", stdout=Terminal())
    assert "more lines" in output
    assert output.split("\x1b[H")[1].count("\n") <= 6


def test_watch_in_a_pipe_writes_one_after_the_other(held: WorkItemHandle, two_looks: list[float]) -> None:
    """Without a terminal nothing is redrawn."""
    output = run("--watch=1", "--format=jsonl")
    assert [json.loads(line)["id"] for line in output.splitlines()] == [held.id, held.id]


def test_watch_goes_on_without_some_processes(held: WorkItemHandle, silent: None, two_looks: list[float]) -> None:
    """An unresponsive process is shown, and may answer the next time."""
    assert run("--watch=1").count("unresponsive") == 2


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        (["--watch", "list"], 2.0),
        (["--watch", "7", "list"], 7.0),
        (["list", "--watch"], 2.0),
        (["list", "--watch", "7"], 7.0),
        (["--watch"], 2.0),
        (["list"], None),
    ],
)
def test_seconds_may_be_left_out(monkeypatch: pytest.MonkeyPatch, words: list[str], seconds: float | None) -> None:
    """On the command line --watch is not taken for the owner of the word after it."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(qbwi.Command, "handle", lambda self, *args, **options: found.append(options))
    qbwi.Command().run_from_argv(["manage.py", "qbwi", *words])
    assert [options["watch"] for options in found] == [seconds]


@pytest.mark.parametrize("value", ["0", "-1", "nan", "soon"])
def test_strange_seconds_are_refused(value: str) -> None:
    """A watch needs a pause."""
    with pytest.raises(CommandError, match="--watch"):
        run(f"--watch={value}")


# Texts.


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (-0.01, "0.0 s"),
        (0.44, "0.4 s"),
        (12.3, "12 s"),
        (75, "1 m 15 s"),
        (7_500, "2 h 05 m"),
        (200_000, "2 d 7 h"),
    ],
)
def test_spans_are_for_people(seconds: float | None, text: str) -> None:
    """Two units at the most."""
    assert text_module.span(seconds) == text


def test_wide_characters_take_two_columns() -> None:
    """A table with them still fits."""
    columns = [Column(title="N", flexible=True), Column(title="X")]
    lines = tables.render(columns, [[Cell("画像の縮小" * 5), Cell("x")]], 20, str)
    assert lines[1] == "…の縮小画像の縮小  x"
