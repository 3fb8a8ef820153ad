"""`manage.py qbwi run` inside of a process: what it runs, what it says, how it ends."""

from __future__ import annotations

import importlib
import io
import json
from collections.abc import Iterator
from typing import Any

import django
import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from django_qbwi.console import running
from django_qbwi.core.items import WorkItemHandle
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.management.commands import qbwi
from django_qbwi.testing import captured_work_items
from tests.console import errands

HERE = "tests.console.errands"


@pytest.fixture(autouse=True)
def own_scheduler() -> Iterator[None]:
    """Run in a scheduler of the test's own."""
    errands.seen.clear()
    with override_settings(QBWI={}):
        yield


def run(*words: str, **options: Any) -> tuple[int, str, str]:
    """Run the command; return its exit code, its error and its output."""
    output = io.StringIO()
    try:
        call_command("qbwi", "run", *words, stdout=output, no_color=True, **options)
    except CommandError as error:
        return error.returncode, str(error), output.getvalue()
    return 0, "", output.getvalue()


# What is run.


def test_item_runs_to_its_end() -> None:
    """The command waits for it, and says one line."""
    code, error, output = run(f"{HERE}.note")
    assert (code, error, errands.seen) == (0, "", [()])
    assert output.startswith("tests.console.errands.note succeeded after ")


def test_arguments_are_json() -> None:
    """Each word is a value of its own, negative numbers included."""
    words = ["-5", "1.5", '"a text"', "null", "true", "[1, 2]", '{"key": "value"}']
    assert run(f"{HERE}.note", *words)[0] == 0
    assert errands.seen == [(-5, 1.5, "a text", None, True, [1, 2], {"key": "value"})]


def test_decorated_function_has_its_options() -> None:
    """Name and timeout of the decorator hold."""
    assert run(f"{HERE}.decorated", "7")[0] == 0
    assert errands.seen == [(7, "decorated", 33.0)]


def test_async_function_runs_on_the_loop() -> None:
    """As any async item does."""
    assert run(f"{HERE}.asynchronous", "7")[0] == 0
    assert errands.seen == [(7, "qbwi-loop")]


@pytest.mark.parametrize("words", [("1",), ("1", "2")])
def test_defaults_may_be_left_out(words: tuple[str, ...]) -> None:
    """The number of arguments is that of the function."""
    assert run(f"{HERE}.take_two", *words)[0] == 0


def test_task_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task of Django's runs here without a token, sync or async, under its own name."""
    tasks = _framework()
    for name, function in [("plain", _plain_task), ("asynchronous_one", _async_task), ("context", _task_in_context)]:
        options = {"takes_context": function is _task_in_context, "backend": _ALIAS}
        monkeypatch.setattr(errands, name, tasks.task(**options)(function), raising=False)
        code, _, output = run(f"{HERE}.{name}", "7")
        assert (code, f"{function.__name__} succeeded" in output) == (0, True)
    assert errands.seen == ["plain 7", "async 7", "attempt 1 7"]


def test_task_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the option of its alias, as where a site enqueues it."""
    path = f"django_qbwi.{'backend' if _ALIAS == 'default' else 'backport'}.WorkItemBackend"
    options = {"RETRY": {"max_attempts": 2, "backoff": {"first": 0}}}
    with override_settings(TASKS={_ALIAS: {"BACKEND": path, "OPTIONS": options}}):
        monkeypatch.setattr(errands, "flaky", _framework().task(backend=_ALIAS)(_flaky_task), raising=False)
        assert run(f"{HERE}.flaky", "7")[0] == 0
    assert errands.seen == ["flaky 7", "flaky 7"]


def _flaky_task(number: int) -> None:
    errands.seen.append(f"flaky {number}")
    if len(errands.seen) == 1:
        raise ValueError("no")


def _plain_task(number: int) -> None:
    errands.seen.append(f"plain {number}")


async def _async_task(number: int) -> None:
    errands.seen.append(f"async {number}")


def _task_in_context(context: Any, number: int) -> None:
    errands.seen.append(f"attempt {context.attempt} {number}")


_ALIAS = "default" if django.VERSION >= (6, 0) else "backport"


def _framework() -> Any:
    """Return the framework of tasks that there is."""
    return importlib.import_module("django.tasks" if django.VERSION >= (6, 0) else "django_tasks")


@pytest.mark.parametrize(
    ("function", "options", "words", "text"),
    [
        (_plain_task, {}, (), "_plain_task cannot be called with 0 argument(s)"),
        (_plain_task, {}, ("1", "2"), "_plain_task cannot be called with 2 argument(s)"),
        (_task_in_context, {"takes_context": True}, ("1", "2"), "_task_in_context cannot be called with 2 argument(s)"),
    ],
)
def test_wrong_call_of_a_task_is_refused(
    monkeypatch: pytest.MonkeyPatch, function: Any, options: dict[str, Any], words: tuple[str, ...], text: str
) -> None:
    """Before it is queued."""
    task = _framework().task(backend=_ALIAS, **options)(function)
    monkeypatch.setattr(errands, "task", task, raising=False)
    code, error, _ = run(f"{HERE}.task", *words)
    assert (code, text in error) == (1, True)


# How it ends.


def test_failure_is_exit_code_1() -> None:
    """The last line has type and message, without what could command a terminal."""
    code, error, output = run(f"{HERE}.fail")
    assert (code, output) == (1, "")
    assert error.startswith("tests.console.errands.fail failed after ")
    assert error.endswith(" s: builtins.ValueError: bad?[31m text")


def test_exit_of_an_item_is_its_failure() -> None:
    """SystemExit(0) in an item is no success of the command."""
    code, error, _ = run(f"{HERE}.leave")
    assert (code, "SystemExit" in error) == (1, True)


@pytest.mark.parametrize(("name", "reason"), [("time_out", "TIMEOUT"), ("cancel_itself", "REQUESTED")])
def test_cancellation_is_exit_code_2(name: str, reason: str) -> None:
    """Its reason is said."""
    code, error, output = run(f"{HERE}.{name}")
    assert (code, output) == (2, "")
    assert f"{name} cancelled after " in error
    assert error.endswith(f" s, by {reason}")


@pytest.mark.parametrize("status", [status for status in WorkItemStatus if status.is_terminal])
def test_each_end_has_its_exit_code(status: WorkItemStatus) -> None:
    """Only a success is 0, and only a failure is 1."""
    expected = {"succeeded": 0, "failed": 1, "cancelled": 2, "abandoned": 2, "discarded": 2, "handed_off": 2}
    assert running.exit_code(status) == expected[status]


def test_item_that_never_began_is_told_so() -> None:
    """There is no time that it took."""
    with captured_work_items() as items:
        handle = running._found(f"{HERE}.note")()
    assert [item.name for item in items] == ["tests.console.errands.note"]
    assert running.sentence(handle.info) == "tests.console.errands.note discarded before it began"


# What is written.


def test_end_is_told_as_json() -> None:
    """The item as everywhere else, also when it has failed."""
    for name, code, status in [("note", 0, "succeeded"), ("fail", 1, "failed"), ("time_out", 2, "cancelled")]:
        found, _, output = run(f"{HERE}.{name}", "--format=json")
        document = json.loads(output)
        assert (found, document["schema"], document["item"]["status"]) == (code, 1, status)
        assert document["item"]["name"] == f"{HERE}.{name}"


def test_jsonl_is_one_line() -> None:
    """As of every other operation."""
    output = run(f"{HERE}.note", "--format=jsonl")[2]
    assert (output.count("\n"), json.loads(output)["item"]["status"]) == (1, "succeeded")


def test_success_may_be_silent() -> None:
    """So that cron sends a mail only where there is something to tell."""
    assert run(f"{HERE}.note", verbosity=0) == (0, "", "")
    assert run(f"{HERE}.fail", verbosity=0)[0] == 1


# Bad input.


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        pytest.param(["note"], ["note cannot be imported", "top of a module"], id="no dot"),
        pytest.param([""], ["cannot be imported"], id="empty"),
        pytest.param(["no.such.module"], ["no.such.module cannot be imported", "ModuleNotFoundError"], id="no module"),
        pytest.param([f"{HERE}.nothing"], ["nothing", "ImportError"], id="no such name"),
        pytest.param([f"{HERE}.Errand.run"], [f"{HERE}.Errand.run cannot be imported"], id="inside a class"),
        pytest.param(["tests.console.broken.run"], ["RuntimeError: no?such luck"], id="module that raises"),
        pytest.param([f"{HERE}.NUMBER"], [f"{HERE}.NUMBER: ", "builtins.int is not"], id="not callable"),
        pytest.param([f"{HERE}.Errand"], [f"{HERE}.Errand: ", "is a class"], id="class"),
        pytest.param([f"{HERE}.generate"], ["is a generator function"], id="generator"),
        pytest.param([f"{HERE}.take_two"], ["0 argument(s) after the token", "no value for first"], id="too few"),
        pytest.param([f"{HERE}.take_two", "1", "2", "3"], ["3 argument(s)", "at most 3 positional"], id="too many"),
        pytest.param([f"{HERE}.decorated"], [f"{HERE}.decorated: ", "no value for number"], id="decorated, too few"),
        pytest.param([f"{HERE}.asynchronous", "1", "2"], ["2 argument(s) after the token"], id="async, too many"),
        pytest.param([f"{HERE}.note", "text"], ["'text' is no JSON", "double quotes"], id="bare word"),
        pytest.param([f"{HERE}.note", "1", "{'a': 1}"], ["is no JSON"], id="a dict of Python's"),
        pytest.param([f"{HERE}.note", ""], ["'' is no JSON"], id="empty argument"),
        pytest.param([f"{HERE}.note", "NaN"], ["'NaN' is no JSON: there is no NaN in JSON"], id="nan"),
        pytest.param([f"{HERE}.note", "[" * 100_000], ["is no JSON"], id="deep"),
        pytest.param([f"{HERE}.note", "9" * 5_000], ["is no JSON"], id="long number"),
        pytest.param([f"{HERE}.note", "\x1b[31m"], ["is no JSON"], id="control characters"),
        pytest.param([f"{HERE}.note", "--pid=1"], ["--pid is for what runs in other processes"], id="pid"),
        pytest.param([f"{HERE}.note", "--status=failed"], ["--status is for"], id="status"),
        pytest.param([f"{HERE}.note", "--watch"], ["--watch is for"], id="watch"),
    ],
)
def test_bad_input_is_told(words: list[str], texts: list[str]) -> None:
    """Exit code 1; the message has the value and the cure, on one line, and nothing has run."""
    code, error, output = run(*words)
    assert (code, output, errands.seen) == (1, "", [])
    assert [text for text in texts if text not in error] == []
    assert error.isprintable()


def test_wrong_settings_are_told() -> None:
    """One line, and no traceback."""
    with override_settings(QBWI={"MAX_WORKER": 1}):
        code, error, _ = run(f"{HERE}.note")
    assert (code, "no key 'MAX_WORKER'" in error) == (1, True)


# Stop signals.


class Stopped(WorkItemHandle):
    """A handle whose wait a stop signal leaves."""

    __slots__ = ("stop",)

    def wait(self, timeout: float | None = None) -> bool:
        """Raise it."""
        raise self.stop


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(143)], ids=["SIGINT", "SIGTERM"])
def test_stop_in_anothers_process_is_not_swallowed(monkeypatch: pytest.MonkeyPatch, stop: BaseException) -> None:
    """Called from code, the command ends by what the signal raised: the process is not its own."""
    with captured_work_items():
        handle = running._found(f"{HERE}.note")()
    stopped = Stopped()
    stopped._item = handle._item
    stopped.stop = stop
    monkeypatch.setattr(running, "_found", lambda path: lambda: stopped)
    with pytest.raises(type(stop)):
        run(f"{HERE}.note")


# The command line.


@pytest.mark.parametrize("words", [["run"], ["run", "a.b", "--bogus"], ["--format=xml", "run", "a.b"], ["jump"]])
def test_wrong_command_line_is_no_cut_off(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, not the 2 of argparse, which a timer would take for a cancelled item."""
    with pytest.raises(SystemExit) as caught:
        qbwi.Command().run_from_argv(["manage.py", "qbwi", *words])
    assert caught.value.code == 1
    assert "usage: manage.py qbwi" in capsys.readouterr().err


def test_help_ends_well(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0."""
    with pytest.raises(SystemExit) as caught:
        qbwi.Command().run_from_argv(["manage.py", "qbwi", "run", "--help"])
    assert (caught.value.code, "dotted path" in capsys.readouterr().out) == (0, True)
