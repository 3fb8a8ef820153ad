"""Settings of the site; what varies comes from the environment, set by `tests.processes.harness`."""

from __future__ import annotations

import importlib
import json
import logging
import os
import time
from pathlib import Path

DIRECTORY = Path(os.environ["QBWI_SITE_DIR"])
HOSTED = os.environ.get("QBWI_SITE_HOSTED", "1") == "1"

SECRET_KEY = "for the tests only"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
USE_TZ = True
ROOT_URLCONF = "tests.processes.site.urls"
WSGI_APPLICATION = "tests.processes.site.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    *os.environ.get("QBWI_SITE_APPS", "").split(),
    *(["django_qbwi"] if HOSTED else []),
    "tests.processes.site.apps.SiteConfig",
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DIRECTORY / "site.sqlite3",
        "OPTIONS": {"timeout": 30},
    }
}
for _name in os.environ.get("QBWI_SITE_IMPORTS", "").split():
    importlib.import_module(_name)
QBWI = json.loads(os.environ.get("QBWI_SITE_SETTINGS", "{}"))


class OneRecordFormatter(logging.Formatter):
    """Marks every line of a record, so that the tests can tell our records from what else is on stderr."""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).replace("\n", "\nQBWI | ")


class StuckHandler(logging.Handler):
    """Blocks for ever at the first record that has a given word."""

    def emit(self, record: logging.LogRecord) -> None:
        if os.environ["QBWI_SITE_STUCK_LOG"] in record.getMessage():
            from tests.processes.site.report import report  # only where a test asks for it

            report("handler blocks")
            time.sleep(600)


LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "marked": {"()": OneRecordFormatter, "format": "QBWI %(levelname)s %(name)s %(message)s"},
        "plain": {"format": "%(levelname)s %(message)s"},
    },
    "handlers": {
        "warnings": {"class": "logging.StreamHandler", "level": "WARNING", "formatter": "marked"},
        "records": {"class": "logging.FileHandler", "filename": DIRECTORY / "records", "formatter": "plain"},
    },
    "loggers": {"django_qbwi": {"handlers": ["warnings", "records"], "level": "INFO", "propagate": False}},
}
if "QBWI_SITE_STUCK_LOG" in os.environ:
    LOGGING["handlers"]["stuck"] = {"()": StuckHandler}
    LOGGING["loggers"]["django_qbwi"]["handlers"].append("stuck")
