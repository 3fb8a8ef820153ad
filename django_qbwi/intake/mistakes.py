"""What is queued by mistake: not callable, already called, a view, or what sends a task of another library.

Each is refused with what to do instead. As in `core.names`, no code of the object runs.
"""

from __future__ import annotations

import types
from typing import Any

from django_qbwi.core.names import class_attribute, name_of, printable

# Libraries of tasks, and how their tasks are sent.
_TASK_LIBRARIES = ("celery", "django.tasks", "django_q", "django_rq", "django_tasks", "dramatiq", "huey", "rq")
_SENDERS = frozenset(
    {"aenqueue", "apply_async", "delay", "delay_on_commit", "enqueue", "schedule", "send", "send_with_options"}
)


def mistake_in(reached: Any) -> str | None:
    """Say what is wrong with what a call reaches, and what to do instead; None where nothing is.

    Args:
        reached: What stands below partials, methods and wrappers.
    """
    kind = type(reached)
    if kind is types.FunctionType:
        if hasattr(reached, "view_class"):
            return _view(name_of(reached.view_class))
        if reached.__name__ in _SENDERS and _is_of_task_library(reached.__module__):
            return (
                f"{name_of(reached)} sends a task of another library, which would get the cancellation token as its "
                "argument: call it here, without queueing it, or queue a function that calls it"
            )
        return None
    if not callable(reached):
        return _not_callable(reached, kind)
    if issubclass(kind, type) and class_attribute(reached, "as_view") is not None:
        return _view(name_of(reached))
    return None


def _not_callable(value: Any, kind: type) -> str:
    if kind is types.CoroutineType:
        name = printable(value.__qualname__)
        # Otherwise Python warns that it "was never awaited", which hides the message below.
        value.close()
        return f"{name}(...) is a coroutine object: pass the function, do not call it: queue({name}, ...)"
    if class_attribute(kind, "__await__") is not None:
        return f"a {name_of(kind)} is awaited already somewhere: pass a function that makes it"
    if _is_of_task_library(class_attribute(kind, "__module__")):
        return (
            f"a {name_of(kind)} is a task of another library: send it with its own method, such as task.enqueue(...), "
            "or queue a function whose first parameter is the cancellation token"
        )
    return (
        f"a work item must be callable as work_item(token, *args), which a {name_of(kind)} is not: "
        "pass the function itself, without calling it"
    )


def _view(name: str) -> str:
    return (
        f"{name} is a view: it answers a request, and there is none in the background. Queue the function that does "
        "the work, whose first parameter is the cancellation token"
    )


def _is_of_task_library(module: Any) -> bool:
    return type(module) is str and any(
        module == library or module.startswith(f"{library}.") for library in _TASK_LIBRARIES
    )
