"""What killed processes had is told by the next one."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60
MODULE = "__main__"


def play(directory: Path, what: str) -> subprocess.CompletedProcess[str]:
    """Run one process to its end."""
    command = [sys.executable, "-m", "tests.crash_report.program", str(directory), what]
    return subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)


def crash(directory: Path, what: str = "crash") -> None:
    """Have one killed."""
    result = play(directory, what)
    assert result.returncode == -signal.SIGKILL, result.stderr


def test_killed_process(tmp_path: Path) -> None:
    """Each item that it had is told once, with a record and by the signal, those that had ended are not."""
    crash(tmp_path)
    (left,) = tmp_path.iterdir()
    result = play(tmp_path, "tell")
    assert result.returncode == 0, result.stderr
    heard = json.loads(result.stdout)
    pid = int(left.name.split("-")[0])
    assert sorted((item["name"], item["ran"], item["pid"]) for item in heard) == [
        (f"{MODULE}.again", False, pid),
        (f"{MODULE}.guilty", True, pid),
        (f"{MODULE}.guilty", True, pid),
        (f"{MODULE}.on_the_loop", True, pid),
        (f"{MODULE}.patient", False, pid),
    ]
    lost = re.findall(r"^ERROR Work item id=(\S+) name=(\S+) was lost: process (\d+) ", result.stderr, re.MULTILINE)
    assert sorted(name for _, name, _ in lost) == sorted(item["name"] for item in heard)
    assert len({ident for ident, _, _ in lost}) == 5
    # Read once.
    assert json.loads(play(tmp_path, "tell").stdout) == []


def test_end_in_good_order(tmp_path: Path) -> None:
    """It leaves nothing."""
    assert play(tmp_path, "end").returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_three_crashes_in_a_row(tmp_path: Path) -> None:
    """What ran at each of them is named, what waited is not."""
    for round_number in range(3):
        crash(tmp_path)
        errors = play(tmp_path, "tell").stderr
        suspects = re.findall(r"name=(\S+) ran at each of the last 3 crashes", errors)
        assert suspects == ([] if round_number < 2 else [f"{MODULE}.guilty", f"{MODULE}.on_the_loop"])


def test_processes_that_are_killed_together(tmp_path: Path) -> None:
    """They are one crash: three workers of a container that is stopped say nothing of what they ran."""
    command = [sys.executable, "-m", "tests.crash_report.program", str(tmp_path), "crash"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with ExitStack() as stack:
        workers = [stack.enter_context(subprocess.Popen(command, cwd=ROOT, text=True, **pipes)) for _ in range(3)]
        for worker in workers:
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            worker.stdin.close()
    result = play(tmp_path, "tell")
    assert len(json.loads(result.stdout)) == 15
    assert "likely cause" not in result.stderr


def test_forked_process(tmp_path: Path) -> None:
    """The child has a file of its own, and neither takes the parent's away nor keeps it."""
    crash(tmp_path, "fork")
    assert len(list(tmp_path.iterdir())) == 1
    assert [item["name"] for item in json.loads(play(tmp_path, "tell").stdout)] == [f"{MODULE}.guilty"]


@pytest.mark.parametrize("what", ["file", "missing"])
def test_directory_that_cannot_be(tmp_path: Path, what: str) -> None:
    """Items run all the same, and nothing is said but at DEBUG."""
    directory = tmp_path / "file"
    directory.write_text("")
    result = play(directory if what == "file" else Path("/proc/qbwi-is-not-there"), "end")
    assert result.returncode == 0
    assert "crash report" not in result.stderr


def test_full_disk(tmp_path: Path) -> None:
    """No page is promised that the disk has no room for: a later write would kill the process (SIGBUS)."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); import runpy, sys; "
    run = f"sys.argv = ['program', {str(tmp_path)!r}, 'end']; runpy.run_module('tests.crash_report.program')"
    # Python's own files of compiled code would be too large as well.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", limit + run], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    assert result.returncode == 0, result.stderr
    assert list(tmp_path.iterdir()) == []
