"""What the processes of a site might answer: values for the page, from plain to hostile."""

import datetime
import random
from types import SimpleNamespace
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client

from django_qbwi.console.results import Asked, Cancellation, FoundItem
from django_qbwi.core.exceptions import WorkItemNotFound

NOW = datetime.datetime(2026, 1, 5, 12, 0, tzinfo=datetime.UTC)


def ago(seconds: float, now: datetime.datetime = NOW) -> str:
    """Return a moment in the past as `operations` gives it."""
    return (now - datetime.timedelta(seconds=seconds)).isoformat()


def item(**fields: Any) -> dict[str, Any]:
    """Return an item as `WorkItemInfo.to_dict` makes it, running unless the fields say otherwise."""
    return {
        "id": "0" * 24,
        "name": "gallery.views.resize",
        "kind": "sync",
        "status": "running",
        "queued_at": ago(10),
        "started_at": ago(8),
        "finished_at": None,
        "timeout": None,
        "overdue": False,
        "cancel_reason": None,
        "error": None,
        "origin": None,
        "request_id": None,
        "pid": 101,
        "thread": "qbwi-1",
        "progress": None,
    } | fields


def report(**fields: Any) -> dict[str, Any]:
    """Return what an item reported three seconds ago."""
    return {"done": 1, "total": None, "text": "", "at": ago(3)} | fields


def failure(text: str = "ValueError: no such album", **fields: Any) -> dict[str, Any]:
    """Return an item that failed."""
    kind, _, message = text.partition(": ")
    error = {"type": kind, "message": message, "traceback": f"Traceback (most recent call last):\n  ...\n{text}\n"}
    return item(**{"id": "f" * 24, "status": "failed", "finished_at": ago(2), "error": error} | fields)


def process(*items: dict[str, Any], recent: tuple[dict[str, Any], ...] = (), **fields: Any) -> dict[str, Any]:
    """Return a process with these items."""
    return {
        "pid": 101,
        "host": "web-1",
        "server": "gunicorn",
        "started_at": ago(3600),
        "state": "open",
        "remaining": None,
        "running": sum(entry["status"] == "running" for entry in items),
        "queued": sum(entry["status"] == "queued" for entry in items),
        "finished": len(recent),
        "failed": sum(entry["status"] == "failed" for entry in recent),
        "limits": {
            "max_workers": 4,
            "max_async_in_flight": 100,
            "max_queued": 1000,
            "item_timeout": None,
            "shutdown_timeout": 90.0,
        },
        "items": list(items),
        "recent": list(recent),
        "truncated": False,
    } | fields


def overview(*processes: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return what `operations.overview` returns for these processes."""
    return {
        "schema": 1,
        "answered": len(processes),
        "unresponsive": [],
        "refused": [],
        "scope": "machine",
        "truncated": False,
        "processes": list(processes),
    } | fields


def busy_site(now: datetime.datetime) -> dict[str, Any]:
    """Return a site in the middle of its work: what the pictures of the documentation show."""
    chance = random.Random(7)
    names = ["gallery.views.resize_images", "shop.mail.send_receipt", "search.index.update_album"]

    def ended(number: int, pid: int) -> dict[str, Any]:
        at = 590 * (number / 60) ** 1.4 + chance.uniform(0, 8)
        ran, waited = chance.uniform(0.4, 40), chance.uniform(0.002, 6)
        entry = item(
            id=f"{pid:04x}{number:020x}",
            name=names[number % 3],
            kind=("sync", "async", "sync")[number % 3],
            status="succeeded",
            pid=pid,
            queued_at=ago(at + ran + waited, now),
            started_at=ago(at + ran, now),
            finished_at=ago(at, now),
            origin=("POST /albums/12/", "POST /checkout/", "PUT /api/albums/7/")[number % 3],
            request_id=f"{chance.getrandbits(32):08x}",
        )
        if number in {1, 17, 18, 44}:
            entry |= {
                "status": "failed",
                "error": {
                    "type": "smtplib.SMTPServerDisconnected",
                    "message": "Connection unexpectedly closed",
                    "traceback": _TRACEBACK,
                },
            }
        elif number == 3:
            entry |= {"status": "cancelled", "cancel_reason": "timeout", "timeout": 30.0}
        return entry

    def live(number: int, pid: int, queued: float, started: float | None, **fields: Any) -> dict[str, Any]:
        return item(
            **{
                "id": f"{pid:04x}{number:04x}beefcafe0badf00d",
                "name": names[number % 3],
                "kind": ("sync", "async", "sync")[number % 3],
                "status": "queued" if started is None else "running",
                "pid": pid,
                "queued_at": ago(queued, now),
                "started_at": None if started is None else ago(started, now),
                "origin": ("POST /albums/12/", "POST /checkout/", "PUT /api/albums/7/")[number % 3],
                "request_id": f"{chance.getrandbits(32):08x}",
            }
            | fields
        )

    busy = [live(0, 4107, 194.2, 192.0), live(3, 4107, 61, 60.4, timeout=30.0, overdue=True, cancel_reason="timeout")]
    busy += [live(number, 4107, 22 - number, 21 - number) for number in (1, 4, 5)]
    busy += [live(number, 4107, 9.5 - number / 2, None) for number in (6, 9, 12)]
    leaving = [live(2, 4093, 75, 74, cancel_reason="shutdown"), live(8, 4093, 12, 11.8, cancel_reason="shutdown")]
    recent = tuple(ended(number, 4107 if number % 2 else 4108) for number in range(60))
    return overview(
        process(*leaving, pid=4093, started_at=ago(7 * 3600, now), state="draining", remaining=47.3, finished=0),
        process(*busy, pid=4107, started_at=ago(540, now), recent=recent[1::2]),
        process(pid=4108, started_at=ago(538, now), recent=recent[::2]),
        unresponsive=[4110],
    )


def hosts(now: datetime.datetime) -> dict[str, Any]:
    """Return a site on several hosts, one of which is silent."""
    here = process(item(queued_at=ago(64, now), started_at=ago(64, now)), pid=4107, started_at=ago(540, now), age=None)
    there = process(
        item(id="a" * 24, name="shop.mail.send_receipt", kind="async", queued_at=ago(9, now), started_at=ago(9, now)),
        item(id="b" * 24, name="search.index.update_album", queued_at=ago(120, now), started_at=ago(118, now)),
        pid=17,
        host="web-2",
        server="uvicorn",
        started_at=ago(7 * 3600, now),
        age=4.2,
    )
    return overview(
        here,
        there,
        scope="site",
        registry={"name": "django_qbwi.contrib.shared_registry (database 'default')", "error": None},
        stale=[{"host": "web-3", "pid": 21, "age": 48.0}],
    )


class FakeSite:
    """Stands for the processes: an answer to show, and a record of what was cancelled."""

    def __init__(self) -> None:
        self.answer = overview(process(item()))
        self.stack: str | None = None
        self.cancelled: list[tuple[list[str], str]] = []
        self.results: dict[str, bool | None] = {}
        self.requested: dict[str, str] = {}
        self.error = ""

    def overview(self, *, limit: int = 500) -> Any:
        """Return the answer."""
        records = [SimpleNamespace(record=SimpleNamespace(**process)) for process in self.answer["processes"]]
        return SimpleNamespace(to_dict=lambda: self.answer, processes=records)

    def find(self, item_id: str) -> FoundItem:
        """Look the item up in the answer."""
        for process in self.answer["processes"]:
            for item in (*process["items"], *process["recent"]):
                if item["id"] == item_id:
                    return FoundItem(process=process, item=item, stack=self.stack)
        raise WorkItemNotFound(item_id)

    def cancel(self, item_ids: list[str], *, by: str) -> Cancellation:
        """Note it down."""
        self.cancelled.append((list(item_ids), by))
        return Cancellation(
            asked=Asked(site="tests", scope="machine"),
            outcomes={item_id: self.results.get(item_id, True) for item_id in item_ids},
            requested=self.requested,
            pick_up_seconds=10.0,
            error=self.error,
        )


def user(*permissions: str, staff: bool = True, name: str = "grace") -> Client:
    """Return the client of somebody who has these permissions of the app."""
    account = get_user_model().objects.create_user(name, is_staff=staff)
    found = Permission.objects.filter(content_type__app_label="django_qbwi", codename__in=permissions)
    assert len(found) == len(permissions)
    account.user_permissions.set(found)
    client = Client()
    client.force_login(account)
    return client


_TRACEBACK = """\
Traceback (most recent call last):
  File "/srv/site/shop/mail.py", line 31, in send_receipt
    connection.send_messages([message])
  File "/usr/lib/python3.13/site-packages/django/core/mail/backends/smtp.py", line 128, in send_messages
    new_conn_created = self.open()
  File "/usr/lib/python3.13/smtplib.py", line 398, in getreply
    raise SMTPServerDisconnected("Connection unexpectedly closed")
smtplib.SMTPServerDisconnected: Connection unexpectedly closed
"""
