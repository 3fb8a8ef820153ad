"""A site whose admin has a theme, or none, served to a browser: `python -m tests.admin.themed_site THEME DATABASE`.

Prints its port and the session of a superuser, and ends with its standard input.
"""

import sys
from typing import Any
from unittest import mock

import django
from django.conf import settings

THEMES: dict[str, list[str]] = {
    "plain": [],
    "grappelli": ["grappelli"],
    "jazzmin": ["jazzmin"],
    "unfold": ["unfold"],
}
"""The apps that come before the admin's."""

urlpatterns: list[Any] = []


def configure(theme: str, database: str) -> None:
    """Set Django up, and the database."""
    middleware = ["sessions.middleware.Session", "auth.middleware.Authentication", "messages.middleware.Message"]
    context = ["template.context_processors.request", "contrib.auth.context_processors.auth"]
    context.append("contrib.messages.context_processors.messages")
    settings.configure(
        SECRET_KEY="x",
        DEBUG=True,  # the static files are served
        USE_TZ=True,
        STATIC_URL="/static/",
        ROOT_URLCONF=__name__,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": database}},
        INSTALLED_APPS=[
            *THEMES[theme],
            *(f"django.contrib.{name}" for name in ("admin", "auth", "contenttypes", "messages", "sessions")),
            "django.contrib.staticfiles",
            "django_qbwi",
        ],
        MIDDLEWARE=[f"django.contrib.{name}Middleware" for name in middleware],
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {"context_processors": [f"django.{name}" for name in context]},
            }
        ],
    )
    django.setup()


def add_urls(theme: str) -> None:
    """Fill the URLconf, now that there are apps."""
    from django.contrib import admin
    from django.urls import include, path

    if theme == "grappelli":
        urlpatterns.append(path("grappelli/", include("grappelli.urls")))
    urlpatterns.append(path("admin/", admin.site.urls))


def log_in() -> str:
    """Return the session of a superuser."""
    from django.contrib.auth.models import User
    from django.test import Client

    client = Client()
    client.force_login(User.objects.create_superuser("ada"))
    return client.cookies[settings.SESSION_COOKIE_NAME].value


def serve(theme: str, database: str) -> None:
    """Serve a busy site until the standard input ends."""
    configure(theme, database)
    add_urls(theme)
    from django.contrib.staticfiles.handlers import StaticFilesHandler
    from django.core.management import call_command
    from django.core.servers.basehttp import ThreadedWSGIServer
    from django.core.wsgi import get_wsgi_application
    from django.test.testcases import QuietWSGIRequestHandler
    from django.utils import timezone

    from django_qbwi.console import operations
    from tests.admin import site

    call_command("migrate", verbosity=0)
    fake = site.FakeSite()
    fake.answer, fake.stack = site.busy_site(timezone.now()), 'File "views.py", line 3, in resize'
    process = fake.answer["processes"][1]
    server = ThreadedWSGIServer(("127.0.0.1", 0), QuietWSGIRequestHandler)
    server.set_app(StaticFilesHandler(get_wsgi_application()))
    import threading

    thread = threading.Thread(target=server.serve_forever)
    with mock.patch.multiple(operations, overview=fake.overview, find=fake.find):
        thread.start()
        print(server.server_port, log_in(), process["items"][0]["id"], flush=True)
        sys.stdin.read()
        server.shutdown()
        thread.join()
        server.server_close()


if __name__ == "__main__":
    from tests.admin import themed_site

    themed_site.serve(*sys.argv[1:])
