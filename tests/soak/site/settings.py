"""Settings of the site: small bounds, so that all of them are met."""

from __future__ import annotations

import os
from pathlib import Path

from tests.processes.site.settings import LOGGING as _LOGGING

DIRECTORY = Path(os.environ["QBWI_SITE_DIR"])

SECRET_KEY = "for the tests only"
ALLOWED_HOSTS = ["127.0.0.1"]
USE_TZ = True
ROOT_URLCONF = "tests.soak.site.urls"
INSTALLED_APPS = ["django_qbwi", "django_tasks_db", "tests.soak.site.apps.SoakConfig"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# As the documentation of hand-off has them.
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DIRECTORY / "engine.sqlite3",
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL"},
    }
}
TASKS = {
    "default": {"BACKEND": "django_qbwi.backend.WorkItemBackend"},
    "durable": {
        "BACKEND": "django_tasks_db.DatabaseBackend",
        "OPTIONS": {"id_function": "django_qbwi.handoff.item_id"},
    },
}
QBWI = {
    "MAX_WORKERS": 4,
    "MAX_ASYNC_IN_FLIGHT": 20,
    "MAX_QUEUED": 60,
    "MAX_DELAYED": 200,
    "OVERDUE_AFTER": 1.0,
    "SHUTDOWN_TIMEOUT": 4.0,
    "POOLS": {"mail": {"MAX_WORKERS": 1, "MAX_QUEUED": 20, "MAX_ASYNC_IN_FLIGHT": 2}},
    "PROCESS_WORKERS": 1,
}
# Files of an hour would be large: what ends well is in the ledger.
LOGGING = {
    **_LOGGING,
    "handlers": {name: {**handler, "level": "ERROR"} for name, handler in _LOGGING["handlers"].items()},
}
