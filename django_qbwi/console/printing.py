"""What `manage.py qbwi` prints for people."""

from __future__ import annotations

import datetime
import shutil
from typing import Any

from django_qbwi import hosting
from django_qbwi.console import bars, scheduled
from django_qbwi.console.labels import texts
from django_qbwi.console.links import links
from django_qbwi.console.pools import named_pool
from django_qbwi.console.results import Cancellation, DrainedProcess, FoundItem, Overview, pids
from django_qbwi.console.rows import ITEM_COLUMNS, POOL_COLUMNS, PROCESS_COLUMNS, STATISTICS_COLUMNS, Rows
from django_qbwi.console.statistics import Statistics
from django_qbwi.console.tables import Cell, Column, render
from django_qbwi.console.text import clean_lines, seconds_between, span
from django_qbwi.core.names import clean
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.inspection.schedules import ScheduleInfo

_UNLIMITED = 1_000
_DETAILS = (
    "kind",
    "thread",
    "queued_at",
    "started_at",
    "finished_at",
    "due_at",
    "expires_at",
    "timeout",
    "priority",
    "attempt",
    "cancel_reason",
    "origin",
    "request_id",
)


class Printer:
    """Writes to the output of a command, in its style."""

    def __init__(self, output: Any, style: Any) -> None:
        self._output = output
        self._style = style

    def __repr__(self) -> str:
        return "<Printer>"

    def overview(self, found: Overview, statuses: list[str]) -> None:
        """Write the table of processes and that of items."""
        now = datetime.datetime.now(tz=datetime.UTC)
        self._heading(found)
        rows_of = Rows(self._style, shows_hosts=found.registry is not None)
        rows = [rows_of.of_process(process.to_dict(), now) for process in found.processes]
        rows += [rows_of.of_unresponsive(pid) for pid in found.asked.unresponsive]
        rows += [rows_of.of_stale(process) for process in found.stale]
        self._table(PROCESS_COLUMNS, rows)
        pools = [row for process in found.processes for row in rows_of.of_pools(process.to_dict())]
        if pools:
            self._output.write("")
            self._table(POOL_COLUMNS, pools)
        ended = {str(status) for status in WorkItemStatus if status.is_terminal}
        lists = ["items", "recent"] if ended & set(statuses) else ["items"]
        shown = [
            rows_of.of_item(item, process.record.host, now)
            for name in lists
            for process in found.processes
            for item in getattr(process.record, name)
        ]
        if shown:
            self._output.write("")
            self._table(ITEM_COLUMNS, shown)
        if any(process.record.truncated for process in found.processes):
            self._warn("Not all items are listed.")

    def entry(self, entry: FoundItem, *, details: bool) -> None:
        """Write one item, with its stack or its traceback."""
        item, process = entry.item, entry.process
        now = datetime.datetime.now(tz=datetime.UTC)
        running = span(seconds_between(item["started_at"], item["finished_at"], now))
        status = clean(item["status"])
        title = self._style.MIGRATE_HEADING(clean(item["name"]))
        style = Rows(self._style).status_style(status)
        self._output.write(f"{title}  {style(status) if style else status}  {running}".rstrip())
        rows = {"id": item["id"], "process": f"{process['pid']} ({process['server']} on {process['host']})"}
        if details:
            rows |= {name: item[name] for name in _DETAILS if item[name] is not None}
        if pool := named_pool(item):
            rows["pool"] = pool
        if item["held"]:
            rows["turn"] = "waits for that of its key"
        if item["progress"] is not None:
            rows["progress"] = bars.sentence(item["progress"], now)
        if item.get("labels"):
            rows["labels"] = ", ".join(texts(item["labels"]))
        if process["age"] is not None:
            rows["told"] = f"{span(process['age'])} ago, to the shared registry; the stack is to be had on that host"
        if details:
            values = {**item, "trace_id": entry.trace_id}
            rows |= links(hosting.this_process().current.settings.links, values)
        for name, value in rows.items():
            self._output.write(f"  {name.replace('_', ' '):<13} {clean(str(value))}")
        text = entry.stack if item["error"] is None else item["error"]["traceback"]
        for line in clean_lines(text or ""):
            self._output.write(f"  {line}")
        if details:
            self._log(entry.log)
        self._output.write("")

    def _log(self, lines: list[dict[str, Any]]) -> None:
        if lines:
            self._output.write("  log")
        for line in lines:
            first, *rest = clean_lines(line["text"]) or [""]
            self._output.write(f"    {line['at'][11:19]} {clean(line['level'])} {clean(line['logger'])}: {first}")
            for further in rest:
                self._output.write(f"      {further}")

    def statistics(self, found: Statistics) -> None:
        """Write the numbers of each name."""
        if not found.names:
            self._output.write("No item has ended yet.")
        rows_of = Rows(self._style)
        self._table(STATISTICS_COLUMNS, [rows_of.of_name(row) for row in found.names])

    def outcome(self, item_id: str, found: Cancellation) -> None:
        """Write what became of the wish to cancel one item."""
        texts = {
            "requested": self._style.SUCCESS("cancel requested"),
            "elsewhere": self._style.SUCCESS(
                f"requested, {clean(found.requested.get(item_id, ''))} picks it up within {found.pick_up_seconds:g} s"
            ),
            "too_late": "was cancelled before, or has ended",
            "unknown": self._style.ERROR("not found"),
        }
        self._output.write(f"{clean(item_id)}  {texts[found.outcome(item_id)]}")

    def drain_begun(self, process: DrainedProcess) -> None:
        """Write what a process said when it was asked to drain."""
        waiting = f"{process.waiting_for} item{'' if process.waiting_for == 1 else 's'}"
        if process.ending:
            text = f"is {clean(process.state)} already, since it ends; {waiting} left."
        elif process.state != "draining":
            text = "nothing to drain. Its scheduler is OPEN."
        else:
            text = f"waiting for {waiting}, {process.remaining or 0.0:.0f} s at the most."
        self._output.write(f"Process {process.pid}: {text}")

    def schedules(self, found: list[ScheduleInfo]) -> None:
        """Write the table of what runs by the clock."""
        now = datetime.datetime.now(tz=datetime.UTC)
        self._table(scheduled.COLUMNS, [*scheduled.rows(found, self._style, now)])
        if not found:
            self._output.write("Nothing is scheduled.")

    def _heading(self, found: Overview) -> None:
        asked = found.asked
        count = len(found.processes) + len(asked.unresponsive) + len(asked.refused) + len(found.stale)
        if asked.scope == "process":
            self._output.write("Only this process can be looked at here: no channel to the others.")
        else:
            self._output.write(f"{len(found.processes)} of {count} process{'' if count == 1 else 'es'} answered.")
        if found.registry is not None:
            self._output.write(f"Registry: {clean(found.registry['name'])}.")
        if asked.problem:
            self._warn(f"{clean(asked.problem)}.")
        if asked.refused:
            self._warn(f"Not asked, since of another user, who can ask: {pids(asked.refused)}.")
        if asked.elsewhere:
            self._output.write(f"Not asked, since of other sites: {pids(asked.elsewhere)}.")
        for stranger in asked.strangers[:5]:
            uid = "" if stranger.uid is None else f", uid {stranger.uid}"
            who = f"process {'unknown' if stranger.pid is None else stranger.pid}{uid}"
            self._warn(f"A stranger has taken the name of this site for {stranger.sockets} socket(s): {who}.")
        if len(asked.strangers) > 5:
            self._warn(f"So have {len(asked.strangers) - 5} other strangers.")

    def _table(self, columns: tuple[Column, ...], rows: list[list[Cell]]) -> None:
        # Where nobody looks at it, in a pipe or a file, nothing is cut.
        width = shutil.get_terminal_size((_UNLIMITED, 24)).columns
        for line in render(columns, rows, width, self._style.MIGRATE_HEADING) if rows else ():
            self._output.write(line)

    def _warn(self, text: str) -> None:
        self._output.write(self._style.WARNING(text))
