"""When the channel of a process opens, and what stands in its way."""

import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_started
from django.test import override_settings

from django_qbwi import checks, conf, hosting, queue_background_work_item
from django_qbwi.hosting import visibility
from django_qbwi.hosting.identity import sites
from django_qbwi.inspection.places import AbstractPlace
from tests.inspection.conftest import FORGED_LINES, bound

PATIENCE = 30


class Unreachable(AbstractPlace):
    """A system that allows no such sockets."""

    def listen(self, site: str, pid: int) -> Any:
        raise PermissionError("no sockets here")


@pytest.fixture
def here(outside_of_tests: None) -> Iterator[hosting.Process]:
    """Return the state of this process, which for once does not behave as under test; its channel is closed at last."""
    with override_settings(QBWI={}, SECRET_KEY=f"a key of this run {os.getpid()}"):
        process = hosting.this_process()
        yield process
        if process.visibility.publisher is not None:
            process.visibility.publisher.close(PATIENCE)
            process.visibility.publisher = None


def listening() -> list[int]:
    """Return the pids that listen for this site."""
    return [address.pid for address in AbstractPlace().find([sites()[0].name]).addresses]


def queue_and_wait(here: hosting.Process) -> None:
    """Run an item, and all that its start has set off."""
    assert queue_background_work_item(lambda token: None, name="first").wait(PATIENCE)
    assert here.current.reporter.flush(PATIENCE)


def test_first_item_opens_the_channel(here: hosting.Process) -> None:
    """Before it nothing listens."""
    before = listening()
    queue_and_wait(here)
    assert (before, listening()) == ([], [os.getpid()])


def test_first_request_opens_the_channel(here: hosting.Process) -> None:
    """Idle processes are listed too. (The handler itself would also look at this thread's connections.)"""
    host = here.host
    try:
        hosting._on_request_started(sender=WSGIHandler, environ={})
        assert listening() == [os.getpid()]
    finally:
        here._set_host(host)
        request_started.connect(hosting._on_request_started, dispatch_uid="django_qbwi.hosting")


def test_channel_opens_once(here: hosting.Process) -> None:
    """However many requests and items there are."""
    for _ in range(3):
        here.open_channel()
    assert listening() == [os.getpid()]


def test_setting_switches_it_off(here: hosting.Process) -> None:
    """QBWI["INSPECTION"] = False: nobody can look into this process."""
    with override_settings(QBWI={"INSPECTION": False}):
        queue_and_wait(here)
        assert (listening(), here.visibility.publisher) == ([], None)


@pytest.mark.parametrize(
    "hindrance",
    [
        pytest.param(lambda: Unreachable(), id="sockets"),
        pytest.param(lambda: None, id="system"),
    ],
)
def test_items_run_without_a_channel(
    here: hosting.Process,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    hindrance: Callable[[], Any],
) -> None:
    """F43: no error, and nothing above DEBUG."""
    monkeypatch.setattr(visibility, "find_place", hindrance)
    with caplog.at_level(logging.DEBUG, "django_qbwi.inspection"):
        queue_and_wait(here)
    assert (here.visibility.publisher, {record.levelname for record in caplog.records} - {"DEBUG"}) == (None, set())


def test_hindrance_is_one_debug_line(
    here: hosting.Process, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """F43: with the reason."""
    monkeypatch.setattr(visibility, "find_place", Unreachable)
    with caplog.at_level(logging.DEBUG, "django_qbwi.inspection"):
        here.open_channel()
    assert [record.getMessage() for record in caplog.records] == [
        "Other processes cannot look into this one: PermissionError('no sockets here')"
    ]


@pytest.mark.parametrize("secret", ["", b""])
def test_site_without_a_key_has_no_channel(here: hosting.Process, secret: str | bytes) -> None:
    """Processes know one another by the key; Django itself refuses most things without one."""
    with override_settings(SECRET_KEY=secret):
        here.open_channel()
        assert here.visibility.publisher is None
        with pytest.raises(ImproperlyConfigured):
            sites()


def test_fallbacks_are_further_sites() -> None:
    """SECRET_KEY first; text and bytes are the same key."""
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old", b"new"]):
        found = sites()
    assert (len({site.name for site in found}), found[0] == found[2]) == (2, True)


def test_sites_are_told_apart_by_their_urls() -> None:
    """Two sites that share a key are two sites."""
    with override_settings(ROOT_URLCONF="tests.other_urls"):
        other = sites()[0].name
    assert other != sites()[0].name


def test_check_is_silent_where_sockets_work() -> None:
    """As they do here."""
    assert checks.check_inspection(None) == []


def test_check_warns_where_they_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """qbwi.W003 tells what `manage.py qbwi` will not see."""
    monkeypatch.setattr(checks, "find_place", Unreachable)
    (warning,) = checks.check_inspection(None)
    assert (warning.id, "no sockets here" in warning.msg) == ("qbwi.W003", True)


@pytest.mark.parametrize("error", [ValueError("a\nb"), IndexError("x" * 10_000), UnicodeError("c")])
def test_g32_check_survives_any_discovery(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """`check`, `migrate` and `runserver` end with a warning of one line, whatever the search meets."""

    class Broken(AbstractPlace):
        """A listing that nobody understands."""

        def find(self, sites: Any) -> Any:
            raise error

    monkeypatch.setattr(checks, "find_place", Broken)
    (warning,) = checks.check_inspection(None)
    assert (warning.id, "\n" in warning.msg, len(warning.msg) < 400) == ("qbwi.W003", False, True)


@pytest.mark.parametrize("name", FORGED_LINES)
def test_g32_check_is_silent_beside_forged_lines(name: bytes) -> None:
    """What other users bind on this machine is no trouble of this site."""
    with bound(name):
        assert checks.check_inspection(None) == []


@pytest.mark.parametrize("setting", [{"INSPECTION": False}, {"INSPECTION": "yes"}, []])
def test_check_is_silent_where_nothing_is_wanted(monkeypatch: pytest.MonkeyPatch, setting: Any) -> None:
    """Switched off, or wrong, which another check says."""
    monkeypatch.setattr(checks, "find_place", Unreachable)
    with override_settings(QBWI=setting):
        assert checks.check_inspection(None) == []


def test_check_is_silent_on_other_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows nothing is wrong: the output of the command says that it sees one process."""
    monkeypatch.setattr(checks, "find_place", lambda: None)
    assert checks.check_inspection(None) == []


def test_setting_is_a_flag() -> None:
    """True or False, nothing else."""
    assert [problem.key for problem in conf.problems({"INSPECTION": 1})] == ["INSPECTION"]
