"""For servers of WSGI."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.processes.inspected.settings")
application = get_wsgi_application()
