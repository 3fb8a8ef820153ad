"""Settings of the site: those of the other real servers, with an engine that the environment names."""

from __future__ import annotations

import json
import os

from tests.processes.site.settings import *  # noqa: F403 - what is not said here is as there

try:
    import django.tasks as _tasks  # noqa: F401 - only whether it is there
except ImportError:
    _BACKEND, _FRAMEWORK = "django_qbwi.backport.WorkItemBackend", ["django_tasks"]
else:
    _BACKEND, _FRAMEWORK = "django_qbwi.backend.WorkItemBackend", []

_GIVEN = json.loads(os.environ["QBWI_SITE_ENGINE"])
_REDIS = _GIVEN.get("redis")
_ENGINES = {
    "django-tasks-db": (
        ["django_tasks_db"],
        "django_tasks_db.DatabaseBackend",
        {"id_function": "django_qbwi.handoff.item_id"},
    ),
    "huey": (["huey.contrib.djhuey"], "huey.contrib.djhuey.tasks_backend.HueyBackend", {}),
    "fennel": (["django_tasks_fennel"], "django_tasks_fennel.backend.CeleryBackend", {}),
    "django-ox": (["django_ox"], "django_ox.backend.OxBackend", {}),
}
if _GIVEN["engine"] == "fennel":
    # As the `__init__` of a project does: what enqueues has to know the broker.
    from tests.handoff.real_engines.site.celery_app import app as celery_app  # noqa: F401
_APPS, _ENGINE, _OPTIONS = _ENGINES[_GIVEN["engine"]]

ROOT_URLCONF = "tests.handoff.real_engines.site.urls"
WSGI_APPLICATION = "tests.handoff.real_engines.site.wsgi.application"
INSTALLED_APPS = ["django_qbwi", *_FRAMEWORK, *_APPS]
DATABASES = {"default": _GIVEN["database"]}
TASKS = {
    "default": {"BACKEND": _BACKEND, "OPTIONS": {"HAND_OFF": "durable"}},
    "durable": {"BACKEND": _ENGINE, "OPTIONS": _OPTIONS},
}
HUEY = {
    "name": "site",
    "immediate": _GIVEN.get("immediate", False),
    "connection": {"url": f"unix://{_REDIS}"},
    "consumer": {"workers": 2, "initial_delay": 0.02, "max_delay": 0.1, "check_worker_health": False},
}
