"""The task that an engine stores and runs for a decorated function which was handed off to it.

It stands here as a task of the framework, since the workers of an engine look for one at its path.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

from django_qbwi import hosting
from django_qbwi.core.calls import found_at
from django_qbwi.core.cancellation import OperationCancelled
from django_qbwi.core.exceptions import InvalidWorkItem, SchedulerClosed
from django_qbwi.core.names import FunctionWrapper, printable
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.handoff import frameworks


def _as_task(function: Callable[..., Any]) -> Any:
    """Return it as a task that was not validated: which aliases there are is not its business."""
    framework = frameworks.present()

    class WorkTask(framework.task):  # type: ignore[name-defined,misc]
        def __post_init__(self) -> None:
            """Do not look at an alias: each engine does, where it gets one."""

    return WorkTask(func=function, backend="default", takes_context=True, **frameworks.UNSAID)


@_as_task
def run_work_item(context: Any, path: str, args: list[Any], kwargs: dict[str, Any], options: dict[str, Any]) -> None:
    """Run the decorated function at `path` as a work item of this process, under the id that it has in the engine.

    Raises:
        InvalidWorkItem: Nothing that is decorated stands there.
        BaseException: What the function has raised; OperationCancelled if it has left by its token.
    """
    decorated = found_at(path)
    if not isinstance(decorated, FunctionWrapper):
        raise InvalidWorkItem(f"{printable(path)} is not decorated with @background_work_item: it is not run")
    function = decorated.function
    result = context.task_result
    item = hosting.run_for_engine(
        functools.partial(function, **kwargs) if kwargs else function,
        tuple(args),
        name=options.get("name"),
        timeout=options.get("timeout"),
        item_id=str(result.id).replace("-", ""),
        hand_off=result.backend,
        labels=options.get("labels"),
    )
    # At a checkpoint it leaves its code, and the rest moves in a thread of its own.
    item.wait(None)
    ending = item.ending
    if ending is not None and ending.exception is not None:
        if ending.failure is not None:
            # The exception keeps no frames; the engine's result shows where it came from all the same.
            with contextlib.suppress(Exception):
                ending.exception.add_note(ending.failure.traceback)
        raise ending.exception
    if item.status is WorkItemStatus.CANCELLED:
        raise OperationCancelled(item.token)
    if item.status is WorkItemStatus.ABANDONED:
        raise SchedulerClosed(f"{item.name} was abandoned: the process of the worker has ended")
