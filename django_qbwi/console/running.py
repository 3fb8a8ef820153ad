"""`manage.py qbwi run`: one work item in this process, from its dotted path to its end.

The main thread only waits. A stop signal leaves that wait by an exception, as it leaves every command whose items run.
Here it is taken for the begin of the exit, which is held at once: so the exit status can be that of the item.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable
from typing import Any

from django.utils.module_loading import import_string

from django_qbwi import hosting
from django_qbwi.console.text import seconds_between, span
from django_qbwi.core.exceptions import InvalidWorkItem
from django_qbwi.core.items import WorkItemHandle, handle_of
from django_qbwi.core.names import clean, name_of, printable
from django_qbwi.core.records import WorkItemInfo, WorkItemStatus
from django_qbwi.decorator import BackgroundWorkItem
from django_qbwi.handoff.frameworks import framework_of
from django_qbwi.hosting.unusual import staying_here
from django_qbwi.task_backend.queueing import queue_here

SUCCEEDED, FAILED, CUT_OFF = 0, 1, 2
"""Exit codes."""


def run(path: str, words: Iterable[str], *, ends_process: bool) -> WorkItemHandle:
    """Run what stands at `path` with JSON arguments, and wait for its end without a limit.

    Args:
        path: `package.module.function`: what `queue_background_work_item` takes, or a task of `django.tasks`.
        words: Its arguments after the token, each a JSON value.
        ends_process: Whether a stop signal is to be taken for the end of this process: the items are waited for here,
            up to the limit of a shutdown. Otherwise what the signal raises goes through.

    Raises:
        InvalidWorkItem: There is nothing to run at `path`, or not with these arguments; the message names both.
        WorkItemRejected: It cannot be queued.
    """
    handle = None
    begin = _found(path)
    args = [_value(word) for word in words]
    try:
        with staying_here():
            handle = begin(*args)
        handle.wait()
    except InvalidWorkItem as error:
        raise InvalidWorkItem(f"{printable(path)}: {error}") from error
    except (KeyboardInterrupt, SystemExit) as stop:
        if handle is None or not ends_process:
            raise
        ended = handle
        hosting.end(interrupted=isinstance(stop, KeyboardInterrupt), status=lambda: exit_code(ended.status))
    return handle


def exit_code(status: WorkItemStatus) -> int:
    """Return the exit status of a process that ran an item with this end."""
    return {WorkItemStatus.SUCCEEDED: SUCCEEDED, WorkItemStatus.FAILED: FAILED}.get(status, CUT_OFF)


def sentence(info: WorkItemInfo) -> str:
    """Tell how an item ended, on one line."""
    item = info.to_dict()
    ran = seconds_between(item["started_at"], item["finished_at"], info.queued_at)
    how = str(info.status) + (" before it began" if ran is None else f" after {span(ran)}")
    if info.error is not None:
        how += f": {info.error.type}: {info.error.message}"
    elif info.cancel_reason is not None and info.status is not WorkItemStatus.SUCCEEDED:
        how += f", by {str(info.cancel_reason).upper()}"
    return clean(f"{info.name} {how}")


def _found(path: str) -> Callable[..., WorkItemHandle]:
    """Return what queues that which stands at `path`."""
    try:
        found = import_string(path)
    except Exception as error:
        # Importing runs the module's own code, which may raise whatever it likes.
        raise InvalidWorkItem(
            f"{printable(path)} cannot be imported: {name_of(type(error))}: {printable(str(error))}. "
            "Give the path of a function at the top of a module, as in shop.items.ship_orders"
        ) from error
    if isinstance(found, BackgroundWorkItem):
        # With the options of its decorator.
        return found.queue
    if framework_of(found) is not None:
        return _queueing_task(found)
    return lambda *args: hosting.queue(found, args, None, None)


def _queueing_task(task: Any) -> Callable[..., WorkItemHandle]:
    function = task.func
    first = (None,) if task.takes_context else ()

    def queue(*args: Any) -> WorkItemHandle:
        try:
            inspect.signature(function).bind(*first, *args)
        except TypeError as error:
            raise InvalidWorkItem(
                f"the task {name_of(function)} cannot be called with {len(args)} argument(s): {error}"
            ) from error
        return handle_of(queue_here(task, list(args)))

    return queue


def _value(word: str) -> Any:
    try:
        return json.loads(word, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidWorkItem(
            f"the argument {printable(word)!r} is no JSON: {printable(str(error))}. Write each argument as a JSON "
            "value of its own, and a text in double quotes inside of those of the shell: 42 true '\"large\"'"
        ) from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"there is no {name} in JSON")
