"""The panel of django-debug-toolbar that lists the tasks of a request shows those of our backend."""

import importlib.util
import json

import django
import pytest

from tests.support.scripts import run_script

pytestmark = [
    pytest.mark.skipif(django.VERSION < (6, 0), reason="the panel is for django.tasks, which Django has from 6.0 on"),
    pytest.mark.skipif(
        importlib.util.find_spec("debug_toolbar") is None
        or importlib.util.find_spec("debug_toolbar.panels.tasks") is None,
        reason="django-debug-toolbar is not installed, or too old to have the panel",
    ),
]

SITE = """
import json
import sys

from django.conf import settings

settings.configure(
    DEBUG=True,
    LOGGING_CONFIG=None,
    SECRET_KEY="for the tests only",
    ROOT_URLCONF="__main__",
    ALLOWED_HOSTS=["*"],
    INTERNAL_IPS=["127.0.0.1"],
    STATIC_URL="static/",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=["django.contrib.staticfiles", "debug_toolbar", "django_qbwi"],
    MIDDLEWARE=["debug_toolbar.middleware.DebugToolbarMiddleware"],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
    TASKS={
        "default": {
            "BACKEND": "django_qbwi.backend.WorkItemBackend",
            "QUEUES": [],
            "OPTIONS": json.loads(sys.argv[1]),
        }
    },
    # One of the two enqueues inside of an open transaction on purpose.
    QBWI={"WARN_IN_TRANSACTION": False},
    DEBUG_TOOLBAR_PANELS=["debug_toolbar.panels.tasks.TasksPanel"],
    DEBUG_TOOLBAR_CONFIG={"IS_RUNNING_TESTS": False},
)

import django

django.setup()

from django.db import transaction
from django.http import HttpResponse
from django.tasks import task
from django.test import Client
from django.urls import include, path

from django_qbwi.testing import drain


@task(queue_name="mail", priority=3)
def send_mail(to, subject):
    pass


@transaction.atomic
def view(request):
    send_mail.enqueue("ada@example.org", subject="Hello")
    return HttpResponse("<html><body>sent</body></html>")


urlpatterns = [path("", view), path("__debug__/", include("debug_toolbar.urls"))]

client = Client()
page = client.get("/").content.decode()
print("1 task</" in page)
request_id = page.partition('data-request-id="')[2].partition('"')[0]
query = {"request_id": request_id, "panel_id": "TasksPanel"}
content = client.get("/__debug__/render_panel/", query).json()["content"]
for shown in ("__main__.send_mail", "mail", "READY", "ada@example.org", "Hello"):
    print(shown in content)
assert drain(30)
"""


@pytest.mark.parametrize("options", [{}, {"ON_COMMIT": "default"}], ids=["at once", "on commit"])
def test_panel_shows_the_tasks_of_a_request(options: dict[str, str]) -> None:
    """With function, queue, status and arguments; those that wait for the commit of the request too."""
    assert run_script(SITE, json.dumps(options)) == ["True"] * 6
