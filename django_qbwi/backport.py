"""The backend for code that imports `django_tasks`, the backport, also where Django has `django.tasks` itself.

Both backends may be there side by side: they share the one scheduler of the process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django_qbwi.handoff import frameworks
from django_qbwi.task_backend.queueing import TaskQueueing
from django_qbwi.task_backend.task_class import task_class_of

_framework = frameworks.backport()
WorkItemTask: Any = task_class_of(_framework.task, __name__)
"""The class of its tasks."""
_Base: Any = object if TYPE_CHECKING else _framework.backend_base


class WorkItemBackend(TaskQueueing, _Base):  # type: ignore[misc]
    """`TASKS = {"default": {"BACKEND": "django_qbwi.backport.WorkItemBackend"}}`."""

    framework = _framework
    task_class = WorkItemTask
