"""The tasks of each framework that is there."""

import importlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import django
import pytest
from django.test import override_settings

from django_qbwi import hosting
from django_qbwi.handoff import frameworks
from django_qbwi.task_backend.entries import TaskEntry
from tests.support.gates import PATIENCE
from tests.task_backend import functions

NEW = pytest.mark.skipif(django.VERSION < (6, 0), reason="Django has no framework of tasks before 6.0")
CORE = pytest.param("django.tasks", marks=NEW)

_WITH_CONTEXT = (functions.look, functions.alook, functions.stumble_with_context)


class Tasks:
    """The functions as tasks of one framework, and what belongs to that."""

    def __init__(self, name: str) -> None:
        self.module: Any = importlib.import_module(name)
        self.alias = "default" if name == "django.tasks" else "backport"
        self.framework = frameworks.core() if name == "django.tasks" else frameworks.backport()

    @property
    def backend(self) -> Any:
        """The backend object of this thread."""
        return self.module.task_backends[self.alias]

    @property
    def path(self) -> str:
        """The dotted path of its class, as in settings.TASKS."""
        return f"django_qbwi.{'backend' if self.alias == 'default' else 'backport'}.WorkItemBackend"

    def configured(self, **options: Any) -> override_settings:
        """Return a block with a backend of its own, with these OPTIONS."""
        return override_settings(TASKS={self.alias: {"BACKEND": self.path, "QUEUES": [], "OPTIONS": options}})

    def is_known(self, result: Any) -> bool:
        """Say whether the backend finds a result."""
        try:
            self.backend.get_result(result.id)
        except self.framework.does_not_exist:
            return False
        return True

    def of(self, function: Callable[..., Any], **options: Any) -> Any:
        """Return a function as a task."""
        options.setdefault("takes_context", function in _WITH_CONTEXT)
        return self.module.task(backend=self.alias, **options)(function)

    def entry(self, result: Any) -> TaskEntry:
        """Return what is kept of a task."""
        entry = hosting.this_process().task_results[f"{self.framework.name}:{self.alias}"].get(result.id)
        assert isinstance(entry, TaskEntry)
        return entry

    def wait(self, result: Any) -> Any:
        """Wait for the end of a task, and return its result."""
        for item in hosting.scheduler().live_items():
            if item.known_id == result.id:
                assert item.wait(PATIENCE)
        result.refresh()
        return result

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run a function as a task to its end, and return the result."""
        return self.wait(self.of(function).enqueue(*args, **kwargs))


@pytest.fixture(params=[CORE, "django_tasks"])
def tasks(request: pytest.FixtureRequest) -> Iterator[Tasks]:
    """Each framework in turn."""
    functions.start_afresh()
    yield Tasks(request.param)
    functions.gate.open()


@pytest.fixture
def extended(tasks: Tasks) -> Tasks:
    """Each framework whose `@task` takes further arguments."""
    if tasks.framework.name == "django.tasks" and django.VERSION < (6, 1):
        pytest.skip("`@task` of Django 6.0 takes no further arguments: see test_other_decorators")
    return tasks


@pytest.fixture
def signals(tasks: Tasks) -> Iterator[SimpleNamespace]:
    """What the signals of the framework have sent: names and results, in this order."""
    found = SimpleNamespace(names=[], results=[], senders=[])
    framework = tasks.framework

    def receiver(name: str) -> Callable[..., None]:
        def receive(sender: Any, task_result: Any, **kwargs: Any) -> None:
            found.names.append(name)
            found.results.append(task_result)
            found.senders.append(sender)

        return receive

    connected = [
        (signal, receiver(name))
        for name, signal in [
            ("enqueued", framework.task_enqueued),
            ("started", framework.task_started),
            ("finished", framework.task_finished),
        ]
    ]
    for signal, receive in connected:
        signal.connect(receive)
    yield found
    for signal, receive in connected:
        signal.disconnect(receive)
