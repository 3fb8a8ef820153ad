"""A site with the admin and some rows in the table of schedules; writes what its pages and its command say, as JSON."""

from __future__ import annotations

import io
import json
import sys
import time
from datetime import timedelta

import django
from django.conf import settings

APPS = ["django_qbwi", "django_qbwi.contrib.schedules"]
APPS += [f"django.contrib.{name}" for name in ("admin", "auth", "contenttypes", "messages", "sessions")]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
PROCESSORS = [f"django.contrib.{name}" for name in ("auth.context_processors.auth",)]
PROCESSORS += ["django.contrib.messages.context_processors.messages", "django.template.context_processors.request"]


def main(path: str, use_tz: bool) -> None:
    """Look at everything once."""
    settings.configure(
        SECRET_KEY="only-for-this-test",
        USE_TZ=use_tz,
        ALLOWED_HOSTS=["testserver"],
        ROOT_URLCONF="tests.contrib.schedules.admin_urls",
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": path}},
        INSTALLED_APPS=APPS,
        MIDDLEWARE=MIDDLEWARE,
        STATIC_URL="static/",
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {"context_processors": PROCESSORS},
            }
        ],
    )
    django.setup()
    from django.contrib.auth.models import Permission, User
    from django.core.management import CommandError, call_command
    from django.test import Client

    from django_qbwi.contrib.schedules import schedule
    from django_qbwi.contrib.schedules.models import ScheduleState
    from tests.contrib.schedules import scheduled

    written = {}

    def command(name: str, *words: str) -> None:
        output = io.StringIO()
        try:
            call_command("qbwi", *words, "schedules", stdout=output, no_color=True)
        except CommandError as error:
            output.write(f"error {error.returncode}: {error}")
        written[name] = output.getvalue()

    command("without table")
    call_command("migrate", verbosity=0)
    command("nothing")
    schedule(every=timedelta(minutes=1), name="new one")(scheduled.plain)
    schedule(cron="0 3 * * *", name="nightly")(scheduled.plain)
    schedule(every=timedelta(minutes=1), name="lost one")(scheduled.plain)
    now = int(time.time() * 1000)
    ran = {"tick_ms": now - 60_000, "started_ms": now - 60_000, "item": "abc", "place": "web1:7", "claim": "k"}
    ended = {**ran, "ended_ms": now - 50_000}
    rows = ScheduleState.objects
    rows.create(name="nightly", when="cron 0 3 * * * (UTC)", next_ms=now + 90_000, status="failed", **ended)
    rows.create(name="lost one", when="every 60 s", next_ms=now + 1000, status="running", busy_until_ms=now - 1, **ran)
    rows.create(name="gone", when="every 60 s", next_ms=now - 1000, status="succeeded", skipped=3, **ended)
    command("table")
    command("json", "--format", "json")
    command("jsonl", "--format", "jsonl")

    client = Client()
    user = User.objects.create_user("ann", password="x", is_staff=True)
    client.force_login(user)
    page = "/admin/django_qbwi_schedules/schedulestate/"
    written["forbidden"] = str(client.get(page).status_code)
    user.user_permissions.add(Permission.objects.get(codename="view_schedulestate"))
    written["list"] = client.get(page).content.decode()
    written["search"] = client.get(page, {"q": "nightly"}).content.decode()
    written["detail"] = client.get(f"{page}nightly/change/").content.decode()
    client.force_login(User.objects.create_superuser("root"))
    for what in ("add/", "nightly/delete/"):
        written[what] = str(client.get(page + what).status_code)
    written["change"] = str(client.post(f"{page}nightly/change/", {"when": "never"}).status_code)
    json.dump(written, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] == "True")
