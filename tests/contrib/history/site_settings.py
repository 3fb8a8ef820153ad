"""A site with the history, in files: its processes are no test run."""

import os
from pathlib import Path

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS

_PLACE = Path(os.environ["QBWI_TEST_PLACE"])
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": _PLACE / "site.sqlite3"},
    "other": {"ENGINE": "django.db.backends.sqlite3", "NAME": _PLACE / "other.sqlite3"},
}
INSTALLED_APPS = [*INSTALLED_APPS, "django_qbwi.contrib.history"]
ALLOWED_HOSTS = ["testserver"]
USE_TZ = os.environ.get("QBWI_TEST_USE_TZ", "1") == "1"
ROOT_URLCONF = "tests.contrib.history.site_urls"
