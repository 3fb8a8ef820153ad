"""Whom django-crum, django-currentuser, django-simple-history and django-auditlog see in an item; prints JSON."""

import contextlib
import json
import logging
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import django
from asgiref.sync import sync_to_async
from django.conf import settings

PATIENCE = 60
CARRIER = {"CONTEXT": ["django_qbwi.contrib.current_user"]}

if __name__ == "__main__":
    folder = tempfile.TemporaryDirectory()
    settings.configure(
        SECRET_KEY="for the tests only",
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "simple_history",
            "auditlog",
            "django_qbwi",
        ],
        DATABASES={
            "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(Path(folder.name) / "site.sqlite3")}
        },
        USE_TZ=True,
        QBWI={},
    )
    django.setup()

import auditlog.middleware  # noqa: E402
import crum  # noqa: E402
import simple_history  # noqa: E402
import simple_history.middleware  # noqa: E402
from auditlog.models import LogEntry  # noqa: E402
from auditlog.registry import auditlog as registry  # noqa: E402
from django.contrib.auth.models import Group, User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection, connections, transaction  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.test import RequestFactory, override_settings  # noqa: E402

from django_qbwi import Retry, background_work_item, queue_background_work_item, queue_on_commit  # noqa: E402

MIDDLEWARE: list[Any] = [
    crum.CurrentRequestUserMiddleware,
    simple_history.middleware.HistoryRequestMiddleware,
    auditlog.middleware.AuditlogMiddleware,
]
# Not every Django is one that it takes.
currentuser: Any = None
with contextlib.suppress(ImportError):
    from django_currentuser import middleware as currentuser

    MIDDLEWARE.append(currentuser.ThreadLocalUserMiddleware)


def name_of(user: Any) -> str:
    """Return the name of a user, "" for none."""
    return "" if user is None else user.get_username()


def look() -> dict[str, str]:
    """Change something, and say whom each library holds responsible."""
    group = Group.objects.create(name=str(Group.objects.count()))
    found = {
        "crum": name_of(crum.get_current_user()),
        "history": name_of(group.history.get().history_user),
        "auditlog": name_of(LogEntry.objects.get_for_object(group).get().actor),
    }
    return found if currentuser is None else {**found, "currentuser": name_of(currentuser.get_current_user())}


def during_request(user: Any, view: Any) -> None:
    """Call a view inside of all middlewares."""

    def respond(request: Any) -> HttpResponse:
        view()
        return HttpResponse("done")

    for middleware in MIDDLEWARE:
        respond = middleware(respond)
    request = RequestFactory().get("/")
    request.user = user
    respond(request)


def play(qbwi: dict[str, Any], *, is_async: bool = False) -> dict[str, str]:
    """Queue an item in a request of Ada's; return whom it saw, once it was seen that the view still sees Ada."""
    seen: list[dict[str, str]] = []

    def item(token: object) -> None:
        seen.append(look())

    async def async_item(token: object) -> None:
        seen.append(await sync_to_async(look)())

    def view() -> None:
        handle = queue_background_work_item(async_item if is_async else item)
        assert handle.wait(PATIENCE)
        assert handle.info.error is None, handle.info.error
        assert set(look().values()) == {"ada"}

    with override_settings(QBWI=qbwi):
        during_request(User.objects.get(username="ada"), view)
        # Whoever comes next on that worker.
        after = queue_background_work_item(item)
        assert after.wait(PATIENCE)
        left = seen.pop()
        assert set(left.values()) == {""}, (qbwi, is_async, left)
    return seen[0]


def play_through(queue: Callable[[Callable[[object], None]], object]) -> dict[str, str]:
    """Queue an item by `queue`, with the carrier, in a request that has ended when it runs; return whom it saw last."""
    seen: list[dict[str, str]] = []
    begin, done = threading.Event(), threading.Event()

    def item(token: object) -> None:
        assert begin.wait(PATIENCE)
        seen.append(look())
        if queue is retried and len(seen) == 1:
            raise OSError("the first attempt")
        done.set()

    with override_settings(QBWI=CARRIER):
        during_request(User.objects.get(username="ada"), lambda: queue(item))
        begin.set()
        assert done.wait(PATIENCE), queue
    assert len(seen) == (2 if queue is retried else 1)
    assert seen[0] == seen[-1]
    return seen[-1]


def retried(item: Callable[[object], None]) -> None:
    """Queue it so that it is tried again."""
    background_work_item(retry=Retry(max_attempts=2, backoff=lambda attempt, error: 0.0))(item).queue()


def on_commit(item: Callable[[object], None]) -> None:
    """Queue it in a transaction of the request."""
    with transaction.atomic():
        queue_on_commit(item)


def queued_by_another(item: Callable[[object], None]) -> None:
    """Queue it in an item."""

    def first(token: object) -> None:
        queue_background_work_item(item)

    queue_background_work_item(first)


def main() -> None:
    """Make the tables, and play."""
    simple_history.register(Group, app="django.contrib.auth")
    registry.register(Group)
    call_command("migrate", verbosity=0)
    with connection.schema_editor() as editor:
        editor.create_model(Group.history.model)
    User.objects.create(username="ada")
    played = {
        f"{place}, {kind}, {how}": play({**immediate, **carrier}, is_async=kind == "async")
        for place, immediate in (("thread", {}), ("immediate", {"IMMEDIATE": True}))
        for kind in ("sync", "async")
        for how, carrier in (("without", {}), ("with", CARRIER))
    }
    logging.disable()
    for queue in (retried, on_commit, queued_by_another):
        played[f"{queue.__name__}, with"] = play_through(queue)
    connections.close_all()
    json.dump(played, sys.stdout)


if __name__ == "__main__":
    main()
    folder.cleanup()
