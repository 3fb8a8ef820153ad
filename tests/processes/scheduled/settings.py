"""The site of `tests.processes.inspected`, with a database and schedules."""

import json
import os

from tests.processes.inspected.settings import *  # noqa: F403
from tests.processes.inspected.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "django_qbwi.contrib.schedules", "tests.processes.scheduled"]
DATABASES = {"default": json.loads(os.environ["QBWI_TEST_DATABASE"])}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
