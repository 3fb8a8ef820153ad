"""Real processes that try for the same ticks at the same moment, and the migration of their table."""

from __future__ import annotations

import collections
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 60
PROCESSES, SCHEDULES, TICKS = 5, 3, 30
START = 1_780_000_000

MIGRATE = """
import json, sys
import django
from django.conf import settings
from django.core.management import call_command
settings.configure(
    SECRET_KEY="x",
    DATABASES={"default": json.loads(sys.argv[1])},
    INSTALLED_APPS=["django_qbwi", "django_qbwi.contrib.schedules"],
)
django.setup()
"""
UP = """
call_command("makemigrations", check=True, dry_run=True, verbosity=0)
call_command("check", databases=["default"], fail_level="ERROR", verbosity=0)
call_command("migrate", verbosity=0)
call_command("check", databases=["default"], fail_level="WARNING")
"""
DOWN = """
call_command("migrate", "django_qbwi_schedules", "zero", verbosity=0)
call_command("check", databases=["default"], fail_level="ERROR")
"""


def migrate(database: dict[str, Any], what: str) -> str:
    """Run commands; return what they write."""
    command = [sys.executable, "-W", "error", "-c", MIGRATE + what, json.dumps(database)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


@pytest.fixture
def migrated(settings_of_database: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Make the table by its migration."""
    assert migrate(settings_of_database, UP).startswith("System check identified no issues")
    yield settings_of_database
    assert "(qbwi.W020)" in migrate(settings_of_database, DOWN)


@pytest.fixture
def processes(migrated: dict[str, Any]) -> Iterator[list[subprocess.Popen[str]]]:
    """Start the processes of a site."""
    command = [sys.executable, "-W", "error", "-m", "tests.contrib.schedules.race_program"]
    command += [json.dumps(migrated), str(SCHEDULES)]
    made = [
        subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(PROCESSES)
    ]
    try:
        yield made
    finally:
        for process in made:
            process.kill()
            process.communicate(timeout=PATIENCE)


def ask(processes: list[subprocess.Popen[str]], line: str) -> list[list[str]]:
    """Tell all of them what time it is, at once; return what each has started."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
    return [answer(process) for process in processes]


def answer(process: subprocess.Popen[str]) -> list[str]:
    """Return the words of its next line."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate(timeout=PATIENCE)[1]
    return line.split()


def test_each_tick_runs_in_exactly_one_process(processes: list[subprocess.Popen[str]]) -> None:
    """Five processes race for thirty ticks of three schedules: each is started once."""
    assert [answer(process) for process in processes] == [["ready"]] * PROCESSES
    assert ask(processes, str(START)) == [[]] * PROCESSES
    runs: collections.Counter[int] = collections.Counter()
    for tick in range(1, TICKS + 1):
        started = ask(processes, str(START + 60 * tick))
        assert sorted(name for names in started for name in names) == ["it0", "it1", "it2"]
        runs.update(number for number, names in enumerate(started) for _ in names)
    assert sum(runs.values()) == TICKS * SCHEDULES
    for process in processes:
        _, errors = process.communicate("\n", timeout=PATIENCE)
        assert (process.returncode, errors) == (0, "")
