"""Results of tasks that another process of the site has: asked for over the inspection channel.

What comes is of the site's own processes, who prove it by its SECRET_KEY.
"""

from __future__ import annotations

import datetime
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone
from django.utils.module_loading import import_string

from django_qbwi import hosting
from django_qbwi.core.exceptions import InspectionError, ProcessUnreachable
from django_qbwi.core.names import printable
from django_qbwi.inspection.records import bounded, fields, flag, moment, number, optional, text
from django_qbwi.task_backend.outcome import FAILED, READY, RUNNING, SUCCESSFUL, Failure, Outcome
from django_qbwi.task_backend.task_class import FIELDS


def ask(kept_under: str, result_id: str) -> tuple[dict[str, Any] | None, list[str]]:
    """Ask the other processes for a result; return it, if one has it, and what could not be found out.

    Blocks for half a second at the most, and only if there are others.
    """
    try:
        request = {"operation": "result", "kept": kept_under, "id": result_id}
        found = hosting.ask_others(request)
    except (InspectionError, ImproperlyConfigured) as error:
        return None, [printable(str(error))]
    except Exception as error:
        # Whatever the system, or somebody on it, makes of the search: the request that asks goes on.
        return None, [f"the processes of this machine could not be looked for: {printable(str(error))}"]
    if found is None:
        return None, []
    gaps = [f"process {pid} did not answer" for pid in found.unresponsive]
    gaps += [f"process {pid} runs as another user" for pid in found.refused]
    for pid, answer in found.answers:
        try:
            if answer is not None:
                return fields(answer, _RULES), []
        except ProcessUnreachable as error:
            gaps.append(f"process {pid} answered in another way: {error}")
    return None, gaps


def function_of(told: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the function of a task that was told of, and what its task says in this process of its attempts.

    Raises:
        ImportError: It is not there in this process.
    """
    found = import_string(told["path"])
    return getattr(found, "func", found), {name: getattr(found, name, None) for name in FIELDS}


def options_of(told: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a task that was told of."""
    options = {name: told[name] for name in ("queue_name", "takes_context")}
    return {**options, "priority": int(told["priority"]), "run_after": _moment(told["run_after"])}


def outcome_of(told: dict[str, Any]) -> Outcome:
    """Return the outcome of a task that was told of."""
    return Outcome(
        status=told["status"],
        enqueued_at=_moment(told["enqueued_at"]),
        started_at=_moment(told["started_at"]),
        last_attempted_at=_moment(told["last_attempted_at"]),
        finished_at=_moment(told["finished_at"]),
        failures=tuple(Failure(**failure) for failure in told["failures"]),
        worker_ids=tuple(told["worker_ids"]),
        value=told["value"],
    )


def _moment(told: str | None) -> datetime.datetime | None:
    if told is None:
        return None
    value = datetime.datetime.fromisoformat(told)
    return value if timezone.is_aware(timezone.now()) else timezone.make_naive(value)


def _anything(value: Any) -> Any:
    # Plain JSON, from a process of the site.
    return value


def _status(value: Any) -> str:
    if value not in (READY, RUNNING, FAILED, SUCCESSFUL):
        raise ProcessUnreachable(f"a process answered with the status {value!r}")
    return str(value)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ProcessUnreachable(f"a process answered with {type(value).__name__} where a list belongs")
    return value


def _dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ProcessUnreachable(f"a process answered with {type(value).__name__} where an object belongs")
    return value


def _failures(value: Any) -> list[dict[str, Any]]:
    return [fields(failure, {"exception_class_path": text, "traceback": text}) for failure in _list(value)]


_RULES = {
    "path": bounded(1_000),
    "priority": number,
    "queue_name": bounded(1_000),
    "run_after": optional(moment),
    "takes_context": flag,
    "args": _list,
    "kwargs": _dict,
    "status": _status,
    "enqueued_at": optional(moment),
    "started_at": optional(moment),
    "last_attempted_at": optional(moment),
    "finished_at": optional(moment),
    "failures": _failures,
    "worker_ids": lambda value: list(map(text, _list(value))),
    "value": _anything,
}
