"""Runs in a process of its own, which is no test run: items end badly, and the page and the command show them."""

from __future__ import annotations

import io
import json
import logging
import time
from typing import Any

import django

django.setup()
logging.disable(logging.CRITICAL)

from django.contrib.auth.models import Permission, User  # noqa: E402
from django.core import checks  # noqa: E402
from django.core.management import CommandError, call_command  # noqa: E402
from django.test import Client  # noqa: E402
from django.urls import reverse  # noqa: E402

from django_qbwi import hosting, queue_background_work_item  # noqa: E402
from django_qbwi.contrib.history.models import HistoryEntry  # noqa: E402

HOSTILE = "<script>alert(1)</script>\u202egnp"


def fail(token: Any, text: str) -> None:
    """Fail."""
    raise ValueError(text)


def history(*arguments: str) -> str:
    """Return what the command prints."""
    output = io.StringIO()
    call_command("qbwi", "history", *arguments, stdout=output, no_color=True)
    return output.getvalue()


def code(*arguments: str) -> tuple[int, str]:
    """Return how the command fails."""
    try:
        history(*arguments)
    except CommandError as error:
        return error.returncode, str(error)
    raise AssertionError(arguments)


def main() -> None:
    """Do all of it."""
    missing = checks.run_checks(databases=["default"])
    assert [(found.id, found.hint) for found in missing] == [
        ("qbwi.W005", "Run `manage.py migrate django_qbwi_history`.")
    ], missing
    assert "migrate django_qbwi_history" in code()[1]
    call_command("migrate", verbosity=0)
    assert checks.run_checks(databases=["default"]) == []
    call_command("makemigrations", "--check", "django_qbwi_history", verbosity=0)
    assert history() == "Nothing is in the history that was asked for.\n"

    ids = {}
    for name, text in (("shop.charge", "no card"), ("shop.mail", HOSTILE), (HOSTILE, "odd name")):
        handle = queue_background_work_item(fail, text, name=name)
        assert handle.wait(30)
        ids[name] = handle.id
    archive = hosting.history()
    assert archive is not None
    assert archive.write(time.monotonic() + 30) == 0
    assert HistoryEntry.objects.count() == 3
    look_with_the_command(ids)
    look_at_the_page(ids)
    print("done")


def look_with_the_command(ids: dict[str, str]) -> None:
    """Use each option."""
    listed = history()
    assert "ValueError: no card" in listed
    assert "\u202e" not in listed
    assert history("--name", "charge").count("failed") == 1
    assert history("--search", "NO CARD").count("failed") == 1
    assert history("--search", "script").count("failed") == 1
    assert history("--since", "1h").count("failed") == 3
    assert "Nothing" in history("--status", "abandoned")
    assert "Nothing" in history("--pid", "1")
    assert "There may be more" in history("--limit", "2")
    shown = history(ids["shop.charge"][:10])
    assert f"  id            {ids['shop.charge']}" in shown
    assert "ValueError: no card" in shown
    assert "origin" not in shown
    whole = json.loads(history("--format", "json"))
    assert whole["schema"] == 1
    assert {item["id"] for item in whole["items"]} == set(ids.values())
    lines = [json.loads(line) for line in history("--format", "jsonl").splitlines()]
    assert lines == whole["items"]
    assert code("nothing-like-it") == (4, "the history has no work item 'nothing-like-it'")
    assert code("--limit", "0") == (1, "Error: argument --limit: '0' is not between 1 and 1000")
    assert code("--since", "yesterday")[1].endswith("'yesterday' is no span such as 90s, 30m, 12h or 7d")
    assert "Nothing" not in history("--since", "999999d")


def look_at_the_page(ids: dict[str, str]) -> None:
    """Look at it as somebody who may, and as somebody who may not."""
    url = reverse("admin:django_qbwi_history_historyentry_changelist")
    clerk = User.objects.create_user("clerk", is_staff=True)
    client = Client()
    client.force_login(clerk)
    assert client.get(url).status_code == 403
    clerk.user_permissions.add(Permission.objects.get(codename="view_historyentry"))

    page = client.get(url).content.decode()
    assert page.count('class="field-status') == 3, page
    assert "<script>alert" not in page
    assert "\u202e" not in page
    assert "ValueError: no card" in page
    for query, count in (
        ({"q": "no card"}, 1),
        ({"q": "fail("}, 0),
        ({"q": "site_program"}, 3),
        ({"q": ids["shop.mail"]}, 1),
        ({"status": "failed"}, 3),
        ({"status": "lost"}, 0),
        ({"error_type": "builtins.ValueError"}, 3),
    ):
        found = client.get(url, query).content.decode().count('class="field-status')
        assert found == count, (query, found)

    row = HistoryEntry.objects.get(item_id=ids["shop.mail"])
    change = reverse("admin:django_qbwi_history_historyentry_change", args=[row.pk])
    page = client.get(change).content.decode()
    assert "<pre>Traceback (most recent call last):" in page, page
    assert "&lt;script&gt;" in page
    assert "<script>alert" not in page
    assert 'name="_save"' not in page
    assert "deletelink" not in page
    boss = User.objects.create_superuser("boss")
    client.force_login(boss)
    assert client.get(change).status_code == 200
    for refused in ("add", "delete"):
        arguments = [] if refused == "add" else [row.pk]
        forbidden = reverse(f"admin:django_qbwi_history_historyentry_{refused}", args=arguments)
        assert client.post(forbidden).status_code == 403
    assert client.post(change, {"name": "changed"}).status_code == 403
    row.refresh_from_db()
    assert row.name == "shop.mail"


if __name__ == "__main__":
    main()
