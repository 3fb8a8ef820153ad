"""The rows of the tables of `manage.py qbwi`: what of a process and of an item is shown, and how it looks."""

from __future__ import annotations

import datetime
import socket
from typing import Any

from django_qbwi.console import bars
from django_qbwi.console.labels import texts
from django_qbwi.console.pools import busy_pools, capacity, named_pool
from django_qbwi.console.statistics import OfName
from django_qbwi.console.tables import Cell, Column, Style
from django_qbwi.console.text import long_span, seconds_between, span
from django_qbwi.console.waits import Wait
from django_qbwi.core.cancellation import CancelReason
from django_qbwi.core.names import clean

PROCESS_COLUMNS = (
    Column(title="PID", right=True),
    Column(title="HOST", importance=1),
    Column(title="STATE"),
    Column(title="TOLD", importance=3, right=True),
    Column(title="SERVER", importance=1),
    Column(title="UP FOR", importance=2, right=True),
    Column(title="RUNNING", right=True),
    Column(title="QUEUED", right=True),
    Column(title="FINISHED", importance=3, right=True),
    Column(title="FAILED", importance=1, right=True),
)
POOL_COLUMNS = (
    Column(title="PID", right=True),
    Column(title="HOST", importance=1),
    Column(title="POOL", flexible=True),
    Column(title="RUNNING", right=True),
    Column(title="QUEUED", right=True),
)
ITEM_COLUMNS = (
    Column(title="ID"),
    Column(title="STATUS"),
    Column(title="PID", importance=1, right=True),
    Column(title="HOST", importance=1),
    Column(title="KIND", importance=4),
    Column(title="WAITED", importance=3, right=True),
    Column(title="RAN FOR", importance=2, right=True),
    Column(title="PROGRESS", importance=2, right=True),
    Column(title="NAME", flexible=True),
    Column(title="NOTES", importance=5),
)
STATISTICS_COLUMNS = (
    Column(title="NAME", flexible=True),
    Column(title="COUNT", right=True),
    Column(title="FAILED", right=True),
    Column(title="WAITED P50", importance=1, right=True),
    Column(title="P95", right=True),
    Column(title="P99", importance=2, right=True),
    Column(title="RAN P50", importance=1, right=True),
    Column(title="P95", right=True),
    Column(title="P99", importance=2, right=True),
)


class Rows:
    """Makes rows out of the records of `operations`."""

    def __init__(self, style: Any, *, shows_hosts: bool = False) -> None:
        """Make it for one table.

        Args:
            style: That of a Django command.
            shows_hosts: Whether there may be processes of several hosts; a pid alone says nothing then.
        """
        self._style = style
        self._shows_hosts = shows_hosts

    def __repr__(self) -> str:
        return "<Rows>"

    def of_process(self, record: dict[str, Any], now: datetime.datetime) -> list[Cell]:
        """Return the row of a process that answered."""
        state = clean(record["state"])
        if record["remaining"] is not None:
            state += f" {record['remaining']:.0f} s"
        return [
            Cell(str(record["pid"])),
            self._host(record["host"]),
            Cell(state, self._style.WARNING if record["state"] != "open" else None),
            Cell("" if record["age"] is None else f"{span(record['age'])} ago"),
            Cell(clean(record["server"])),
            Cell(span(seconds_between(record["started_at"], None, now))),
            Cell(capacity([record]) if record["limits"] else str(record["running"])),
            Cell(str(record["queued"])),
            Cell(str(record["finished"])),
            Cell(str(record["failed"]), self._style.ERROR if record["failed"] else None),
        ]

    def of_unresponsive(self, pid: int) -> list[Cell]:
        """Return the row of one that did not."""
        host = self._host(socket.gethostname())
        cells = [Cell(str(pid)), host, Cell("unresponsive", self._style.WARNING)]
        return cells + [Cell("")] * (len(PROCESS_COLUMNS) - len(cells))

    def of_stale(self, process: dict[str, Any]) -> list[Cell]:
        """Return the row of one of another host that has not been heard of for too long."""
        cells = [
            Cell(str(process["pid"])),
            self._host(process["host"]),
            Cell("stale", self._style.WARNING),
            Cell(f"{span(process['age'])} ago"),
        ]
        return cells + [Cell("")] * (len(PROCESS_COLUMNS) - len(cells))

    def of_pools(self, record: dict[str, Any]) -> list[list[Cell]]:
        """Return the rows of the pools of a process in which something runs or waits."""
        head = [Cell(str(record["pid"])), self._host(record["host"])]
        return [[*head, Cell(pool.name), Cell(pool.capacity), Cell(pool.queued)] for pool in busy_pools(record)]

    def of_item(self, item: dict[str, Any], host: str, now: datetime.datetime) -> list[Cell]:
        """Return the row of an item."""
        status = clean(item["status"])
        notes = ["overdue"] if item["overdue"] else []
        if pool := named_pool(item):
            notes.append(f"pool {pool}")
        if item["held"]:
            notes.append("waits for its turn")
        if item["priority"]:
            notes.append(f"priority {item['priority']}")
        if item["attempt"] > 1:
            notes.append(f"attempt {item['attempt']}")
        notes += Wait.of(item, now).notes()
        if item["cancel_reason"] == CancelReason.EXPIRED:
            notes.append("expired")
        elif item["cancel_reason"] is not None and item["finished_at"] is None:
            notes.append(f"cancel: {clean(item['cancel_reason'])}")
        if item["error"] is not None:
            notes.append(clean(item["error"]["type"]))
        notes += texts(item.get("labels"))
        if item["origin"] is not None:
            notes.append(clean(item["origin"])[:60])
        return [
            Cell(clean(item["id"])),
            Cell(status, self.status_style(status)),
            Cell(str(item["pid"])),
            self._host(host),
            Cell(clean(item["kind"])),
            Cell(span(seconds_between(item["queued_at"], item["started_at"] or item["finished_at"], now))),
            Cell(span(seconds_between(item["started_at"], item["finished_at"], now))),
            Cell(bars.short(item["progress"])),
            Cell(clean(item["name"])),
            Cell(", ".join(notes)),
        ]

    def of_name(self, row: OfName) -> list[Cell]:
        """Return the row of the numbers of one name."""
        return [
            Cell(clean(row.name)),
            Cell(str(row.count)),
            Cell(str(row.failures), self._style.ERROR if row.failures else None),
            *(Cell(long_span(found)) for of in (row.waiting, row.running) for found in (of.p50, of.p95, of.p99)),
        ]

    def _host(self, host: str) -> Cell:
        return Cell(clean(host) if self._shows_hosts else "")

    def status_style(self, status: str) -> Style | None:
        """Return how a status looks, None for plain."""
        style: Style | None = None
        if status in {"running", "succeeded"}:
            style = self._style.SUCCESS
        elif status in {"failed", "abandoned", "discarded"}:
            style = self._style.ERROR
        return style
