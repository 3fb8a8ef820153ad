"""The ASGI application."""

import os

from django.core.asgi import get_asgi_application

if os.environ.get("QBWI_SITE_HANDLER") == "before":
    from tests.processes.site.handlers import install

    install()

application = get_asgi_application()

if os.environ.get("QBWI_SITE_HANDLER") == "after":
    from tests.processes.site.handlers import install

    install()
