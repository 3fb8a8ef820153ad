"""The site of the harness, with a history in a database of its own, which comes from the environment."""

import json
import os

from tests.processes.site.settings import *  # noqa: F403
from tests.processes.site.settings import DATABASES, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "django_qbwi.contrib.history"]
ROOT_URLCONF = "tests.processes.keeping.urls"
DATABASES = {**DATABASES, "history": json.loads(os.environ["QBWI_HISTORY_DATABASE"])}
DATABASE_ROUTERS = ["tests.processes.keeping.routers.ToHistory"]
