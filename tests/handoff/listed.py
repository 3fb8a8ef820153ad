"""Engines that do what a test says: down, slow to answer, a lost reply. Real ones are in the folder `real_engines`."""

import datetime
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from django.conf import settings
from django.utils import timezone

from django_qbwi import handoff
from django_qbwi.handoff import frameworks

BASE: Any = frameworks.present().backend_base


class Down(Exception):
    """The engine cannot be reached."""


class ListedBackend(BASE):  # type: ignore[misc]
    """Keeps what is enqueued in a list of its class; takes ids from the function in its OPTIONS, as engines do."""

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True
    rows: list[SimpleNamespace] = []
    before: Callable[[], object] | None = None
    """Called ahead of each row, and may raise: then there is none."""
    behind: Callable[[], object] | None = None
    """Called behind each row, and may raise: the reply is lost."""

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        self.validate_task(task)
        kind = type(self)
        if kind.before is not None:
            kind.before()
        new_id = handoff.item_id() if self.options.get("KEEPS_IDS", True) else uuid.uuid4()
        if any(row.id == new_id for row in self.rows):
            raise ValueError("the key is there already")
        self.rows.append(SimpleNamespace(id=new_id, task=task, args=list(args), kwargs=dict(kwargs), at=timezone.now()))
        if kind.behind is not None:
            kind.behind()
        return self.get_result(str(new_id))

    def close(self) -> None:
        """Do nothing: `close_all()` of the framework calls it on each backend, and its base class has none."""

    def get_result(self, result_id: str) -> Any:
        framework = frameworks.present()
        for row in self.rows:
            if str(row.id).replace("-", "") == result_id.replace("-", ""):
                return framework.result(
                    task=row.task,
                    id=str(row.id),
                    status=framework.status("READY"),
                    enqueued_at=row.at,
                    started_at=None,
                    finished_at=None,
                    last_attempted_at=None,
                    args=row.args,
                    kwargs=row.kwargs,
                    backend=self.alias,
                    errors=[],
                    worker_ids=[],
                )
        raise framework.does_not_exist(result_id)

    @classmethod
    def start_afresh(cls) -> None:
        """Forget all rows, and what a test has set."""
        cls.rows.clear()
        cls.before = cls.behind = None


class KnownTask(frameworks.present().task):  # type: ignore[name-defined,misc]
    """A task that its engine knows from its making on, as that of Celery does."""

    known: list[str] = []

    def __post_init__(self) -> None:
        self.known.append(self.module_path)


class KnowingBackend(ListedBackend):
    """Its workers run only what they know."""

    task_class = KnownTask


class SyncOnlyBackend(ListedBackend):
    """Takes neither coroutine functions, nor a moment, nor a priority."""

    supports_defer = False
    supports_async_task = False
    supports_priority = False


class FakeCall:
    """A call whose engine a test commands, for a mover that is moved by hand."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, datetime.datetime | None, int]] = []
        self.known: set[str] = set()
        self.before: Callable[[], object] = lambda: None
        self.behind: Callable[[], object] = lambda: None
        self.asked: Callable[[], object] = lambda: None
        self.states: list[dict[str, Any]] = []
        self.engine = SimpleNamespace(alias="durable", has=self._has)

    def send(self, known: str, due: datetime.datetime | None, priority: int) -> str:
        self.before()
        assert known not in self.known, "twice under one id"
        self.known.add(known)
        self.sent.append((known, due, priority))
        self.behind()
        return known

    def _has(self, known: str) -> bool:
        self.asked()
        return known in self.known

    def with_state(self, state: dict[str, Any]) -> None:
        if "wrong" in state:
            raise TypeError("no such parameter")

    def go_on_from(self, state: dict[str, Any]) -> None:
        self.states.append(state)


def tasks(**durable: Any) -> dict[str, Any]:
    """Return settings.TASKS with our backend, and one of these engines behind it."""
    ours = dict(settings.TASKS["default"], OPTIONS={"HAND_OFF": "durable"})
    engine = {"BACKEND": "tests.handoff.listed.ListedBackend", "QUEUES": []}
    return {**settings.TASKS, "default": ours, "durable": {**engine, **durable}}
