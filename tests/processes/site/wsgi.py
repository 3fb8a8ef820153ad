"""The WSGI application."""

import os

from django.core.wsgi import get_wsgi_application

if os.environ.get("QBWI_SITE_HANDLER") == "before":
    from tests.processes.site.handlers import install

    install()

if os.environ.get("QBWI_SITE_UWSGI_HOOK") == "before":
    from tests.processes.site.handlers import set_uwsgi_hook

    set_uwsgi_hook()

application = get_wsgi_application()

if os.environ.get("QBWI_SITE_HANDLER") == "after":
    from tests.processes.site.handlers import install

    install()
