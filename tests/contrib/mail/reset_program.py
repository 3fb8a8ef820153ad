"""A site with Django's password reset and that of allauth, if it is there: where their mails are sent. Prints JSON."""

import importlib.util
import json
import sys
import threading
from pathlib import Path
from typing import Any

import django
from django.conf import settings

HAS_ALLAUTH = importlib.util.find_spec("allauth") is not None
OURS = "django_qbwi.contrib.mail.BackgroundEmailBackend"
SENT: list[dict[str, Any]] = []
REQUESTS = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
USERS = ["django.contrib.auth.middleware.AuthenticationMiddleware"]
APPS = ["admin", "auth", "contenttypes", "messages", "sessions", "sites"]
CONTEXT = ["django.template.context_processors.request", "django.contrib.auth.context_processors.auth"]
TEMPLATES = {"context_processors": [*CONTEXT, "django.contrib.messages.context_processors.messages"]}

if __name__ == "__main__":
    sys.modules["reset_program"] = sys.modules["__main__"]
    mail = {"MAILERS": {"default": {"BACKEND": OURS}}} if django.VERSION >= (6, 1) else {"EMAIL_BACKEND": OURS}
    settings.configure(
        SECRET_KEY="for the tests only",
        ALLOWED_HOSTS=["testserver"],
        ROOT_URLCONF="reset_program",
        SITE_ID=1,
        INSTALLED_APPS=[
            *(f"django.contrib.{app}" for app in APPS),
            "django_qbwi",
            *(["allauth", "allauth.account"] if HAS_ALLAUTH else []),
        ],
        MIDDLEWARE=[*REQUESTS, *USERS, *(["allauth.account.middleware.AccountMiddleware"] if HAS_ALLAUTH else [])],
        TEMPLATES=[
            {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True, "OPTIONS": TEMPLATES}
        ],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": Path(sys.argv[1]) / "site.sqlite3",
                "ATOMIC_REQUESTS": True,
            }
        },
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
        QBWI={"EMAIL_BACKEND": "reset_program.NotingBackend"},
        **mail,
    )
    django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.contrib.auth.views import PasswordResetView  # noqa: E402
from django.core.mail.backends.base import BaseEmailBackend  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django.test import Client  # noqa: E402
from django.urls import include, path  # noqa: E402

from django_qbwi.testing import drain  # noqa: E402


class NotingBackend(BaseEmailBackend):
    """Notes what is sent, and from which thread."""

    def send_messages(self, email_messages: Any) -> int:
        for message in email_messages:
            SENT.append(
                {
                    "to": message.to,
                    "body": message.body,
                    "in_request": threading.current_thread() is threading.main_thread(),
                    "in_transaction": connection.in_atomic_block,
                }
            )
        return len(email_messages)


urlpatterns = [
    path("reset/", PasswordResetView.as_view(success_url="/"), name="reset"),
    path("", include("django.contrib.auth.urls")),
    *([path("accounts/", include("allauth.urls"))] if HAS_ALLAUTH else []),
]


def reset(address: str) -> dict[str, Any]:
    """Ask for a new password by the form at an address; return what was answered, and sent."""
    SENT.clear()
    response = Client().post(address, {"email": "ann@example.com"})
    assert drain(60)
    return {"status": response.status_code, "sent": list(SENT)}


if __name__ == "__main__":
    call_command("migrate", verbosity=0)
    User.objects.create_user("ann", "ann@example.com", "secret")
    found = {"django": reset("/reset/")}
    if HAS_ALLAUTH:
        found["allauth"] = reset("/accounts/password/reset/")
    print(json.dumps(found))
