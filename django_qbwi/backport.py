"""The backend for code that imports `django_tasks`, the backport, also where Django has `django.tasks` itself.

Both backends may be there side by side: they share the one scheduler of the process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django_qbwi.handoff import frameworks
from django_qbwi.task_backend.queueing import TaskQueueing

_framework = frameworks.backport()
_Base: Any = object if TYPE_CHECKING else _framework.backend_base


class WorkItemBackend(TaskQueueing, _Base):  # type: ignore[misc]
    """`TASKS = {"default": {"BACKEND": "django_qbwi.backport.WorkItemBackend"}}`."""

    framework = _framework
