"""The backend for `settings.TASKS`: tasks of `django.tasks` run in the process that enqueues them.

For `django.tasks` where Django has it (6.0 and later), else for the backport, the package django-tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django_qbwi.handoff import frameworks
from django_qbwi.task_backend.queueing import TaskQueueing
from django_qbwi.task_backend.task_class import task_class_of

try:
    # By what can be imported: the backport may be installed beside the framework itself.
    _framework = frameworks.core()
except ImportError:
    _framework = frameworks.backport()

WorkItemTask: Any = task_class_of(_framework.task, __name__)
"""The class of its tasks."""
_Base: Any = object if TYPE_CHECKING else _framework.backend_base


class WorkItemBackend(TaskQueueing, _Base):  # type: ignore[misc]
    """`TASKS = {"default": {"BACKEND": "django_qbwi.backend.WorkItemBackend"}}`."""

    framework = _framework
    task_class = WorkItemTask
