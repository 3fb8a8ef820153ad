"""The tasks of one alias in this process: those that wait or run, and a bounded number of those that have finished.

Lock: `lock` guards which outcome of a task stands, and the order of the finished ones. No user code runs under it.
"""

from __future__ import annotations

import os
import socket
import weakref
from collections import deque
from typing import Any, Protocol

from django_qbwi.machine.primitives import Lock, holding, new_rlock
from django_qbwi.task_backend.outcome import Outcome


class Kept(Protocol):
    """A task, as the results know it."""

    id: str
    outcome: Outcome

    def describe(self) -> dict[str, Any]:
        """Return what another process is told of it."""


class TaskResults:
    """Finds tasks by the id of their result.

    - A task is found from its enqueueing on, until `limit` others have finished after it.
    - Its first final outcome stands.
    - One that waits for a commit is kept by that alone: it is gone with a rollback.
    """

    def __init__(self, limit: int) -> None:
        """Make them; `limit` is how many finished tasks are kept."""
        self.limit = limit
        self.worker = f"{socket.gethostname()}:{os.getpid()}"
        """What the ids of this process's workers begin with."""
        self._lock: Lock = new_rlock()
        self._tasks: dict[str, Kept] = {}
        self._expected: weakref.WeakValueDictionary[str, Kept] = weakref.WeakValueDictionary()
        self._finished: deque[str] = deque()
        self.moved: dict[str, str] = {}
        """The ids that tasks have got from an engine which takes none of ours, by those that they had here."""
        self.same: dict[str, str] = {}
        """The ids of tasks that waited already, by those of tasks that were found to be the same after a commit."""

    def __repr__(self) -> str:
        return f"<TaskResults kept={len(self._tasks)} finished={len(self._finished)} limit={self.limit}>"

    def get(self, result_id: str) -> Kept | None:
        """Return a task, None if there is none of that id; any thread."""
        known = self.same.get(result_id, result_id) if self.same else result_id
        return self._tasks.get(known) or self._expected.get(known)

    def describe(self, result_id: str) -> dict[str, Any] | None:
        """Return what another process is told of a task, None if there is none of that id; any thread."""
        task = self.get(result_id)
        return None if task is None else task.describe()

    def expect(self, task: Kept) -> None:
        """Know a task as long as somebody keeps it."""
        self._expected[task.id] = task

    def add(self, task: Kept) -> None:
        """Know a task from now on."""
        self._tasks[task.id] = task

    def forget(self, task: Kept) -> None:
        """Know it no longer: it was refused."""
        self._tasks.pop(task.id, None)

    def has_moved(self, task: Kept, engine_id: str) -> None:
        """Know it no longer: an engine has it, under an id which is mostly the same."""
        self._tasks.pop(task.id, None)
        if engine_id != task.id:
            self._lead(self.moved, task.id, engine_id)

    def leads_to(self, task: Kept, other_id: str) -> None:
        """Know it by the other task, which waits already and stands for it."""
        self._lead(self.same, task.id, other_id)

    def _lead(self, ids: dict[str, str], task_id: str, other_id: str) -> None:
        ids[task_id] = other_id
        while len(ids) > self.limit:
            # The oldest one; somebody else may have taken it meanwhile.
            ids.pop(next(iter(ids), ""), None)

    def change(self, task: Kept, outcome: Outcome) -> bool:
        """Let `outcome` be that of a task; False if it has a final one already."""
        return holding(self._lock, self._change, task, outcome)

    def _change(self, task: Kept, outcome: Outcome) -> bool:
        if task.outcome.is_finished:
            return False
        task.outcome = outcome
        if outcome.is_finished:
            self._finished.append(task.id)
            while len(self._finished) > self.limit:
                self._tasks.pop(self._finished.popleft(), None)
        return True
