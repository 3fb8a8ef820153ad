"""No database, no sessions, no users: the command needs none of them. A key for each test tells its site apart."""

import os

SECRET_KEY = os.environ["QBWI_TEST_KEY"]
SECRET_KEY_FALLBACKS = [key for key in os.environ.get("QBWI_TEST_OLD_KEYS", "").split(",") if key]
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "tests.processes.inspected.urls"
INSTALLED_APPS = ["django_qbwi"]
USE_TZ = True
TASKS = {"default": {"BACKEND": "django_qbwi.backend.WorkItemBackend"}}
QBWI = {"MAX_WORKERS": 2, "SHUTDOWN_TIMEOUT": 5.0}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "loggers": {"django_qbwi": {"level": os.environ.get("QBWI_TEST_LEVEL", "INFO"), "handlers": ["stderr"]}},
}
