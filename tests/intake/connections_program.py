"""A thousand items on PostgreSQL, in a process that is no test, since test runs close their connections earlier.

Takes the database's settings as JSON and the name of a scenario; prints what it counted as JSON.
"""

import json
import sys
import threading
import time
from typing import Any

import django
from asgiref.sync import sync_to_async
from django.conf import settings

DATABASE = json.loads(sys.argv[1])
EXPECTED = int(sys.argv[3]) if len(sys.argv) > 3 else 0  # connections that may stay open
ITEMS = 1000
WORKERS = 4
IN_FLIGHT = 20  # of them, each may have a connection
PATIENCE = 120

settings.configure(
    SECRET_KEY="for the tests only",
    INSTALLED_APPS=["django_qbwi"],
    DATABASES={"default": DATABASE},
    QBWI={"MAX_WORKERS": WORKERS, "MAX_QUEUED": 10 * ITEMS, "MAX_ASYNC_IN_FLIGHT": IN_FLIGHT},
    USE_TZ=True,
)
django.setup()

from django.db import close_old_connections, connection, connections, transaction  # noqa: E402

from django_qbwi import queue_background_work_item, queue_on_commit  # noqa: E402
from django_qbwi.testing import drain  # noqa: E402


def ask() -> int:
    """Use the database in an item; return the server's process, one for each connection."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        pid: int = cursor.fetchone()[0]
        return pid


def clients() -> int:
    """Count the connections that the server has, but for the one that asks."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        count: int = cursor.fetchone()[0]
        return count


def many(is_async: bool) -> Any:
    """Run a thousand items that use the database; return the connections that are open then, and those ever used."""
    used: set[int] = set()
    lock = threading.Lock()

    def item(token: Any) -> None:
        pid = ask()
        with lock:
            used.add(pid)

    async def async_item(token: Any) -> None:
        await sync_to_async(item)(token)

    handles = [queue_background_work_item(async_item if is_async else item) for _ in range(ITEMS)]
    assert drain(PATIENCE)
    # A thread that has had its last item closes its connection a moment after that, and the server notices later.
    limit = time.monotonic() + 10
    while (count := clients()) > EXPECTED and time.monotonic() < limit:
        pass
    failed = [handle.info.error.message for handle in handles if handle.info.error is not None]
    return {"open": count, "used": len(used), "failed": failed[:3]}


def stale() -> Any:
    """Break the connection of a worker between two items; the second has to get a new one."""
    pids: list[int] = []
    handle = queue_background_work_item(lambda token: pids.append(ask()))
    assert handle.wait(PATIENCE)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [pids[0]])
    handles = [queue_background_work_item(lambda token: pids.append(ask())) for _ in range(2)]
    assert all(handle.wait(PATIENCE) for handle in handles)
    return {"statuses": [str(handle.status) for handle in handles], "renewed": pids[0] not in pids[1:]}


def left_open() -> Any:
    """Leave a transaction open in an item; the next one on the same thread must not be inside of it."""
    seen: list[bool] = []

    def leave(token: Any) -> None:
        transaction.set_autocommit(False)
        ask()

    def look(token: Any) -> None:
        ask()
        seen.append(connection.in_atomic_block or not transaction.get_autocommit())

    for _ in range(2 * WORKERS):
        assert queue_background_work_item(leave).wait(PATIENCE)
        assert queue_background_work_item(look).wait(PATIENCE)
    return {"inside": any(seen)}


def on_commit() -> Any:
    """Queue on commit: nested blocks, a savepoint that is rolled back, and a rollback of all."""
    ran: list[str] = []

    def item(token: Any, name: str) -> None:
        ask()
        ran.append(name)

    with transaction.atomic():
        queue_on_commit(item, "outer")
        with transaction.atomic():
            queue_on_commit(item, "inner")
        with transaction.atomic():
            queue_on_commit(item, "rolled back to the savepoint")
            transaction.set_rollback(True)
        before = list(ran)
    with transaction.atomic():
        queue_on_commit(item, "rolled back")
        transaction.set_rollback(True)
    assert drain(PATIENCE)
    return {"before": before, "ran": sorted(ran)}


def sees_committed_rows() -> Any:
    """Count rows in an item that was queued on commit: they are there, each time."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS album (id serial PRIMARY KEY)")
    missing: list[int] = []

    def item(token: Any, album: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM album WHERE id = %s", [album])
            if not cursor.fetchone()[0]:
                missing.append(album)

    for _ in range(100):
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("INSERT INTO album DEFAULT VALUES RETURNING id")
            queue_on_commit(item, cursor.fetchone()[0])
    assert drain(PATIENCE)
    return {"missing": missing}


SCENARIOS = {
    "sync": lambda: many(False),
    "async": lambda: many(True),
    "stale": stale,
    "left open": left_open,
    "on commit": on_commit,
    "committed rows": sees_committed_rows,
}

if __name__ == "__main__":
    result = SCENARIOS[sys.argv[2]]()
    close_old_connections()
    connections.close_all()

    json.dump(result, sys.stdout)
