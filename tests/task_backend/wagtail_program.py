"""Wagtail with our backend for its tasks: a page is added and changed, and what its tasks came to is printed."""

import json
import sys
from collections import Counter
from pathlib import Path

import django
from django.conf import settings

FOLDER, BACKEND = Path(sys.argv[1]), sys.argv[2]

settings.configure(
    SECRET_KEY="for a test only",
    USE_TZ=True,
    ROOT_URLCONF=__name__,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=[
        "django_qbwi",
        "wagtail.search",
        "wagtail.images",
        "wagtail.documents",
        "wagtail.users",
        "wagtail.admin",
        "wagtail.snippets",
        "wagtail",
        "modelcluster",
        "taggit",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "django_tasks",
    ],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(FOLDER / "site.sqlite3"),
            "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
        }
    },
    TASKS={"default": {"BACKEND": BACKEND, "OPTIONS": {"ON_COMMIT": "default"}}},
    STATIC_URL="/static/",
    MEDIA_ROOT=str(FOLDER / "media"),
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
    WAGTAIL_SITE_NAME="A test",
    WAGTAILADMIN_BASE_URL="http://localhost",
    LOGGING_CONFIG=None,
)
urlpatterns: list[object] = []
django.setup()

from django.core.management import call_command  # noqa: E402 - behind the setup
from wagtail.models import Page  # noqa: E402

from django_qbwi import hosting, recent_items  # noqa: E402

call_command("migrate", verbosity=0)
ended: Counter[str] = Counter()


def finish() -> None:
    """Wait for the tasks that are there."""
    assert hosting.scheduler().wait_until_empty(60)


root = Page.objects.get(depth=1)
page = root.add_child(title="A page")
finish()
page.title = "The same page"
page.save()
finish()
for info in recent_items():
    ended[f"{info.name} {info.status}"] += 1
print(json.dumps(ended))
