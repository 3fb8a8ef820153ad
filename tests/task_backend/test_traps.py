"""What backends of tasks have been seen to get wrong: the import, the swap of settings, the end of a request."""

import copy
import pickle
import threading
from typing import Any

import pytest
from django.core.signals import request_finished
from django.test import override_settings

from tests.support.gates import PATIENCE
from tests.support.scripts import run_script
from tests.task_backend import functions
from tests.task_backend.conftest import Tasks

IMPORTED_EARLY = """
import importlib
import sys
import threading

from django.conf import settings

name, path = sys.argv[1:]
settings.configure(TASKS={"default": {"BACKEND": path}}, INSTALLED_APPS=["django_qbwi"])
framework = importlib.import_module(name)

@framework.task
def add(first, second):
    return first + second

print(threading.active_count(), "django_qbwi.models" in sys.modules)
try:
    add.enqueue(1, 2)
except Exception as error:
    print(type(error).__name__)

import django

django.setup()
print(threading.active_count())
result = add.enqueue(1, 2)

from django_qbwi.testing import drain

assert drain(30)
result.refresh()
print(result.return_value)
"""


def test_tasks_that_are_imported_before_the_apps_are_ready(tasks: Tasks) -> None:
    """Their definition starts no thread and loads no model; they are refused until then, and run after it."""
    assert run_script(IMPORTED_EARLY, tasks.framework.name, tasks.path) == ["1 False", "NotHosted", "1", "3"]


@pytest.fixture
def never_copied(tasks: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a task be neither copied nor pickled."""

    def refuse(task: Any, *args: object) -> None:
        raise AssertionError(f"{task.module_path} was copied")

    base = type(tasks.of(functions.add))
    for name in ("__reduce__", "__reduce_ex__", "__copy__", "__deepcopy__"):
        monkeypatch.setattr(base, name, refuse, raising=False)


@pytest.mark.usefixtures("never_copied")
@pytest.mark.parametrize("copies", [copy.copy, copy.deepcopy, pickle.dumps])
def test_guard_sees_copies(tasks: Tasks, copies: Any) -> None:
    """The fixture of the next test sees what it shall."""
    with pytest.raises(AssertionError, match="was copied"):
        copies(tasks.of(functions.add))


@pytest.mark.usefixtures("never_copied", "signals")
@pytest.mark.parametrize("function", [functions.look, functions.alook])
def test_task_is_never_copied(tasks: Tasks, function: Any) -> None:
    """A copy is imported anew on Django 6.1: it may be another task, or none; results have the one that was queued."""
    task = tasks.of(function).using(priority=5)
    result = tasks.wait(task.enqueue())
    assert (result.task is task, task.get_result(result.id).task is task) == (True, True)
    assert str(result.status) == "SUCCESSFUL"


def test_end_of_a_request(tasks: Tasks) -> None:
    """Who closes all backends at the end of a request neither fails nor ends a task."""

    def close_all(**kwargs: Any) -> None:
        tasks.module.task_backends.close_all()

    result = tasks.of(functions.hold).enqueue()
    functions.gate.await_entered()
    request_finished.connect(close_all)
    try:
        [(_, outcome)] = [sent for sent in request_finished.send_robust(None) if sent[0] is close_all]
    finally:
        request_finished.disconnect(close_all)
    functions.gate.open()
    assert (outcome, tasks.wait(result).return_value) == (None, "let go")


def test_backend_objects_of_two_threads(tasks: Tasks) -> None:
    """Each thread has its own; what one has enqueued the other finds."""
    found: list[Any] = []

    def look() -> None:
        found.extend([tasks.backend, tasks.backend.get_result(result.id)])

    result = tasks.run(functions.add, 1)
    thread = threading.Thread(target=look)
    thread.start()
    thread.join(PATIENCE)
    assert (found[0] is tasks.backend, found[1]) == (False, result)


@pytest.mark.parametrize("function", [functions.hold, functions.ahold])
def test_settings_change_while_a_task_runs(tasks: Tasks, function: Any) -> None:
    """It goes on, and the new backend object knows it, as does the old one when it is back."""
    before = tasks.backend
    result = tasks.of(function).enqueue()
    functions.gate.await_entered()
    with tasks.configured(RESULTS=10):
        assert tasks.backend is not before
        assert str(tasks.backend.get_result(result.id).status) == "RUNNING"
        functions.gate.open()
        assert tasks.wait(result).return_value == "let go"
    assert tasks.backend.get_result(result.id) == result


def test_another_backend_in_between(tasks: Tasks) -> None:
    """A test that swaps the backend for Django's dummy one loses no result of ours."""
    result = tasks.run(functions.add, 1)
    dummy = f"{tasks.framework.name}.backends.dummy.DummyBackend"
    with override_settings(TASKS={tasks.alias: {"BACKEND": dummy, "QUEUES": []}}):
        assert not tasks.is_known(result)
    assert tasks.backend.get_result(result.id).return_value == 1
