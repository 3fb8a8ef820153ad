"""The same site on several hosts, which share one database and nothing else.

Each "host" has a name of its own and a place of its own for the channel, so that it reaches none of the others.
"""

import json
import os
import socket

from django_qbwi.inspection import places
from tests.processes.inspected.settings import *  # noqa: F403
from tests.processes.inspected.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "django_qbwi.contrib.shared_registry"]
DATABASES = {"default": json.loads(os.environ["QBWI_TEST_DATABASE"])}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

_host = os.environ["QBWI_TEST_HOST"]
_place = places.DirectoryPlace(os.environ["QBWI_TEST_PLACE"])
socket.gethostname = lambda: _host
# Settings are read before anybody imports this function by its name.
places.find_place = lambda: _place
