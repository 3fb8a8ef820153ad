"""Sites that differ from the tests' own, each in a process of its own: without an admin site, and with another one."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.scripts import unexpected

CHECKOUT = Path(__file__).parents[2]

BARE = """
import sys
from django.conf import settings

settings.configure(INSTALLED_APPS=["django_qbwi"], SECRET_KEY="x", USE_TZ=True)
import django
django.setup()
from django.core.management import call_command
call_command("check")

from django_qbwi import queue_background_work_item
from django_qbwi.console import operations
handle = queue_background_work_item(lambda token: None, name="bare")
assert handle.wait(30)
assert "bare" in str(operations.overview()), "not listed"
unwanted = {f"django.contrib.{name}.models" for name in ("admin", "auth", "contenttypes", "sessions")}
assert unwanted.isdisjoint(sys.modules)
assert "django_qbwi.admin" not in sys.modules
"""

ADMIN = """
import sys
from django.conf import settings

settings.configure(
    SECRET_KEY="x",
    USE_TZ=True,
    STATIC_URL="/static/",
    ROOT_URLCONF="__main__",
    ALLOWED_HOSTS=["testserver"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]}},
    INSTALLED_APPS=[
        *%(apps)s,
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.messages",
        "django.contrib.sessions",
        "django.contrib.staticfiles",
        "django_qbwi",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
)
import django
django.setup()
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.urls import path
urlpatterns = [path("panel/", admin.site.urls)]
call_command("check")
call_command("migrate", verbosity=0)

from django_qbwi import queue_background_work_item
client = Client()
client.force_login(User.objects.create_superuser("ada"))
handle = queue_background_work_item(lambda token: token.wait(30), name="resize <albums>")
base = "/panel/django_qbwi/workitem/"
for response in (
    client.get("/panel/"),
    client.get(base),
    client.get(f"{base}{handle.id}/change/"),
    client.get(f"{base}unknown/change/"),
    client.post(f"{base}cancel/", {"item": handle.id}),
    client.post(f"{base}cancel/", {"item": handle.id, "confirm": "yes"}, follow=True),
):
    assert response.status_code == (404 if "unknown" in response.request["PATH_INFO"] else 200), response.request
    page = response.content.decode()
    if response.request["PATH_INFO"] != "/panel/":
        assert "django_qbwi/admin.css" in page
        assert "<albums>" not in page
        assert %(mark)r in page, "not in the theme"
assert handle.wait(30)
assert str(handle.status) == "succeeded", handle.status
"""


def run(script: str, *arguments: str) -> None:
    """Run a script in a fresh interpreter; it must end well and say nothing."""
    command = [sys.executable, "-W", "ignore", "-c", f"import sys; sys.path.insert(0, {str(CHECKOUT)!r})\n{script}"]
    result = subprocess.run([*command, *arguments], cwd="/", capture_output=True, text=True, timeout=120)
    said = unexpected(result.stderr).replace("Not Found: /panel/django_qbwi/workitem/unknown/change/\n", "")
    assert (result.returncode, said) == (0, ""), result.stderr


def test_without_admin_auth_and_database() -> None:
    """Without admin, auth, sessions and a database all but the page works, and none of them is loaded."""
    run(BARE)


def test_with_admin(tmp_path: Path) -> None:
    """A site of the usual kind, under an address of its own."""
    run(ADMIN % {"apps": ["django.contrib.admin"], "mark": "admin/css/base.css"}, str(tmp_path / "site.sqlite3"))


def test_with_unfold(tmp_path: Path) -> None:
    """django-unfold replaces the admin's templates and its default site; the page is one of its pages."""
    if importlib.util.find_spec("unfold") is None:
        pytest.skip("django-unfold is not installed")
    apps = ["unfold", "django.contrib.admin"]
    run(ADMIN % {"apps": apps, "mark": "unfold/css/styles.css"}, str(tmp_path / "site.sqlite3"))
