"""A site with the history: its checks, its page and its command, in a process that is no test run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connections
from django.test import override_settings

from django_qbwi.contrib.history.checks import check_database, check_table
from tests.contrib.history.conftest import ALIAS
from tests.support.scripts import CHECKOUT, PATIENCE, unexpected


def environ_of(place: Path) -> dict[str, str]:
    """Return the environment of a program of the site."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
        "DJANGO_SETTINGS_MODULE": "tests.contrib.history.site_settings",
        "PYTHONPATH": str(CHECKOUT),
        "PYTHONDEVMODE": "1",
        "QBWI_TEST_PLACE": str(place),
    }


@pytest.mark.slow
@pytest.mark.parametrize("use_tz", ["1", "0"])
def test_page_and_command(tmp_path: Path, use_tz: str) -> None:
    """What has failed is found by each filter and search, shown without its tricks, and changed by nobody."""
    environ = {**environ_of(tmp_path), "QBWI_TEST_USE_TZ": use_tz}
    command = [sys.executable, "-W", "error", "-m", "tests.contrib.history.site_program"]
    result = subprocess.run(command, env=environ, cwd=CHECKOUT, capture_output=True, text=True, timeout=PATIENCE)
    assert unexpected(result.stderr) == ""
    assert result.stdout == "done\n"


def test_database_of_a_test_run_is_fine() -> None:
    """It usually is in memory, and `manage.py test` checks it."""
    assert check_database(None) == []


def test_database_in_memory_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is gone with the process."""
    monkeypatch.setattr("django_qbwi.contrib.history.checks.servers.test_run", lambda argv: None)
    (error,) = check_database(None)
    assert (error.id, "in memory" in error.msg) == ("qbwi.E005", True)


@pytest.mark.usefixtures("database")
def test_database_that_stays_is_none() -> None:
    """With the table, or where nobody asks the database for it, there is nothing to report."""
    assert check_database(None) == []
    assert check_table(None, databases=[ALIAS]) == []
    assert check_table(None, databases=None) == []


@pytest.mark.usefixtures("database")
def test_hint_names_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a router; and `migrate` is not told to run itself."""
    table = "django_qbwi_history_historyentry"
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO elsewhere")
    (warning,) = check_table(None, databases=[ALIAS])
    assert warning.hint == f"Run `manage.py migrate django_qbwi_history --database {ALIAS}`."
    monkeypatch.setattr("sys.argv", ["manage.py", "migrate"])
    assert check_table(None, databases=[ALIAS]) == []
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(f"ALTER TABLE elsewhere RENAME TO {table}")


def test_command_without_the_app_says_how_to_have_it() -> None:
    """There is nothing to read."""
    from django.core.management import CommandError, call_command

    with override_settings(QBWI={}), pytest.raises(CommandError, match="INSTALLED_APPS"):
        call_command("qbwi", "history")


FORK = """
import os, time
import warnings
import django
django.setup()
import logging
logging.disable()
from django.core.management import call_command
from django.db import connections
from django_qbwi import hosting, queue_background_work_item
from django_qbwi.contrib.history.models import HistoryEntry

warnings.simplefilter("ignore", DeprecationWarning)
call_command("migrate", verbosity=0)

def fail(token):
    raise ValueError(os.getpid())

def write():
    assert queue_background_work_item(fail).wait(30)
    assert hosting.history().write(time.monotonic() + 30) == 0

write()
connections.close_all()
child = os.fork()
if not child:
    write()
else:
    assert os.waitpid(child, 0)[1] == 0
    write()
    pids = sorted(int(row.message) for row in HistoryEntry.objects.all())
    assert pids == sorted([os.getpid(), os.getpid(), child]), pids
    print("done")
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_forked_child_writes_its_own(tmp_path: Path) -> None:
    """By a thread and a connection of its own; the parent's goes on."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORK],
        env=environ_of(tmp_path),
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert unexpected(result.stderr) == ""
    assert (result.returncode, result.stdout) == (0, "done\n")
