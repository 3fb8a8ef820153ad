"""The lives of helpers: their ends, with and without their parent, and their starts behind deaths."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from django_qbwi.core.exceptions import HelperDied
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.executors.processes import deaths, executor
from django_qbwi.executors.processes import process as process_module
from django_qbwi.executors.processes.process import HelperProcess, Setup
from django_qbwi.executors.processes.python import find_python
from tests.executors.processes import functions
from tests.executors.processes.crew import SITE, Crew
from tests.support.clock import FakeClock
from tests.support.gates import PATIENCE, until
from tests.support.scripts import CHECKOUT

S = WorkItemStatus
Hire = Callable[..., Crew]
pytestmark = pytest.mark.skipif(not hasattr(os, "posix_spawn"), reason="helper processes need POSIX")

PARENT = """
import os, sys, threading
from django_qbwi.core.cancellation import CancellationToken
from tests.executors.processes.crew import Crew
from tests.executors.processes import functions
from tests.support.gates import until

crew = Crew()
if sys.argv[1] != "idle":
    crew.queue(getattr(functions, sys.argv[1]), sys.argv[2])
    until(lambda: os.path.exists(sys.argv[2]))
else:
    crew.run(functions.nothing)
print(crew.started[0].pid, flush=True)
{}
"""
WAIT = "threading.Event().wait()"
RETIRE = "crew.retire()"


def run_parent(last_line: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a parent with one helper, which has its output, too."""
    environ = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-c", PARENT.replace("{}", last_line), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ, start_new_session=True)


@pytest.mark.parametrize("function", ["idle", "ignore", "burn"])
def test_helper_ends_with_its_killed_parent(function: str, tmp_path: Path) -> None:
    """SIGKILL of the parent ends it too, while it waits, and while it burns in code of C."""
    with run_parent(WAIT, function, str(tmp_path / "arrived")) as parent:
        assert parent.stdout is not None
        assert int(parent.stdout.readline())
        parent.kill()
        # Both have this pipe: its end is the end of both.
        assert select.select([parent.stdout], [], [], PATIENCE)[0]
        assert parent.stdout.read() == ""


def test_ctrl_c_of_the_terminal_is_the_parents(tmp_path: Path) -> None:
    """A signal for the parent's process group does not reach the helper."""
    arrived = tmp_path / "arrived"
    with run_parent(WAIT, "ignore", str(arrived)) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert os.getpgid(pid) != os.getpgid(parent.pid)
        assert os.getsid(pid) == pid
        parent.kill()


def test_helper_ends_when_it_is_told(tmp_path: Path) -> None:
    """A parent that ends in good order lets its helper end so, too."""
    with run_parent(RETIRE, "idle") as parent:
        assert parent.communicate(timeout=PATIENCE)[0].count("\n") == 1
    assert parent.returncode == 0


def test_retired_helper_exits_by_itself(crew: Crew) -> None:
    """The hooks of its own exit run."""
    assert crew.run(functions.nothing) is S.SUCCEEDED
    crew.scheduler.retire()
    assert crew.scheduler.join(PATIENCE)
    assert crew.started[0].status == 0


def test_one_that_does_not_end_is_killed(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    """The farewell is short."""
    monkeypatch.setattr(executor, "_FAREWELL_SECONDS", 0.01)
    assert crew.run(functions.nothing) is S.SUCCEEDED
    os.kill(crew.started[0].pid, signal.SIGSTOP)
    crew.scheduler.retire()
    assert crew.scheduler.join(PATIENCE)
    until(lambda: crew.started[0].status is not None)
    assert "SIGKILL" in crew.started[0].reason


def test_start_behind_deaths_waits_in_the_queue(hire: Hire) -> None:
    """While the next helper may not start yet, an item waits, and can be cancelled; then it runs."""
    clock = FakeClock()
    crew = hire(clock=clock)
    assert [crew.run(functions.leave_with, 1) for _ in range(2)] == [S.FAILED] * 2
    handle = crew.queue(functions.nothing)
    until(lambda: crew.helpers._resting)
    assert (handle.status, len(crew.started)) == (S.QUEUED, 2)
    clock.advance(0.25)
    crew.look_at_clock()
    assert handle.wait(PATIENCE)
    assert (handle.status, len(crew.started)) == (S.SUCCEEDED, 3)


def test_end_of_the_process_does_not_wait_for_a_late_start(hire: Hire) -> None:
    """A worker that waits for its next helper ends with the others."""
    crew = hire(clock=FakeClock())
    assert [crew.run(functions.leave_with, 1) for _ in range(2)] == [S.FAILED] * 2
    handle = crew.queue(functions.nothing)
    until(lambda: crew.helpers._resting)
    handle.cancel()
    crew.scheduler.retire()
    assert crew.scheduler.join(PATIENCE)


@pytest.mark.slow
def test_storm_of_deaths(hire: Hire, monkeypatch: pytest.MonkeyPatch) -> None:
    """Helpers that are killed at any moment leave each item with one ending, and no other trace."""
    monkeypatch.setattr(deaths, "_LONGEST_SECONDS", 0.001)
    crew = hire(workers=2, max_items=5)
    calls = [(functions.nothing, ()), (functions.leave_with, (1,)), (functions.fail, (ValueError(),))] * 10
    handles = [crew.queue(function, *args, name=str(number)) for number, (function, args) in enumerate(calls)]
    for handle in handles[::4]:
        handle.add_done_callback(lambda handle: [helper.kill() for helper in list(crew.started)[-2:]])
    assert all(handle.wait(PATIENCE) for handle in handles)
    crew.await_empty()
    assert sum(crew.scheduler.totals.values()) == len(handles)
    assert sorted(item.name for name, item, _ in crew.observer.events if name == "finished") == sorted(
        handle.name for handle in handles
    )


def test_system_that_starts_no_process_fails_the_item(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    """The item says why, and nothing is left open."""
    monkeypatch.setattr(process_module.os, "posix_spawn", _no_process)
    handle = crew.queue(functions.nothing)
    assert handle.wait(PATIENCE)
    with pytest.raises(HelperDied, match=r"no helper process could be started: .*no more"):
        raise handle.exception() or AssertionError


def _no_process(*args: object, **options: object) -> int:
    raise OSError("no more")


def test_forked_child_owns_no_helper(crew: Crew, tmp_path: Path) -> None:
    """What it inherits is closed there, and the helper lives on with its parent."""
    assert crew.run(functions.nothing) is S.SUCCEEDED
    pid = os.fork()
    if not pid:
        status = 1
        try:
            crew.scheduler.after_fork_in_child()
            helper = crew.started[0]
            helper.kill()
            assert not crew.helpers._helpers
            for fd in (helper._to, helper._from, helper._life):
                try:
                    os.fstat(fd)
                except OSError:
                    continue
                os._exit(2)
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert crew.run(functions.nothing) is S.SUCCEEDED
    assert len(crew.started) == 1


def test_exit_status_that_somebody_else_has_taken(tmp_path: Path) -> None:
    """A server that waits for all children leaves a helper's exit unknown, and nothing else."""
    helper = HelperProcess(Setup(settings="", site=SITE, nice=0))
    helper.await_ready()
    helper._reap(999_999_999)
    assert "somebody else has waited for it" in helper.reason
    helper.status = None
    helper.end()
    assert helper.wait(PATIENCE)


# Which Python.


def test_python_is_that_of_the_environment() -> None:
    """The one that runs here."""
    assert find_python() == sys.executable


def test_embedded_python_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the program is a server, as with uWSGI, that of the environment is taken."""
    monkeypatch.setattr(sys, "executable", "/usr/sbin/uwsgi")
    found = find_python()
    assert os.path.dirname(found) == os.path.join(sys.prefix, "bin")
    assert os.path.basename(found).startswith("python")


def test_given_python_is_the_only_one() -> None:
    """A path that is wrong is named, with the setting."""
    with pytest.raises(FileNotFoundError, match=r'/no/python\): set QBWI\["PROCESS_PYTHON"\]'):
        find_python("/no/python")
