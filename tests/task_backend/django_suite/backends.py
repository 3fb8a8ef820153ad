"""The backend, as Django's tests expect theirs: one that is done when it returns, and one that only keeps tasks."""

from typing import Any
from unittest import mock

from django_qbwi import hosting
from django_qbwi.backend import WorkItemBackend
from django_qbwi.core.items import WorkItem, handle_of
from django_qbwi.task_backend import queueing
from tests.support.gates import PATIENCE


def live_item_of(result: Any) -> WorkItem | None:
    """Return the item that runs a task, None if it has ended."""
    return next((item for item in hosting.scheduler().live_items() if item.known_id == result.id), None)


class WaitingBackend(WorkItemBackend):
    """In the place of the immediate backend: a task runs in the background, and its caller waits for it."""

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Queue a task, and block until it has ended."""
        result = super().enqueue(task, args, kwargs)
        item = live_item_of(result)
        assert item is None or item.wait(PATIENCE)
        return self.get_result(result.id)

    async def aenqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Queue a task, and wait until it has ended; the loop goes on meanwhile."""
        # Not by the `aenqueue` of the base class, which calls `self.enqueue`: that one would block.
        result = super().enqueue(task, args, kwargs)
        item = live_item_of(result)
        if item is not None:
            await handle_of(item)
        return await self.aget_result(result.id)


class HoldingBackend(WorkItemBackend):
    """In the place of the dummy backend: it keeps what was enqueued, and none of it begins."""

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        self.results: list[Any] = []

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Queue a task for later."""
        with mock.patch.object(queueing, "_delay", return_value=3600.0):
            result = super().enqueue(task, args, kwargs)
        self.results.append(result)
        return result

    def clear(self) -> None:
        """Forget all of them."""
        while self.results:
            result = self.results.pop()
            item = live_item_of(result)
            assert item is not None
            assert handle_of(item).cancel()
            entry = self._results.get(result.id)
            assert entry is not None
            self._results.forget(entry)
