"""The users' own test suites work on day one, under Django's runner and under pytest."""

import importlib.metadata
import multiprocessing
import os
import re
import subprocess
import sys
from pathlib import Path

import django

HERE = Path(__file__).parent
CHECKOUT = HERE.parent.parent
CURES = ("IMMEDIATE", "immediate_work_items()", "TransactionTestCase")
INSTALLED = importlib.metadata.entry_points(group="pytest11", name="django_qbwi")
PLUGIN = () if INSTALLED else ("-p", "django_qbwi.pytest_plugin")


def run(*command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a suite in a process of its own, where every warning is an error but the one of a user."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "PYTEST_"))}
    result = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-W", "always::UserWarning", *command],
        capture_output=True,
        text=True,
        timeout=90,
        cwd=CHECKOUT,
        env={**inherited, **environ},
    )
    assert "ResourceWarning" not in result.stdout + result.stderr
    assert "never awaited" not in result.stdout + result.stderr
    assert result.returncode == 0, result.stdout + result.stderr
    return result


def run_django(*suites: str, options: tuple[str, ...] = (), settings: str = "settings", **environ: str) -> str:
    """Run test cases by `manage.py test`, and return what they printed but the runner's report."""
    labels = [f"tests.day_one.suite.{suite}" for suite in suites]
    result = run("-m", "django", "test", *labels, *options, f"--settings=tests.day_one.{settings}", **environ)
    # In development mode asyncio tells of a loop that stands still, as it does while an item runs at the call.
    slow = r"Executing <[^\n]+> took [\d.]+ seconds\n"
    report = r"(?s)[.]+\n-{70}\nRan \d+ tests? in [\d.]+s\n\nOK\n|((Creat|Destroy)ing|Found)[^\n]+\.\.\.\n"
    return re.sub(report, "", re.sub(slow, "", result.stderr))


def run_pytest(*tests: str) -> str:
    """Run tests by pytest, and return its output."""
    options = ["-c", str(HERE / "suite.ini"), "-p", "no:randomly", "-p", "no:cacheprovider", "-W", "error"]
    paths = [f"{HERE / 'pytest_suite.py'}::{test}" for test in tests]
    result = run(
        "-m",
        "pytest",
        *PLUGIN,
        "-p",
        "no:asyncio",
        *options,
        "-W",
        "always::UserWarning",
        *paths,
        PYTHONPATH=str(CHECKOUT),
    )
    assert result.stderr == ""
    return result.stdout


def test_django_suites_with_a_cure() -> None:
    """With IMMEDIATE, `immediate_work_items` or `captured_work_items`, Django's runner prints only its report."""
    assert run_django("ImmediateSettingTests", "ImmediateBlockTests", "CapturedTests") == ""


def test_pytest_suite_with_a_cure() -> None:
    """The same with pytest-django: the tests pass without a warning; so does a transactional one that drains."""
    printed = run_pytest(
        "test_immediate_setting", "test_immediate_fixture", "test_captured_fixture", "test_transaction"
    )
    assert re.search(r"\n=+ 4 passed in [\d.]+s =+\n$", printed)


def test_django_suite_with_default_settings() -> None:
    """With the default settings the suite passes; exactly one warning names the cures, before any error does."""
    printed = run_django("DefaultTests")
    assert printed.count("WorkItemWarning") == 1, printed
    warning = printed.index("WorkItemWarning")
    assert all(cure in printed[warning:] for cure in CURES)
    assert "locked" not in printed[: printed.index("may find a table locked")]


def test_pytest_suite_with_default_settings() -> None:
    """The same with pytest-django: one warning in its summary."""
    printed = run_pytest("test_default")
    assert printed.count("WorkItemWarning") == 1, printed
    assert re.search(r"\n=+ 1 passed, 1 warning in [\d.]+s =+\n$", printed)
    assert all(cure in printed for cure in CURES)


def test_django_suite_with_a_database_in_a_file(tmp_path: Path) -> None:
    """A TransactionTestCase on a database in a file runs items in their threads, and its database can be dropped."""
    database = str(tmp_path / "db.sqlite3")
    assert run_django("FileDatabaseTests", settings="file_settings", DAY_ONE_DATABASE=database) == ""
    assert list(tmp_path.iterdir()) == []


def test_django_suite_in_parallel(tmp_path: Path) -> None:
    """`manage.py test --parallel` forks, or spawns, processes whose items work as well."""
    suites = ("ImmediateSettingTests", "ImmediateBlockTests")
    if multiprocessing.get_start_method() != "fork" and django.VERSION < (6, 1):
        # Where the processes are not forked, these clone no database but one in memory.
        run_django(*suites, options=("--parallel=2",))
        return
    database = str(tmp_path / "db.sqlite3")
    run_django(*suites, options=("--parallel=2",), settings="file_settings", DAY_ONE_DATABASE=database)
