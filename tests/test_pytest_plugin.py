"""The pytest plugin, in a pytest of its own: the fixtures, and the drain after each test."""

import importlib.metadata
import os
from pathlib import Path

import pytest

import django_qbwi

pytest_plugins = ["pytester"]

CHECKOUT = str(Path(django_qbwi.__file__).parent.parent)
INSTALLED = importlib.metadata.entry_points(group="pytest11", name="django_qbwi")
# In a checkout that is not installed, pytest has to be told of the plugin.
PLUGIN = () if INSTALLED else ("-p", "django_qbwi.pytest_plugin")
# It warns where it is not configured; tests/test_runners.py has a project for it.
WITHOUT = ("-p", "no:asyncio", "-p", "no:randomly", "-p", "no:cacheprovider")

SETTINGS = """
SECRET_KEY = "for the tests only"
USE_TZ = True
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django_qbwi"]
"""

IMPORTS = """
import threading
import pytest
from django_qbwi import queue_background_work_item
PATIENCE = 30
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder that knows of this package and of no settings."""
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [CHECKOUT, os.environ.get("PYTHONPATH")])))
    return pytester


@pytest.fixture
def site(project: pytest.Pytester) -> pytest.Pytester:
    """A folder with settings, where each pytest is a process of its own and every warning an error."""
    project.makepyfile(mysettings=SETTINGS)
    project.makeini("[pytest]\nDJANGO_SETTINGS_MODULE = mysettings\npythonpath = .\nfilterwarnings = error\n")
    return project


def run(site: pytest.Pytester, tests: str, *options: str) -> pytest.RunResult:
    """Run tests in a subprocess, in their order."""
    site.makepyfile(IMPORTS + tests)
    result = site.runpytest_subprocess(*PLUGIN, *WITHOUT, *options, timeout=60)
    result.stdout.no_fnmatch_line("*ResourceWarning*")
    assert result.stderr.str() == ""
    return result


def test_fixtures(site: pytest.Pytester) -> None:
    """`immediate_work_items`, `captured_work_items` and `drain_work_items` are there without an import."""
    result = run(
        site,
        """
ran = []

def item(token):
    ran.append(threading.current_thread())

def test_immediate(immediate_work_items):
    queue_background_work_item(item)
    assert ran.pop() is threading.current_thread()

def test_captured(captured_work_items):
    queue_background_work_item(item)
    assert ran == []
    captured_work_items.run_all()
    assert ran.pop() is threading.current_thread()

def test_drain(drain_work_items):
    queue_background_work_item(item)
    assert drain_work_items(PATIENCE)
    assert ran.pop() is not threading.current_thread()
""",
    )
    result.assert_outcomes(passed=3)


def test_g53_g54_options_by_marker(site: pytest.Pytester) -> None:
    """A marker gives the fixtures their options, the nearest one first."""
    result = run(
        site,
        """
pytestmark = pytest.mark.work_items(on_commit=True, waits="cancel")

from django_qbwi import queue_on_commit

seen = []

def item(token):
    seen.append(token.wait(60))

@pytest.mark.django_db
def test_immediate(immediate_work_items):
    queue_on_commit(item)
    assert seen.pop() is True

@pytest.mark.work_items(waits="skip")
@pytest.mark.django_db
def test_nearest(immediate_work_items):
    queue_on_commit(item)
    assert seen.pop() is False

def test_captured(captured_work_items):
    queue_background_work_item(item)
    captured_work_items.run_all()
    assert seen.pop() is True
""",
        "--strict-markers",
    )
    result.assert_outcomes(passed=3)


def test_items_end_before_the_database_is_closed(site: pytest.Pytester) -> None:
    """What a test leaves behind is waited for before its fixtures, and its database, are torn down."""
    result = run(
        site,
        """
from django.contrib.auth.models import Group

handles, seen = [], []

@pytest.fixture
def looks_at_its_end(transactional_db):
    yield
    seen.append((handles[0].status, Group.objects.count()))

@pytest.mark.django_db(transaction=True)
def test_leaves_an_item_behind(looks_at_its_end):
    def item(token):
        assert not token.wait(0.05)
        Group.objects.create(name="late")
    handles.append(queue_background_work_item(item))

def test_after_it():
    assert seen == [("succeeded", 1)]
""",
    )
    result.assert_outcomes(passed=2)


def test_item_that_does_not_end_is_warned_of(site: pytest.Pytester) -> None:
    """An item that outlives its test by too long is abandoned with a warning, and the next test starts clean."""
    site.makeconftest("from django_qbwi import pytest_plugin\npytest_plugin._DRAIN_SECONDS = 0.05\n")
    result = run(
        site,
        """
release = threading.Event()

def test_leaves_an_item_behind():
    queue_background_work_item(lambda token: release.wait(PATIENCE))

def test_after_it():
    release.set()
    assert queue_background_work_item(lambda token: None).wait(PATIENCE)
""",
        "-W",
        "default::pytest.PytestWarning",
    )
    result.assert_outcomes(passed=2, warnings=1)
    result.stdout.fnmatch_lines(["*work items of this test did not end within*"])


LEAVES = """
release = threading.Event()

def test_leaves_an_item_behind({fixture}):
    queue_background_work_item(lambda token: token.wait(PATIENCE), name="left behind")

def test_leaves_none():
    assert queue_background_work_item(lambda token: None).wait(PATIENCE)
"""


def test_leftover_fails_by_the_ini_option(site: pytest.Pytester) -> None:
    """With `qbwi_fail_on_leftover = true` each test that leaves items is an error, which names them."""
    result = run(site, LEAVES.format(fixture=""), "-o", "qbwi_fail_on_leftover=true")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        ["*ERROR at teardown of test_leaves_an_item_behind*", "1 work item left after 0.5 s:", "- left behind id=*"]
    )
    result.stdout.fnmatch_lines(["  It is at:", "*in <lambda>*"])


def test_leftover_fails_by_the_fixture(site: pytest.Pytester) -> None:
    """The fixture does so for one test; its value looks at once."""
    tests = """
def test_looks(no_work_items_left):
    no_work_items_left()
    held = threading.Event()
    queue_background_work_item(lambda token: held.wait(PATIENCE))
    with pytest.raises(AssertionError):
        no_work_items_left(0)
    held.set()
    no_work_items_left(PATIENCE)
"""
    result = run(site, LEAVES.format(fixture="no_work_items_left") + tests)
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_leaves_an_item_behind*", "1 work item left after 0.5 s:"])


def test_leftover_is_cancelled_without_them(site: pytest.Pytester) -> None:
    """Else it is ended without a word."""
    run(site, LEAVES.format(fixture="")).assert_outcomes(passed=2)


def test_fixtures_are_torn_down_behind_a_leftover(site: pytest.Pytester) -> None:
    """The error comes last: what the test has opened is closed all the same."""
    result = run(
        site,
        """
closed = []

@pytest.fixture
def opened(transactional_db):
    yield
    closed.append(True)

def test_leaves_an_item_behind(opened, no_work_items_left):
    queue_background_work_item(lambda token: token.wait(PATIENCE))

def test_after_it():
    assert closed == [True]
""",
    )
    result.assert_outcomes(passed=2, errors=1)


def test_simulated_shutdown(site: pytest.Pytester) -> None:
    """The fixture is the function, and its error shows the test's own line."""
    result = run(
        site,
        """
def test_obeys(simulate_shutdown):
    handle = queue_background_work_item(lambda token: token.wait(PATIENCE))
    assert simulate_shutdown().finished == [handle]

def test_ignores(simulate_shutdown):
    held = threading.Event()
    queue_background_work_item(lambda token: held.wait(PATIENCE), name="deaf")
    try:
        simulate_shutdown(timeout=0.2)
    finally:
        held.set()
""",
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines([">*simulate_shutdown(timeout=0.2)", "E*1 work item did not honour the token*"])


def test_no_item_no_drain(site: pytest.Pytester) -> None:
    """Tests without items are left alone: no thread is started."""
    result = run(
        site,
        """
import threading

def test_nothing():
    assert [thread for thread in threading.enumerate() if thread.name.startswith("qbwi")] == []

def test_still_nothing():
    test_nothing()
""",
    )
    result.assert_outcomes(passed=2)


def test_project_without_django(project: pytest.Pytester) -> None:
    """In a project without Django the plugin does nothing, and imports nothing."""
    project.makepyfile(
        """
import sys

def test_nothing():
    assert not {"django", "asgiref"} & set(sys.modules)
    assert "django_qbwi.pytest_plugin" in sys.modules
"""
    )
    options = [*PLUGIN, *WITHOUT, "-p", "no:django", "-p", "no:anyio"]
    result = project.runpytest_subprocess(*options, timeout=60)
    result.assert_outcomes(passed=1)


LOGGING = """
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"django_qbwi": {"handlers": ["console"], "level": "INFO"}},
}
"""


@pytest.mark.parametrize("work_item", ["lambda token: None", "asynchronous"])
def test_g40_documented_logging_says_nothing_after_the_tests(site: pytest.Pytester, work_item: str) -> None:
    """G40: the handler's stream is closed when pytest ends, and the exit of the process has nothing to write to it."""
    site.makepyfile(mysettings=SETTINGS + LOGGING)
    result = run(
        site,
        f"""
async def asynchronous(token):
    pass

def test_it():
    handle = queue_background_work_item({work_item})
    assert handle.wait(PATIENCE)
    assert handle.status == "succeeded"
        """,
    )
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*Logging error*")
