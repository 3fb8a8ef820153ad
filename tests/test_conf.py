"""settings.QBWI: what is taken, what is refused and with which words, and when it is read."""

import dataclasses
from pathlib import Path

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.test import override_settings

from django_qbwi import checks, conf, hosting, queue_background_work_item

PATIENCE = 30

DEFAULTS = {
    "MAX_WORKERS": 4,
    "MAX_ASYNC_IN_FLIGHT": 100,
    "MAX_QUEUED": 1000,
    "MAX_DELAYED": 10_000,
    "ITEM_TIMEOUT": None,
    "OVERDUE_AFTER": 5.0,
    "SHUTDOWN_TIMEOUT": 90.0,
    "CANCEL_AFTER": 0.0,
    "ACCEPT_WHILE_DRAINING": True,
    "HANDLE_SIGNALS": True,
    "IMMEDIATE": False,
    "HISTORY_SIZE": 200,
    "HISTORY_DAYS": 30.0,
    "HISTORY_ROWS": 10_000,
    "INSPECTION": True,
    "REQUEST_CAPTURE": "error",
    "CONTEXT": (),
    "WARN_IN_TRANSACTION": True,
    "ENGINE": None,
    "CRASH_REPORT": None,
    "POOLS": {},
    "PROCESS_WORKERS": 2,
    "PROCESS_NICE": 10,
    "PROCESS_MAX_ITEMS": 1000,
    "PROCESS_PYTHON": None,
    "LOG_LINES": 50,
    "LINKS": None,
    "EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend",
    "EMAIL_HAND_OFF": None,
}

INVALID = {
    "MAX_WORKERS": [0, -1, 1.5, "4", None, True],
    "MAX_ASYNC_IN_FLIGHT": [0, "100", None],
    "MAX_QUEUED": [0, -5, 10.0, None],
    "ITEM_TIMEOUT": [0, -1.0, "10", float("nan"), float("inf"), True, 10**400],
    "OVERDUE_AFTER": [-0.1, None, "5", float("inf")],
    "SHUTDOWN_TIMEOUT": [-1, None, "90", float("nan")],
    "CANCEL_AFTER": [-1, None, [], True],
    "ACCEPT_WHILE_DRAINING": [1, 0, None, "yes"],
    "HANDLE_SIGNALS": [1, None],
    "IMMEDIATE": ["", 1, None],
    "HISTORY_SIZE": [-1, 1.0, None, True],
    "HISTORY_DAYS": [0, -1, "30", float("nan"), True],
    "HISTORY_ROWS": [0, -1, 1.5, "all", True],
    "INSPECTION": ["on", 1, None],
    "REQUEST_CAPTURE": ["ERROR", True, None],
    "CONTEXT": ["a.path", [5], [""], None],
    "WARN_IN_TRANSACTION": [1, None],
    "ENGINE": ["", 1, ["durable"]],
    "CRASH_REPORT": ["", 1, True, ["/var/lib/crashes"]],
    "POOLS": [None, [], "mail"],
    "PROCESS_WORKERS": [0, -1, 1.5, None],
    "PROCESS_NICE": [-1, 20, "10", True],
    "PROCESS_MAX_ITEMS": [0, 10.0, None],
    "PROCESS_PYTHON": ["", 5, b"/usr/bin/python3"],
    "EMAIL_BACKEND": ["", None, 5],
    "EMAIL_HAND_OFF": ["", 1, ["durable"]],
}

VALID = {
    "MAX_WORKERS": [1, 64],
    "MAX_ASYNC_IN_FLIGHT": [1],
    "MAX_QUEUED": [1, 100_000],
    "ITEM_TIMEOUT": [None, 0.5, 30],
    "OVERDUE_AFTER": [0, 0.5],
    "SHUTDOWN_TIMEOUT": [0, 25, 25.5],
    "CANCEL_AFTER": [0, 5.0],
    "ACCEPT_WHILE_DRAINING": [True, False],
    "HANDLE_SIGNALS": [True, False],
    "IMMEDIATE": [True, False],
    "HISTORY_SIZE": [0, 1],
    "HISTORY_DAYS": [None, 0.5, 90],
    "HISTORY_ROWS": [None, 1, 1_000_000],
    "INSPECTION": [True, False],
    "REQUEST_CAPTURE": ["error", "warn", "allow"],
    "CONTEXT": [[], ("a.path",)],
    "WARN_IN_TRANSACTION": [True, False],
    "ENGINE": [None, "durable"],
    "CRASH_REPORT": [None, "/var/lib/crashes", Path("/var/lib/crashes")],
    "POOLS": [{}],
    "PROCESS_WORKERS": [1, 8],
    "PROCESS_NICE": [0, 19],
    "PROCESS_MAX_ITEMS": [1, 50],
    "PROCESS_PYTHON": [None, "/usr/bin/python3"],
    "LOG_LINES": [0, 7],
    "LINKS": [{}, {"Logs": "https://logs.example.com/?q={id}"}],
    "EMAIL_BACKEND": ["django.core.mail.backends.locmem.EmailBackend"],
    "EMAIL_HAND_OFF": [None, "durable"],
}


def test_defaults() -> None:
    """Without settings.QBWI everything has the documented default."""
    assert {name.upper(): value for name, value in dataclasses.asdict(conf.load()).items()} == DEFAULTS


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in VALID.items() for value in values])
def test_valid_value(key: str, value: object) -> None:
    """A valid value is taken, and all others keep their defaults."""
    with override_settings(QBWI={key: value}):
        loaded = dataclasses.asdict(conf.load())
    assert {name.upper(): value for name, value in loaded.items()} == {**DEFAULTS, key: value}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in INVALID.items() for value in values])
def test_invalid_value(key: str, value: object) -> None:
    """An invalid value is refused by a message that names the key, the value and what it has to be."""
    with override_settings(QBWI={key: value}):
        with pytest.raises(ImproperlyConfigured) as refusal:
            conf.load()
        [error] = checks.check_settings(None)
    assert f'QBWI["{key}"] is {value!r}. Set it to ' in str(refusal.value)
    assert (error.id, error.msg) == ("qbwi.E003", f'QBWI["{key}"] is {value!r}')
    assert error.hint.startswith("Set it to ")


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("MAX_WORKER", "MAX_WORKERS"),
        ("max_workers", "MAX_WORKERS"),
        ("TIMEOUT", "ITEM_TIMEOUT"),
        ("SHUTDOWN_TIMOUT", "SHUTDOWN_TIMEOUT"),
    ],
)
def test_unknown_key_names_the_nearest(key: str, nearest: str) -> None:
    """A key that there is not is refused with the nearest one that there is."""
    with override_settings(QBWI={key: 1}):
        with pytest.raises(ImproperlyConfigured, match=f'no key {key!r}. Did you mean "{nearest}"'):
            conf.load()
        [error] = checks.check_settings(None)
    assert (error.id, error.hint) == ("qbwi.E002", f'Did you mean "{nearest}"?')


@pytest.mark.parametrize("key", ["COLOUR", 5, None])
def test_unknown_key_without_a_near_one(key: object) -> None:
    """Where no key is near, all keys are listed."""
    with override_settings(QBWI={key: 1}):
        [error] = checks.check_settings(None)
    assert (error.id, error.hint) == ("qbwi.E002", f"The keys are: {', '.join(conf.KEYS)}.")


@pytest.mark.parametrize("value", [None, [], "MAX_WORKERS", 5])
def test_setting_that_is_no_dict(value: object) -> None:
    """settings.QBWI is a dict."""
    with override_settings(QBWI=value):
        with pytest.raises(ImproperlyConfigured, match="Set QBWI to a dict"):
            conf.load()
        assert [error.id for error in checks.check_settings(None)] == ["qbwi.E001"]


def test_all_that_is_wrong_is_said_at_once() -> None:
    """Several mistakes are several check errors, and one exception that names all of them."""
    with override_settings(QBWI={"MAX_WORKERS": 0, "MAX_QUEUE": 5, "IMMEDIATE": None}):
        with pytest.raises(ImproperlyConfigured, match=r"MAX_WORKERS.*MAX_QUEUE.*IMMEDIATE"):
            conf.load()
        assert [error.id for error in checks.check_settings(None)] == ["qbwi.E003", "qbwi.E002", "qbwi.E003"]


# Checks.


def test_check_is_silent_about_good_settings() -> None:
    """The defaults and good settings have neither errors nor warnings."""
    assert checks.check_settings(None) == []
    with override_settings(QBWI={"CANCEL_AFTER": 10, "SHUTDOWN_TIMEOUT": 30}):
        assert checks.check_settings(None) == []


@pytest.mark.parametrize("cancel_after", [30, 31])
def test_cancel_after_the_limit_is_a_warning(cancel_after: float) -> None:
    """Tokens that are cancelled only when the time is over are warned of."""
    with override_settings(QBWI={"CANCEL_AFTER": cancel_after, "SHUTDOWN_TIMEOUT": 30}):
        assert [warning.id for warning in checks.check_settings(None)] == ["qbwi.W001"]


def test_immediate_is_warned_of_in_a_deployment() -> None:
    """IMMEDIATE in production settings is a warning of `check --deploy`, and of that alone."""
    with override_settings(QBWI={"IMMEDIATE": True}):
        assert "qbwi.W002" in [message.id for message in run_checks(include_deployment_checks=True)]
        assert "qbwi.W002" not in [message.id for message in run_checks()]


@override_settings(QBWI={"MAX_WORKERS": 0})
def test_deployment_check_leaves_errors_to_the_other() -> None:
    """With wrong settings the deployment check adds nothing to the errors."""
    assert checks.check_deployment(None) == []


def test_checks_are_registered() -> None:
    """`manage.py check` runs ours."""
    with override_settings(QBWI={"MAX_WORKERS": 0}):
        assert "qbwi.E003" in [message.id for message in run_checks()]


def test_check_command_passes() -> None:
    """`manage.py check` finds nothing with the defaults."""
    call_command("check")


# When it is read.


def test_wrong_settings_are_said_at_the_first_queueing() -> None:
    """ImproperlyConfigured comes at the first queueing; until then the site runs."""
    with override_settings(QBWI={"MAX_WORKERS": 0}):
        hosting.start()
        with pytest.raises(ImproperlyConfigured, match="MAX_WORKERS"):
            queue_background_work_item(lambda token: None)


def test_settings_hold_for_a_block() -> None:
    """`override_settings` holds for its block, and nests."""
    with override_settings(QBWI={"ITEM_TIMEOUT": 5}):
        with override_settings(QBWI={"ITEM_TIMEOUT": 7}):
            inner = queue_background_work_item(lambda token: None)
        outer = queue_background_work_item(lambda token: None)
        assert outer.wait(PATIENCE)
    assert (inner.info.timeout, outer.info.timeout) == (7, 5)


def test_other_settings_do_not_matter() -> None:
    """A block of other settings keeps the scheduler."""
    with override_settings(QBWI={}):
        before = hosting.scheduler()
        with override_settings(LANGUAGE_CODE="de"):
            assert hosting.scheduler() is before


@override_settings(QBWI={"PROCESS_PYTHON": "/no/python"})
def test_python_that_is_none() -> None:
    """`manage.py check` finds it, before an item fails by it."""
    [error] = checks.check_settings(None)
    assert (error.id, error.msg) == ("qbwi.E003", "QBWI[\"PROCESS_PYTHON\"] is '/no/python', and no program")
