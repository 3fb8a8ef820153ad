"""Items in helper processes: what they are there, how they end, and what they say."""

import asyncio
import functools
import json
import logging
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from django_qbwi.core.cancellation import CancelReason
from django_qbwi.core.exceptions import HelperDied, InvalidWorkItem
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.executors.processes import executor
from django_qbwi.executors.processes import helper as program
from django_qbwi.executors.processes.remote import HelperTracebackError
from django_qbwi.intake.retries import Retry, exponential
from tests.executors.processes import functions
from tests.executors.processes.crew import Crew
from tests.support.clock import FakeClock
from tests.support.gates import PATIENCE, until

S = WorkItemStatus
Hire = Callable[..., Crew]
pytestmark = pytest.mark.skipif(not hasattr(os, "posix_spawn"), reason="helper processes need POSIX")


@pytest.fixture
def arrived(tmp_path: Path) -> Path:
    """The file that an item writes."""
    return tmp_path / "arrived"


# What an item is there.


def test_item_gets_its_arguments(crew: Crew, arrived: Path) -> None:
    """Positional and keyword arguments cross."""
    assert crew.run(functools.partial(functions.add, other=3), str(arrived), 4) is S.SUCCEEDED
    assert arrived.read_text() == "7"


def test_helper_is_a_program_of_its_own(hire: Hire, arrived: Path) -> None:
    """It has its own session, niceness and main module, no input, no socket, and no blocked signal; and one item."""
    crew = hire(nice=7)
    handle = crew.queue(functions.describe, str(arrived))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    assert handle.wait(PATIENCE)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    facts = json.loads(arrived.read_text())
    pid = crew.started[0].pid
    assert facts == {
        "pid": pid,
        "parent": os.getpid(),
        "session": pid,
        "nice": os.nice(0) + 7,
        "stdin": "/dev/null",
        "sockets": [],
        "main": program.__file__,
        "name": handle.name,
        "id": handle.id,
        "runs_in_main_thread": True,
        "blocked": [],
    }
    assert handle.info.thread == f"qbwi-process-1 (pid {pid})"


def test_helper_is_kept(crew: Crew) -> None:
    """The next item has the same helper."""
    assert [crew.run(functions.nothing) for _ in range(3)] == [S.SUCCEEDED] * 3
    assert len(crew.started) == 1


def test_helper_is_replaced_after_its_items(hire: Hire) -> None:
    """One that has had as many as it may ends, and another one follows."""
    crew = hire(max_items=2)
    assert [crew.run(functions.nothing) for _ in range(5)] == [S.SUCCEEDED] * 5
    assert len(crew.started) == 3
    until(lambda: crew.started[0].status == crew.started[1].status == 0)


def test_item_succeeds_whatever_it_returns(crew: Crew) -> None:
    """An item has no result, so that none has to be pickled; but a generator has not run."""
    handle = crew.queue(functions.make_a_generator)
    assert handle.wait(PATIENCE)
    assert isinstance(handle.exception(), InvalidWorkItem)


def test_returned_coroutine_fails_the_item(crew: Crew) -> None:
    """Nobody awaits it there."""
    handle = crew.queue(functions.make_a_coroutine)
    assert handle.wait(PATIENCE)
    with pytest.raises(InvalidWorkItem, match="nobody waits in a helper process"):
        raise handle.exception() or AssertionError


# Failures.


@pytest.mark.parametrize("error", [ValueError("no such album"), SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_exception_crosses(crew: Crew, error: BaseException) -> None:
    """The item is FAILED with what it has raised, and the text of the traceback; its helper runs the next one."""
    handle = crew.queue(functions.fail, error)
    assert handle.wait(PATIENCE)
    found = handle.exception()
    assert (type(found), found.args if found else None) == (type(error), error.args)
    assert isinstance(found.__cause__ if found else None, HelperTracebackError)
    assert handle.info.error is not None
    assert "in fail\n" in handle.info.error.traceback
    assert crew.run(functions.nothing) is S.SUCCEEDED
    assert len(crew.started) == 1


@pytest.mark.parametrize("function", [functions.fail_with_a_local_class, functions.fail_with_two_arguments])
def test_exception_that_cannot_cross_is_told(crew: Crew, function: Callable[..., None]) -> None:
    """The item is FAILED with what the exception was, and why it is not that itself."""
    handle = crew.queue(function)
    assert handle.wait(PATIENCE)
    with pytest.raises(RuntimeError, match=r"Error: (inside|one) \(the exception itself cannot be pickled: "):
        raise handle.exception() or AssertionError


def test_foreign_cancelled_error_is_a_failure(crew: Crew) -> None:
    """As in a thread: only that of its own token is a cancellation."""
    assert crew.run(functions.fail, asyncio.CancelledError()) is S.FAILED


# Cancellation.


def test_cancellation_crosses(crew: Crew, arrived: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The token there is cancelled with reason and message, and the item ends as CANCELLED."""
    caplog.set_level(logging.INFO)
    handle = crew.queue(functions.heed, str(arrived))
    until(arrived.exists)
    assert handle.cancel("changed my mind")
    assert handle.wait(PATIENCE)
    assert (handle.status, handle.info.cancel_reason) == (S.CANCELLED, CancelReason.REQUESTED)
    assert "requested changed my mind None" in caplog.messages


def test_timeout_and_deadline_cross(crew: Crew, arrived: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The token there knows its deadline, and is cancelled at it."""
    caplog.set_level(logging.INFO)
    handle = crew.queue(functions.heed, str(arrived), timeout=0.1)
    assert handle.wait(PATIENCE)
    assert (handle.status, handle.info.cancel_reason) == (S.CANCELLED, CancelReason.TIMEOUT)
    assert "timeout timeout of 0.1 s 0" in caplog.messages


def test_limit_of_a_drain_crosses(crew: Crew, arrived: Path) -> None:
    """A deadline that comes later is known there, without a cancellation."""
    handle = crew.queue(functions.await_deadline, str(arrived))
    until(arrived.exists)
    crew.scheduler.stop.deadline = crew.clock() + 1000
    crew.helpers.deadline_changed()
    assert handle.wait(PATIENCE)
    assert handle.status is S.SUCCEEDED


def test_item_cancels_itself(crew: Crew) -> None:
    """`current_work_item().cancel()` works there as it does here."""
    handle = crew.queue(functions.cancel_itself)
    assert handle.wait(PATIENCE)
    assert (handle.status, handle.token.message) == (S.CANCELLED, "by itself")


@pytest.mark.parametrize(
    "function", [functions.ignore, functions.ignore_all, functions.burn], ids=["waits", "ignores SIGTERM", "burns"]
)
def test_item_that_ignores_its_timeout_is_ended(hire: Hire, arrived: Path, function: Callable[..., None]) -> None:
    """SIGTERM ends its helper, or SIGKILL; the item is CANCELLED, once, and the next one has another helper."""
    clock = FakeClock()
    crew = hire(overdue_after=5.0, clock=clock)
    handle = crew.queue(function, str(arrived), timeout=10.0)
    until(arrived.exists)
    for seconds in (10.0, 5.0, 0.5):
        clock.advance(seconds)
        crew.look_at_clock()
    assert handle.wait(PATIENCE)
    assert (handle.status, handle.info.cancel_reason) == (S.CANCELLED, CancelReason.TIMEOUT)
    assert crew.run(functions.nothing) is S.SUCCEEDED
    assert (crew.scheduler.totals[S.CANCELLED], crew.observer.statuses()) == (1, [S.CANCELLED, S.SUCCEEDED])
    if function is not functions.ignore:
        assert "SIGKILL" in crew.started[0].reason


def test_sigterm_of_somebody_else_is_ignored(crew: Crew, arrived: Path, caplog: pytest.LogCaptureFixture) -> None:
    """systemd sends it to all processes of a service; the item has the time that the end of the server leaves."""
    caplog.set_level(logging.INFO)
    handle = crew.queue(functions.heed, str(arrived))
    until(arrived.exists)
    os.kill(crew.started[0].pid, signal.SIGTERM)
    handle.cancel("later")
    assert handle.wait(PATIENCE)
    assert "requested later None" in caplog.messages
    assert crew.run(functions.nothing) is S.SUCCEEDED
    assert len(crew.started) == 1


def test_item_is_ended_at_the_limit_of_the_drain(crew: Crew, arrived: Path) -> None:
    """What interrupts async items ends helpers."""
    handle = crew.queue(functions.burn, str(arrived))
    until(arrived.exists)
    crew.scheduler.stop.request()
    crew.scheduler.interrupt()
    assert handle.wait(PATIENCE)
    assert (handle.status, handle.info.cancel_reason) == (S.CANCELLED, CancelReason.SHUTDOWN)


# Records, progress, stacks, attempts.


def test_records_are_written_here_once(crew: Crew, caplog: pytest.LogCaptureFixture) -> None:
    """With their loggers, levels, texts and what crosses of their extra values; handlers there write nothing."""
    caplog.set_level(logging.DEBUG)
    assert crew.run(functions.log) is S.SUCCEEDED
    records = [record for record in caplog.records if record.name.startswith("tests.")]
    assert [(record.name, record.levelname, record.getMessage()) for record in records] == [
        ("tests.helpers", "INFO", "plain text"),
        ("tests.alone", "WARNING", "alone"),
        ("tests.helpers", "ERROR", "with frames"),
    ]
    assert records[0].process == crew.started[0].pid
    assert vars(records[0])["album"] == 5
    assert "ValueError: logged" in (records[2].exc_text or "")


def test_level_here_counts_too(crew: Crew, caplog: pytest.LogCaptureFixture) -> None:
    """A record that nobody wants here is not written."""
    caplog.set_level(logging.ERROR, "tests")
    assert crew.run(functions.log) is S.SUCCEEDED
    assert "plain text" not in caplog.messages


def test_last_progress_is_seen(crew: Crew) -> None:
    """However often an item reports, what it has reported last is known when it has ended."""
    handle = crew.queue(functions.report, 20_000)
    assert handle.wait(PATIENCE)
    progress = handle.progress
    assert progress is not None
    assert (progress.done, progress.total, progress.text) == (20_000, 20_000, "step 20000")


def test_stack_is_that_of_the_helper(crew: Crew, arrived: Path) -> None:
    """The live stack of an item says where it is there."""
    handle = crew.queue(functions.heed, str(arrived))
    until(arrived.exists)
    until(lambda: "token.wait()" in crew.scheduler.stack(handle._item))
    assert not any(name in crew.scheduler.stack(handle._item) for name in ("helper.py", "service.py"))
    handle.cancel()
    assert handle.wait(PATIENCE)


def test_stack_of_one_that_burns_is_not_waited_for(crew: Crew, arrived: Path) -> None:
    """A helper that cannot answer is named."""
    handle = crew.queue(functions.burn, str(arrived))
    until(arrived.exists)
    assert f"helper process {crew.started[0].pid} does not answer" in crew.scheduler.stack(handle._item)
    crew.started[0].kill()
    assert handle.wait(PATIENCE)


def test_stack_of_one_that_is_ended_is_not_asked_for(
    crew: Crew, arrived: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the limit of a drain, the moment for its answer is that of all the other records."""
    monkeypatch.setattr(executor, "_KILL_SECONDS", PATIENCE)
    handle = crew.queue(functions.burn, str(arrived))
    until(arrived.exists)
    helper = crew.started[0]
    monkeypatch.setattr(type(helper), "stack", lambda self: pytest.fail("it was asked"))
    crew.helpers.cancel_natively([handle._item])
    assert crew.scheduler.stack(handle._item) == f"  <helper process {helper.pid} is ended>\n"
    helper.kill()
    assert handle.wait(PATIENCE)


def test_next_attempt_goes_on_from_the_checkpoint(crew: Crew, arrived: Path) -> None:
    """A failed run is followed by another one, with the arguments of its checkpoint."""
    retry = Retry(on=OSError, backoff=exponential(first=0.01))
    handle = crew.queue(functions.go_on, str(arrived), retry=retry)
    assert handle.wait(PATIENCE)
    assert (handle.status, handle.info.attempt, arrived.read_text()) == (S.SUCCEEDED, 2, "3")


def test_wrong_checkpoint_is_refused_there(crew: Crew) -> None:
    """What `token.checkpoint` refuses here fails the item there."""
    handle = crew.queue(functions.pass_a_wrong_checkpoint, retry=Retry(max_attempts=1))
    assert handle.wait(PATIENCE)
    assert isinstance(handle.exception(), InvalidWorkItem)


# Deaths.


@pytest.mark.parametrize(
    ("function", "argument", "reason"),
    [
        (functions.leave_with, 3, "exited with status 3"),
        (functions.send_to_itself, signal.SIGSEGV, r"killed by signal 11 \(SIGSEGV\)"),
        (functions.send_to_itself, signal.SIGKILL, r"killed by signal 9 \(SIGKILL, as the system does where memory"),
    ],
)
def test_death_fails_its_item_only(
    crew: Crew, function: Callable[..., None], argument: int, reason: str, arrived: Path
) -> None:
    """The item is FAILED with how its helper has died; what waits runs in another one."""
    handle = crew.queue(function, argument)
    later = crew.queue(functions.nothing)
    assert handle.wait(PATIENCE)
    with pytest.raises(HelperDied, match=reason):
        raise handle.exception() or AssertionError
    assert later.wait(PATIENCE)
    assert later.status is S.SUCCEEDED


def test_death_is_seen_though_a_child_keeps_the_pipe(crew: Crew, arrived: Path) -> None:
    """The exit of the process counts, and not the end of its pipe."""
    handle = crew.queue(functions.die_beside_a_child, str(arrived))
    assert handle.wait(PATIENCE)
    os.kill(int(arrived.read_text()), signal.SIGKILL)
    with pytest.raises(HelperDied, match="status 7"):
        raise handle.exception() or AssertionError


def test_helper_that_says_nothing_any_more_is_killed(crew: Crew) -> None:
    """One that lives on without its pipe is of no use."""
    assert crew.run(functions.close_the_pipe) is S.FAILED
    until(lambda: crew.started[0].status is not None)
    assert crew.run(functions.nothing) is S.SUCCEEDED


def test_child_that_returns_is_nobodys_helper(crew: Crew) -> None:
    """An item that forks, and lets the child return, ends once."""
    handle = crew.queue(functions.fork_and_return)
    assert handle.wait(PATIENCE)
    assert handle.status is S.SUCCEEDED
    assert crew.run(functions.nothing) is S.SUCCEEDED


def test_idle_helper_that_dies_is_replaced(crew: Crew) -> None:
    """Nothing fails by it."""
    assert crew.run(functions.nothing) is S.SUCCEEDED
    os.kill(crew.started[0].pid, signal.SIGKILL)
    until(lambda: crew.started[0].status is not None)
    assert crew.run(functions.nothing) is S.SUCCEEDED
    assert len(crew.started) == 2


def test_item_that_kills_three_in_a_row_is_refused(crew: Crew, caplog: pytest.LogCaptureFixture) -> None:
    """It fails without being run, and is named; others are run."""
    assert [crew.run(functions.leave_with, 1) for _ in range(3)] == [S.FAILED] * 3
    name = f"{functions.leave_with.__module__}.leave_with"
    assert any(f"name={name} is refused for a minute" in message for message in caplog.messages)
    handle = crew.queue(functions.leave_with, 1)
    assert handle.wait(PATIENCE)
    with pytest.raises(HelperDied, match="was not run: 3 helper processes in a row"):
        raise handle.exception() or AssertionError
    assert crew.helpers.refusal(name)
    assert crew.run(functions.nothing) is S.SUCCEEDED


@pytest.mark.parametrize(("settings", "reason"), [("broken", "LookupError: no such settings"), ("dead", "status 4")])
def test_site_that_cannot_be_set_up_fails_the_item(hire: Hire, settings: str, reason: str) -> None:
    """The item says why; it is not left waiting."""
    crew = hire(settings=settings)
    handle = crew.queue(functions.nothing)
    assert handle.wait(PATIENCE)
    with pytest.raises(HelperDied, match=reason):
        raise handle.exception() or AssertionError


def test_no_zombie_is_left(crew: Crew) -> None:
    """Each helper is waited for, whether it has died or was ended."""
    crew.run(functions.leave_with, 1)
    crew.run(functions.nothing)
    crew.scheduler.retire()
    until(lambda: all(helper.status is not None for helper in crew.started))
    for helper in crew.started:
        with pytest.raises(ChildProcessError):
            os.waitpid(helper.pid, os.WNOHANG)


def test_helpers_run_beside_each_other(hire: Hire, tmp_path: Path) -> None:
    """Two items are in two helpers at once, and a third one waits."""
    crew = hire(workers=2)
    paths = [tmp_path / str(number) for number in range(3)]
    handles = [crew.queue(functions.heed, str(path)) for path in paths]
    until(lambda: sum(path.exists() for path in paths) == 2)
    assert sorted(handle.status for handle in handles) == [S.QUEUED, S.RUNNING, S.RUNNING]
    for handle in handles:
        handle.cancel()
        assert handle.wait(PATIENCE)
    assert {thread.name for thread in threading.enumerate() if thread.name.startswith("qbwi-helper")} == {
        f"qbwi-helper-{helper.pid}" for helper in crew.started
    }
