"""The example site with huey on Redis as its engine: what a shutdown interrupts goes on in `manage.py run_huey`."""

import os

from example_project.settings_durable import *  # noqa: F403
from example_project.settings_durable import CONSOLE, LOGGING, TASKS
from example_project.settings_durable import INSTALLED_APPS as APPS

INSTALLED_APPS = [*(app for app in APPS if app != "django_tasks_db"), "huey.contrib.djhuey"]
TASKS = {**TASKS, "durable": {"BACKEND": "huey.contrib.djhuey.tasks_backend.HueyBackend"}}
HUEY = {
    "name": "gallery",
    "immediate": False,  # under DEBUG huey runs its tasks at the call, if it is not told so
    "connection": {"url": os.environ.get("EXAMPLE_REDIS", "redis://localhost:6379/0")},
    "consumer": {"workers": 2},
}

LOGGING = {**LOGGING, "loggers": {**LOGGING["loggers"], "huey": CONSOLE}}
