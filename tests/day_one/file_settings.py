"""The same site, whose test database is a file."""

import os

from .settings import *  # noqa: F403

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["DAY_ONE_DATABASE"],
        "TEST": {"NAME": os.environ["DAY_ONE_DATABASE"] + ".test"},
    }
}
