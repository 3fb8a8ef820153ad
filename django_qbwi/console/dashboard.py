"""What the admin page shows: the answer of all processes as filtered, bounded and printable values.

Nothing here asks a process, knows a request or makes HTML; the templates escape, this module bounds and cleans.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any

from django_qbwi.console import labels
from django_qbwi.console.bars import Bar
from django_qbwi.console.cards import Card, cards
from django_qbwi.console.pools import PoolRow, busy_pools, capacity, named_pool
from django_qbwi.console.statistics import OfName
from django_qbwi.console.text import MAX_TEXT, long_span, moment_of, printable_lines, seconds_from
from django_qbwi.console.waits import Wait
from django_qbwi.core.names import printable
from django_qbwi.core.records import WorkItemStatus

KINDS = ("sync", "async")
STATUSES = tuple(str(status) for status in WorkItemStatus)

_MAX_ROWS = 100
_MAX_RECENT = 25
_MAX_EXCERPT = 2_000
_LIVE = frozenset({str(WorkItemStatus.QUEUED), str(WorkItemStatus.RUNNING)})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which items are shown; an empty value lets all pass."""

    status: str = ""
    kind: str = ""
    name: str = ""
    pid: str = ""
    label: str = ""
    """`name=value`, or a part of either."""

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Filters:
        """Read them from a query string; a status, kind or pid that cannot exist is no filter."""
        pid = query.get("pid", "").strip()
        return cls(
            status=_one_of(STATUSES, query.get("status", "")),
            kind=_one_of(KINDS, query.get("kind", "")),
            name=printable(query.get("name", "").strip()),
            pid=pid if pid.isascii() and pid.isdigit() else "",
            label=printable(query.get("label", "").strip()),
        )

    @property
    def active(self) -> dict[str, str]:
        """The filters that leave something out, for a query string."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value}

    def accept_process(self, process: Mapping[str, Any]) -> bool:
        """Tell whether items of this process may pass."""
        return not self.pid or str(process["pid"]) == self.pid

    def accept(self, item: Mapping[str, Any]) -> bool:
        """Tell whether this item passes, its process aside."""
        return (
            (not self.status or item["status"] == self.status)
            and (not self.kind or item["kind"] == self.kind)
            and (not self.name or self.name.casefold() in str(item["name"]).casefold())
            and (not self.label or labels.has_label(item, self.label))
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ItemRow:
    """One item, as text but for its moments; an empty text where there is nothing (yet)."""

    id: str
    name: str
    status: str
    kind: str
    pid: str
    queued_at: datetime.datetime
    started_at: datetime.datetime | None
    finished_at: datetime.datetime | None
    wait: Wait
    waited: str
    ran: str
    timeout: str
    priority: int
    pool: str
    """Empty for the default one."""
    attempt: int
    held: bool
    overdue: bool
    cancel_reason: str
    origin: str
    request_id: str
    thread: str
    error_type: str
    error_message: str
    traceback: str
    progress: Bar | None
    labels: list[str]

    @classmethod
    def of(cls, item: Mapping[str, Any], now: datetime.datetime, max_text: int = _MAX_EXCERPT) -> ItemRow:
        """Describe an item by the fields that are named here, and no others; the end of a long traceback is kept."""
        queued_at = datetime.datetime.fromisoformat(item["queued_at"])
        started_at, finished_at = moment_of(item, "started_at"), moment_of(item, "finished_at")
        error = item.get("error") or {}
        return cls(
            id=str(item["id"]),
            name=printable(str(item["name"])),
            status=_one_of(STATUSES, item["status"]) or "unknown",
            kind=_one_of(KINDS, item["kind"]) or "unknown",
            pid=str(item["pid"]),
            queued_at=queued_at,
            started_at=started_at,
            finished_at=finished_at,
            wait=Wait.of(item, now),
            waited=long_span(seconds_from(queued_at, started_at or finished_at or now)),
            ran="" if started_at is None else long_span(seconds_from(started_at, finished_at or now)),
            timeout=long_span(item.get("timeout")),
            priority=int(item.get("priority") or 0),
            pool=named_pool(item),
            attempt=int(item.get("attempt") or 1),
            held=bool(item.get("held")),
            overdue=bool(item.get("overdue")),
            cancel_reason=printable(str(item.get("cancel_reason") or "")),
            origin=printable(str(item.get("origin") or "")),
            request_id=printable(str(item.get("request_id") or "")),
            thread=printable(str(item.get("thread") or "")),
            error_type=printable(str(error.get("type") or "")),
            error_message=printable_lines(str(error.get("message") or ""), max_text),
            traceback=printable_lines(str(error.get("traceback") or ""), max_text),
            progress=Bar.of(item.get("progress"), now),
            labels=labels.texts(item.get("labels")),
        )

    @property
    def is_live(self) -> bool:
        """True if it is queued or running, and so can be cancelled."""
        return self.status in _LIVE


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LineRow:
    """One line that an item has logged."""

    at: datetime.datetime
    level: str
    logger: str
    text: str

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> LineRow:
        """Describe a line."""
        return cls(
            at=datetime.datetime.fromisoformat(line["at"]),
            level=printable(str(line["level"])),
            logger=printable(str(line["logger"])),
            text=printable_lines(str(line["text"])),
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NameRow:
    """The numbers of one name; spans as pairs of title and text, which is empty where nothing has begun."""

    name: str
    count: int
    failures: int
    waited: list[dict[str, str]]
    ran: list[dict[str, str]]

    @classmethod
    def of(cls, row: OfName) -> NameRow:
        """Describe the numbers of one name."""
        waited, ran = (
            [{"title": title, "text": long_span(getattr(of, title))} for title in ("p50", "p95", "p99")]
            for of in (row.waiting, row.running)
        )
        return cls(name=row.name, count=row.count, failures=row.failures, waited=waited, ran=ran)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSection:
    """One process that answered, with those of its live items that pass the filters."""

    pid: str
    host: str
    server: str
    started_at: datetime.datetime | None
    age: str
    told: str
    """How long ago the process said all this to the registry of all hosts; empty if it has just answered."""
    state: str
    remaining: int | None
    """Whole seconds until the limit of the drain, None if it does not drain or did not say."""
    running: int
    queued: int
    finished: int
    failed: int
    capacity: str
    """How many run of how many that may, of each kind."""
    pools: list[PoolRow]
    """Those in which something runs or waits; none where all items share one."""
    rows: list[ItemRow]
    hidden: int
    """Live items that pass the filters, and for which there was no room."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """Everything on the page."""

    answered: int
    asked: int
    unresponsive: list[str]
    refused: list[str]
    this_process_only: bool
    problem: str
    """Why the others could not be asked, empty if nothing went wrong."""
    registry: str
    """Which registry of all hosts was used, empty if there is none."""
    registry_error: str
    stale: list[str]
    """Host, pid and silence of the processes that have not written to it for too long."""
    draining: list[ProcessSection]
    truncated: bool
    cards: list[Card]
    pids: list[str]
    processes: list[ProcessSection]
    recent: list[ItemRow]
    hidden_recent: int
    """Ended items that pass the filters, and for which there was no room."""


def compose(overview: Mapping[str, Any], filters: Filters, now: datetime.datetime) -> Dashboard:
    """Make the page of what `operations.overview()` returned; `now` is an aware datetime."""
    processes = sorted(overview["processes"], key=lambda process: (str(process["host"]), process["pid"]))
    sections = [_section(process, filters, now) for process in processes]
    chosen = [process for process in processes if filters.accept_process(process)]
    recent = [item for process in chosen for item in process["recent"] if filters.accept(item)]
    recent.sort(key=lambda item: item["finished_at"] or "", reverse=True)
    unresponsive = [str(pid) for pid in overview["unresponsive"]]
    refused = [str(pid) for pid in overview.get("refused", ())]
    registry = overview.get("registry") or {}
    stale = [_silence(process) for process in overview.get("stale", ())]
    return Dashboard(
        answered=overview["answered"],
        asked=overview["answered"] + len(unresponsive) + len(refused) + len(stale),
        unresponsive=unresponsive,
        refused=refused,
        this_process_only=overview.get("scope") == "process",
        problem=printable(str(overview.get("problem") or "")),
        registry=printable(str(registry.get("name") or "")),
        registry_error=printable(str(registry.get("error") or "")),
        stale=stale,
        draining=[section for section in sections if section.state == "draining"],
        truncated=bool(overview.get("truncated")),
        cards=cards(processes, capacity(processes), now),
        pids=list(dict.fromkeys(section.pid for section in sections)),
        processes=[
            section
            for process, section in zip(processes, sections, strict=True)
            if filters.accept_process(process) and (section.rows or not _narrows(filters))
        ],
        recent=[ItemRow.of(item, now) for item in recent[:_MAX_RECENT]],
        hidden_recent=max(0, len(recent) - _MAX_RECENT),
    )


def narrow(overview: Mapping[str, Any], filters: Filters) -> dict[str, Any]:
    """Return what `operations.overview()` returned with only those processes and items that pass the filters."""
    return {
        **overview,
        "processes": [
            {**process, **{of: [item for item in process[of] if filters.accept(item)] for of in ("items", "recent")}}
            for process in overview["processes"]
            if filters.accept_process(process)
        ],
    }


def detail(item: Mapping[str, Any], now: datetime.datetime) -> ItemRow:
    """Describe an item with all of its traceback."""
    return ItemRow.of(item, now, MAX_TEXT)


def _section(process: Mapping[str, Any], filters: Filters, now: datetime.datetime) -> ProcessSection:
    started_at = moment_of(process, "started_at")
    items = [item for item in process["items"] if filters.accept(item)]
    return ProcessSection(
        pid=str(process["pid"]),
        host=printable(str(process["host"])),
        server=printable(str(process["server"])),
        started_at=started_at,
        age="" if started_at is None else long_span(seconds_from(started_at, now)),
        told=long_span(process.get("age")),
        state=printable(str(process["state"])),
        remaining=_remaining(process),
        running=process["running"],
        queued=process["queued"],
        finished=process["finished"],
        failed=process["failed"],
        capacity=capacity([process]),
        pools=busy_pools(process),
        rows=[ItemRow.of(item, now) for item in items[:_MAX_ROWS]],
        hidden=max(0, len(items) - _MAX_ROWS),
    )


def _silence(process: Mapping[str, Any]) -> str:
    return f"{printable(str(process['host']))}:{process['pid']} ({long_span(process['age'])})"


def _remaining(process: Mapping[str, Any]) -> int | None:
    value = process.get("remaining")
    return None if value is None or process["state"] != "draining" else max(0, round(value))


def _narrows(filters: Filters) -> bool:
    return bool(filters.status or filters.kind or filters.name or filters.label)


def _one_of(known: tuple[str, ...], value: object) -> str:
    return value if isinstance(value, str) and value in known else ""
