"""Queries that are cancelled on a real database server, in a process that is no test.

Takes the database's settings as JSON and the name of a scenario; prints what it counted as JSON.
"""

import json
import random
import sys
import time
from typing import Any

import django
from django.conf import settings

DATABASE = json.loads(sys.argv[1])
SCENARIO = sys.argv[2]
WORKERS = 10
PATIENCE = 60

settings.configure(
    SECRET_KEY="for the tests only",
    INSTALLED_APPS=["django_qbwi"],
    DATABASES={"default": {"CONN_MAX_AGE": None, **DATABASE}},
    QBWI={"MAX_WORKERS": WORKERS, "MAX_QUEUED": 10_000},
    USE_TZ=True,
)
django.setup()

from django.db import connection, transaction  # noqa: E402

from django_qbwi import CancellationToken, OperationCancelled, queue_background_work_item  # noqa: E402
from django_qbwi.testing import drain  # noqa: E402

MYSQL = connection.vendor == "mysql"
SLEEP = "SELECT SLEEP(%s)" if MYSQL else "SELECT pg_sleep(%s)"
ME = "SELECT CONNECTION_ID()" if MYSQL else "SELECT pg_backend_pid()"
ACTIVE = (
    "SELECT count(*) FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP(6%%'"
    if MYSQL
    else "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep(6%%'"
)


def ask(sql: str, *params: object) -> Any:
    """Run one query and return its only value."""
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchone()[0]


def until(expected: int) -> None:
    """Wait until the server is busy with so many long queries."""
    end = time.monotonic() + PATIENCE
    while ask(ACTIVE) != expected:
        assert time.monotonic() < end, f"{ask(ACTIVE)} queries run, not {expected}"
        time.sleep(0.01)


usable: list[bool] = []


def sleeps(token: CancellationToken, atomic: bool) -> None:
    """Wait for a query of a minute, and ask the same connection afterwards."""
    before = ask(ME)
    try:
        with token.cancels_queries():
            if atomic:
                with transaction.atomic(), transaction.atomic():
                    ask(SLEEP, 60)
            else:
                ask(SLEEP, 60)
    finally:
        usable.append(before == ask(ME))


def ended() -> dict[str, Any]:
    """Cancel 200 queries of a minute; return how long each item took to end, in ms."""
    took: list[float] = []
    statuses: list[str] = []
    for turn in range(20):
        handles = [queue_background_work_item(sleeps, turn % 2 == 1) for _ in range(WORKERS)]
        until(WORKERS)
        for handle in handles:
            begun = time.monotonic()
            handle.cancel()
            handle.wait(PATIENCE)
            took.append((time.monotonic() - begun) * 1000)
            statuses.append(str(handle.status))
    until(0)
    return {"took": sorted(took), "statuses": sorted(set(statuses)), "usable": usable.count(True)}


hurt: list[str] = []


def short_ones(token: CancellationToken) -> None:
    """Run short queries in the block until the token is cancelled, then others on the same connection."""
    try:
        with token.cancels_queries():
            while True:
                ask(SLEEP, 0.0002)
    finally:
        try:
            for number in range(20):
                if ask("SELECT 1 + %s", number) != 1 + number:
                    hurt.append("wrong answer")
        except BaseException as error:
            hurt.append(repr(error))


def storm() -> dict[str, Any]:
    """Cancel 1,000 items between, before, in and behind their queries; nothing else may be hit."""
    chance = random.Random(1)
    statuses: list[str] = []
    for _ in range(1000 // WORKERS):
        handles = [queue_background_work_item(short_ones) for _ in range(WORKERS)]
        for handle in handles:
            time.sleep(chance.random() / 200)
            handle.cancel()
        for handle in handles:
            handle.wait(PATIENCE)
            statuses.append(str(handle.status))
    return {"hurt": hurt[:5], "statuses": sorted(set(statuses)), "count": len(statuses)}


def fetches(token: CancellationToken) -> None:
    """Catch the cancellation of one query, and go on with others in the same block."""
    with token.cancels_queries():
        try:
            ask(SLEEP, 60)
        except OperationCancelled:
            usable.append(ask("SELECT 41 + 1") == 42)
            raise


def cleans_up() -> dict[str, Any]:
    """Cancel an item that has queries to make about it."""
    handle = queue_background_work_item(fetches)
    until(1)
    handle.cancel()
    handle.wait(PATIENCE)
    return {"statuses": [str(handle.status)], "usable": usable.count(True)}


print(json.dumps({"ended": ended, "storm": storm, "cleans_up": cleans_up}[SCENARIO]()))
assert drain(PATIENCE)
