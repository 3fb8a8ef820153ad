"""The example site with an engine: what a shutdown interrupts goes on in `manage.py db_worker --backend durable`."""

from example_project.settings import *  # noqa: F403
from example_project.settings import CONSOLE, INSTALLED_APPS, LOGGING, QBWI, RETRY

INSTALLED_APPS = [*INSTALLED_APPS, "django_tasks_db"]
TASKS = {
    "default": {"BACKEND": "django_qbwi.backend.WorkItemBackend", "OPTIONS": {"HAND_OFF": "durable", "RETRY": RETRY}},
    "durable": {
        "BACKEND": "django_tasks_db.DatabaseBackend",
        "OPTIONS": {"id_function": "django_qbwi.handoff.item_id"},
    },
}
GALLERY_ENGINE = "durable"

# Few workers and little time, so that there is something to move.
QBWI = {**QBWI, "MAX_WORKERS": 2, "SHUTDOWN_TIMEOUT": 8.0, "EMAIL_HAND_OFF": "durable"}

LOGGING = {**LOGGING, "loggers": {**LOGGING["loggers"], "django_tasks_db": CONSOLE}}
