"""The WSGI application."""

import os

from django.core.wsgi import get_wsgi_application

if os.environ.get("QBWI_SITE_HANDLER") == "before":
    from tests.processes.site.handlers import install

    install()

application = get_wsgi_application()

if os.environ.get("QBWI_SITE_HANDLER") == "after":
    from tests.processes.site.handlers import install

    install()
