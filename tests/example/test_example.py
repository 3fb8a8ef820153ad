"""The example site keeps its promises: its own tests pass, and the tour ends with everything finished or saved."""

import contextlib
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60  # seconds until a test gives up

pytestmark = pytest.mark.processes


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The environment of a fresh site with its own folder."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    inherited = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    return {**inherited, "EXAMPLE_VAR": str(tmp_path), "PYTHONPATH": path, "PYTHONDEVMODE": ""}


def test_the_tests_of_the_example_pass(environ: dict[str, str]) -> None:
    """A user's test suite of Django's kind works, and leaves nothing on stderr but the runner's report."""
    command = [sys.executable, "-m", "django", "test", "example_project"]
    result = subprocess.run(
        [*command, "--settings=example_project.settings"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert result.returncode == 0, result.stderr
    assert "OK" in result.stderr
    assert "Traceback" not in result.stderr
    assert "Warning" not in result.stderr


@pytest.mark.parametrize("settings", ["settings", "settings_durable", "settings_huey"])
def test_no_migration_is_missing(environ: dict[str, str], settings: str) -> None:
    """The models and the migrations agree, and the checks find nothing, from any folder."""
    manage = [sys.executable, str(ROOT / "example_project" / "manage.py")]
    environ["DJANGO_SETTINGS_MODULE"] = f"example_project.{settings}"
    for arguments in (["makemigrations", "--check"], ["check", "--fail-level", "WARNING"]):
        result = subprocess.run(
            [*manage, *arguments],
            cwd="/",
            env={**environ, "PYTHONPATH": ""},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert result.returncode == 0, result.stdout + result.stderr


class RunningTour:
    """The tour in a process group of its own, as in a terminal, and what it has printed so far."""

    def __init__(self, environ: dict[str, str], *options: str, module: str = "tour") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"example_project.{module}", "--port", "0", *options],
            cwd=ROOT,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        # A tour that hangs ends the test, with all that it started.
        self.guard = threading.Timer(2 * PATIENCE, self.kill)
        self.guard.start()

    def kill(self) -> None:
        """End everything, at once."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def read_until(self, pattern: str) -> str:
        """Read lines up to one that matches, and return it."""
        for line in self.process.stdout:
            self.lines.append(line)
            if re.search(pattern, line):
                return line
        pytest.fail(f"{pattern!r} was never printed:\n{self.output}")

    def read_to_the_end(self) -> int:
        """Read the rest and return the exit code."""
        self.lines += self.process.stdout
        return self.process.wait(PATIENCE)

    @property
    def output(self) -> str:
        """All lines so far."""
        return "".join(self.lines)


@pytest.fixture
def tour(environ: dict[str, str], request: pytest.FixtureRequest) -> Iterator[RunningTour]:
    """Start the tour with the options of the parameter."""
    yield from started(RunningTour(environ, *getattr(request, "param", ())))


@pytest.fixture
def durable_tour(environ: dict[str, str], request: pytest.FixtureRequest) -> Iterator[RunningTour]:
    """Start the tour of the hand-off, with the options of the parameter."""
    yield from started(RunningTour(environ, *getattr(request, "param", ()), module="tour_durable"))


def started(running: RunningTour) -> Iterator[RunningTour]:
    """Lend a tour, and leave nothing of it behind."""
    yield running
    running.guard.cancel()
    running.guard.join()
    running.kill()
    running.process.wait()
    running.process.stdout.close()


def assert_that_everything_ended_well(tour: RunningTour) -> None:
    """Each of the seven items has finished or saved, and says so."""
    assert "Traceback" not in tour.output
    assert "ERROR" not in tour.output
    assert re.search(r"Counted to \d+ of 25, saved because of: shutdown, with 8\d\.\d s left", tour.output)
    assert re.search(r"Counted to 10 of 10, with \d\d\.\d s left", tour.output)
    assert len(re.findall(r"name=make thumbnails status=succeeded", tour.output)) == 2
    for name in ("send postcard", "mail", "album", "count to 10, to the end"):
        assert f"name={name} status=succeeded" in tour.output
    assert "name=count to 25 status=cancelled" in tour.output


@pytest.mark.parametrize("tour", [("--seconds", "0.5")], indirect=True)
def test_the_tour_ends_by_itself(tour: RunningTour) -> None:
    """With `--seconds` the tour stops gunicorn by SIGTERM and returns its exit code."""
    assert tour.read_to_the_end() == 0, tour.output
    assert_that_everything_ended_well(tour)


def test_ctrl_c_shows_the_drain(tour: RunningTour) -> None:
    """Ctrl-C reaches the whole group, as in a terminal; the tour stays until the last item has ended."""
    tour.read_until("Then press Ctrl-C")
    os.killpg(tour.process.pid, signal.SIGINT)
    assert tour.read_to_the_end() == 0, tour.output
    assert_that_everything_ended_well(tour)
    assert tour.output.index("status=succeeded") < tour.output.index("gunicorn has ended with exit code 0")


def test_sigterm_is_passed_on(tour: RunningTour) -> None:
    """A SIGTERM to the tour alone, as a supervisor sends it, ends gunicorn in the same way."""
    tour.read_until("Then press Ctrl-C")
    tour.process.terminate()
    assert tour.read_to_the_end() == 0, tour.output
    assert_that_everything_ended_well(tour)


def test_a_second_ctrl_c_forces_the_end(tour: RunningTour) -> None:
    """An item that wants to go on is cancelled where it awaits, and still saves how far it got."""
    tour.read_until("Then press Ctrl-C")
    os.killpg(tour.process.pid, signal.SIGINT)
    tour.read_until("WARNING Waiting up to .* for: count to 10, to the end")
    os.killpg(tour.process.pid, signal.SIGINT)
    assert tour.read_to_the_end() == 0, tour.output
    assert re.search(r"Counted to \d of 10, saved because of: shutdown", tour.output)


def test_the_durable_tour_hands_off(durable_tour: RunningTour) -> None:
    """What gunicorn is stopped in the middle of moves to the worker under its id, which finishes all of it."""
    assert durable_tour.read_to_the_end() == 0, durable_tour.output
    output = durable_tour.output
    assert "Traceback" not in output
    assert "ERROR" not in output
    assert re.search(r"Drained in .*: 0 finished, 0 cancelled, 0 abandoned, 0 discarded, 4 handed off", output), output
    moved = re.findall(r"id=(\w+) name=count on to 6 status=handed_off elapsed=\S+ 'durable' as (\w+)", output)
    assert len(moved) == 4
    assert all(here == there for here, there in moved)
    ended = re.findall(r"id=(\w+) name=count on to 6 status=succeeded", output)
    assert sorted(ended) == sorted(here for here, _ in moved)
    assert "tour: 4 of 4 counts have moved to the worker" in output
    assert "tour: The worker has finished all of them." in output


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
@pytest.mark.parametrize("durable_tour", [("--engine", "huey")], indirect=True)
def test_the_durable_tour_hands_off_to_huey(durable_tour: RunningTour) -> None:
    """The same with a worker of huey: what it gets, under ids of its own, is finished there."""
    assert durable_tour.read_to_the_end() == 0, durable_tour.output
    output = durable_tour.output
    assert "Traceback" not in output
    assert "ERROR" not in output
    moved = re.findall(r"name=count on to 6 status=handed_off elapsed=\S+ 'durable' as (\S+)", output)
    assert len(moved) == 4
    ended = re.findall(r"id=(\w+) name=count on to 6 status=succeeded", output)
    assert sorted(ended) == sorted(engine_id.replace("-", "") for engine_id in moved)
    assert "tour: The worker has finished all of them." in output


TOX = """
import signal, subprocess, sys
signal.signal(signal.SIGINT, lambda *args: print("tox was interrupted", flush=True))
code = subprocess.call([sys.executable, "-m", "example_project.tour", "--port", "0"])
print("tox evaluates", code, flush=True)
"""


def test_g43_tox_does_not_hear_of_the_ctrl_c(environ: dict[str, str]) -> None:
    """G43: in a terminal one Ctrl-C is the tour's and the server's alone, and whoever started them sees it end well."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execve(sys.executable, [sys.executable, "-c", TOX], environ)
    guard = threading.Timer(2 * PATIENCE, os.kill, (pid, signal.SIGKILL))
    guard.start()
    output = ""
    try:
        # Reading fails when the last one has closed the other side.
        with contextlib.suppress(OSError):
            while chunk := os.read(terminal, 65_536):
                output += chunk.decode()
                if "Then press Ctrl-C" in output and "\x03" not in output:
                    output += "\x03"
                    os.write(terminal, b"\x03")
    finally:
        guard.cancel()
        guard.join()
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
    assert (os.waitstatus_to_exitcode(status), "tox evaluates 0" in output) == (0, True), output
    assert "tox was interrupted" not in output
    # G39: the person in front of it is told at once, though the process is one of gunicorn's workers.
    assert re.search(r"Waiting up to \d+s for: .*Press Ctrl-C again to end it now\.", output), output
