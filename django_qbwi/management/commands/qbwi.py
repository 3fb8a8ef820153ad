"""`manage.py qbwi`: what is running in all processes of this site, and stop it."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import getpass
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from django_qbwi.console import operations
from django_qbwi.console.options import WATCH_SECONDS, add_options, is_number
from django_qbwi.console.rows import ITEM_COLUMNS, PROCESS_COLUMNS, Rows
from django_qbwi.console.tables import Cell, Column, Style, clean, clean_lines, render, seconds_between, span
from django_qbwi.core.exceptions import QBWIError, WorkItemNotFound
from django_qbwi.core.items import WorkItemStatus

INCOMPLETE = 3
NOT_FOUND = 4

_POLL_SECONDS = 0.2
_UNLIMITED = 1_000
_HOME, _CLEAR, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[2J", "\x1b[K", "\x1b[J"


class Incomplete(CommandError):
    """Only a part of the processes answered."""


class NotFound(CommandError):
    """There is no such item, or no such process."""


class Command(BaseCommand):
    """Shows and steers the background work of all processes of this site on this machine, and shows other hosts'."""

    help = "Show what runs in the background of this site's processes, and cancel it."
    # Neither a database nor the apps of the site are asked for anything.
    requires_system_checks = []

    def run_from_argv(self, argv: list[str]) -> None:
        """Let `--watch` stand before the operation without its seconds, which argparse would look for there."""
        words = [
            f"--watch={WATCH_SECONDS}" if word == "--watch" and not is_number(following) else word
            for word, following in zip(argv, [*argv[1:], ""], strict=True)
        ]
        super().run_from_argv(words)

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the options before and after the operation alike."""
        add_options(parser, first=True)
        found = parser.add_subparsers(dest="operation", metavar="{list,show,cancel,stacks,drain}")
        # What is not given after the operation must not replace what was given before it.
        made = {
            name: found.add_parser(name, help=text, description=text, argument_default=argparse.SUPPRESS)
            for name, text in {
                "list": "List processes and items (the default).",
                "show": "Show one item, with its stack.",
                "cancel": "Cancel items: queued ones never start, running ones see their token cancelled.",
                "stacks": "Show where all running items are.",
                "drain": "Cancel all items of a process, which goes on, and wait for their end.",
            }.items()
        }
        for subparser in made.values():
            add_options(subparser, first=False)
        made["show"].add_argument("id", help="The id of an item.")
        made["cancel"].add_argument("ids", nargs="+", metavar="id", help="The ids of items.")
        made["drain"].add_argument("--all", action="store_true", default=False, help="Drain all of this machine.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what was asked for.

        Raises:
            CommandError: With the exit code: 1 an error, 3 only a part of the processes answered, 4 not found.
        """
        operation = options["operation"] or "list"
        work: Callable[[dict[str, Any]], None] = getattr(self, f"_{operation}")
        options["status"] = _several(options["status"])
        options["pid"] = [int(pid) for pid in _several(options["pid"])]
        try:
            if options["watch"] is not None and operation in {"list", "show", "stacks"}:
                self._watch(work, options)
            else:
                work(options)
        except WorkItemNotFound as error:
            if not error.is_certain:
                raise Incomplete(clean(str(error)), returncode=INCOMPLETE) from error
            raise NotFound(clean(str(error)), returncode=NOT_FOUND) from error
        except QBWIError as error:
            raise CommandError(str(error)) from error
        except BrokenPipeError:
            # The reader has seen enough, as `head` does. What is still buffered must not fail at the exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    # The operations.

    def _list(self, options: dict[str, Any]) -> None:
        found = operations.overview()
        _select(found, options["pid"], options["status"])
        if options["format"] == "json":
            self._write_json(found)
        elif options["format"] == "jsonl":
            for record in found["processes"]:
                for item in (*record["items"], *record["recent"]):
                    self.stdout.write(json.dumps(item))
        else:
            self._write_overview(found, options)
        pids = [process["pid"] for process in (*found["processes"], *found["stale"])]
        self._end(options["pid"], pids, found["unresponsive"], _missing(found))

    def _show(self, options: dict[str, Any]) -> None:
        entry = operations.find(options["id"])
        if options["format"] == "table":
            self._write_entry(entry, details=True)
        else:
            self._write_json({"schema": 1, **entry}, options["format"])

    def _stacks(self, options: dict[str, Any]) -> None:
        results = operations.stacks()
        entries = [
            entry
            for entry in results
            if not options["pid"] or entry["process"]["pid"] in options["pid"]
            if not options["status"] or entry["item"]["status"] in options["status"]
        ]
        if options["format"] == "json":
            self._write_json({"schema": 1, "unresponsive": results.unresponsive, "stacks": entries})
        elif options["format"] == "jsonl":
            for entry in entries:
                self._write_json(entry, "jsonl")
        else:
            for entry in entries:
                self._write_entry(entry, details=False)
            if not entries:
                self.stdout.write("Nothing is running.")
        self._end([], [], results.unresponsive, results.problem)

    def _cancel(self, options: dict[str, Any]) -> None:
        results = operations.cancel(options["ids"], by=_who())
        if options["format"] == "json":
            self._write_json(
                {
                    "schema": 1,
                    "unresponsive": results.unresponsive,
                    "cancelled": results,
                    "requested": results.requested,
                }
            )
        for item_id, first in results.items():
            if options["format"] == "jsonl":
                line = {"id": item_id, "cancelled": first, "requested": results.requested.get(item_id)}
                self._write_json(line, "jsonl")
            elif options["format"] == "table":
                self.stdout.write(f"{clean(item_id)}  {self._outcome(item_id, results)}")
        missing = [item_id for item_id, first in results.items() if first is None and item_id not in results.requested]
        if missing:
            self._end([], [], results.unresponsive, results.error)
            raise NotFound(f"no process knows {clean(', '.join(missing))}", returncode=NOT_FOUND)

    def _drain(self, options: dict[str, Any]) -> None:
        if bool(options["pid"]) == options["all"]:
            raise CommandError("Give the processes to drain with --pid, or all of them with --all.")
        results = operations.drain(options["pid"] or None, by=_who())
        speaks = options["format"] == "table"
        for result in results:
            if speaks:
                self.stdout.write(_drain_text(result))
        waited_for = {result["pid"] for result in results if result["state"] == "draining" and not result["ending"]}
        longest = max([result["remaining"] or 0.0 for result in results], default=0.0)
        for record in self._drained(waited_for, longest):
            if speaks:
                self.stdout.write(
                    f"Process {record['pid']}: the drain is over. Its scheduler is OPEN again and takes new items; "
                    f"{record['running']} running, {record['queued']} queued."
                )
        if options["format"] == "json":
            self._write_json({"schema": 1, "unresponsive": results.unresponsive, "drained": results})
        elif options["format"] == "jsonl":
            for result in results:
                self._write_json(result, "jsonl")
        self._end(options["pid"], [result["pid"] for result in results], results.unresponsive, results.problem)

    def _drained(self, pids: set[int], seconds: float) -> Iterator[dict[str, Any]]:
        """Yield the record of each process when its drain is over, or of those that are left after the limit."""
        limit = time.monotonic() + seconds + 1.0
        left = set(pids)
        while left and time.monotonic() < limit:
            time.sleep(_POLL_SECONDS)
            found = operations.overview(limit=0, shared=False)
            for record in found["processes"]:
                if record["pid"] in left and record["state"] == "open":
                    left.discard(record["pid"])
                    yield record
            left &= {record["pid"] for record in found["processes"]} | set(found["unresponsive"])

    # Watching.

    def _watch(self, work: Callable[[dict[str, Any]], None], options: dict[str, Any]) -> None:
        in_place = self.stdout.isatty() and options["format"] == "table"
        if in_place:
            self.stdout.write(_CLEAR, ending="")
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                started = time.monotonic()
                if in_place:
                    self._redraw(work, options)
                else:
                    with contextlib.suppress(Incomplete):  # it is shown, and may be over the next time
                        work(options)
                    self.stdout.flush()
                time.sleep(max(0.1, options["watch"] - (time.monotonic() - started)))
        if in_place:
            self.stdout.write("")  # the prompt of the shell gets a line of its own

    def _redraw(self, work: Callable[[dict[str, Any]], None], options: dict[str, Any]) -> None:
        # Collected first and written in one piece: the terminal never shows half of it.
        terminal, lines = self.stdout, _Lines()
        self.stdout = lines  # type: ignore[assignment]
        try:
            with contextlib.suppress(Incomplete):
                work(options)
        finally:
            self.stdout = terminal
        height = max(4, shutil.get_terminal_size().lines - 2)
        text = lines.lines
        if len(text) > height:
            text = [*text[: height - 1], f"… {len(text) - height + 1} more lines"]
        now = datetime.datetime.now().astimezone().strftime("%H:%M:%S")
        title = f"Every {options['watch']:g} s, {now}. Ctrl-C ends."
        shown = "".join(f"{line}{_CLEAR_LINE}\n" for line in (title, *text))
        terminal.write(f"{_HOME}{shown}{_CLEAR_BELOW}", ending="")
        terminal.flush()

    # Writing.

    def _write_json(self, value: Any, how: str = "json") -> None:
        self.stdout.write(json.dumps(value, indent=2 if how == "json" else None))

    def _write_overview(self, found: dict[str, Any], options: dict[str, Any]) -> None:
        width = self._terminal_width()
        now = datetime.datetime.now(tz=datetime.UTC)
        count = found["answered"] + len(found["unresponsive"]) + len(found["stale"])
        if found["scope"] == "process":
            self.stdout.write("Only this process can be looked at here: no channel to the others.")
            if found["problem"] is not None:
                self.stdout.write(self.style.WARNING(clean(found["problem"])))
        else:
            self.stdout.write(f"{found['answered']} of {count} process{'' if count == 1 else 'es'} answered.")
        if found["registry"] is not None:
            self.stdout.write(f"Registry: {clean(found['registry']['name'])}.")
        if found["refused"]:
            pids = ", ".join(str(pid) for pid in found["refused"])
            self.stdout.write(self.style.WARNING(f"Of another user, who can ask: {pids}."))
        for stranger in found["strangers"]:
            who = ", ".join(f"{key} {stranger[key]}" for key in ("pid", "uid") if stranger[key] is not None)
            text = f"A stranger took the name of this site {stranger['sockets']} time(s), and was told nothing: {who}."
            self.stdout.write(self.style.WARNING(text))
        rows_of = Rows(self.style, shows_hosts=found["registry"] is not None)
        rows = [rows_of.of_process(record, now) for record in found["processes"]]
        rows += [rows_of.of_unresponsive(pid) for pid in found["unresponsive"]]
        rows += [rows_of.of_stale(process) for process in found["stale"]]
        if rows:
            self._write_table(PROCESS_COLUMNS, rows, width)
        ended = {str(status) for status in WorkItemStatus if status.is_terminal}
        lists = ["items", "recent"] if ended & set(options["status"]) else ["items"]
        shown = [
            rows_of.of_item(item, record["host"], now)
            for name in lists
            for record in found["processes"]
            for item in record[name]
        ]
        if shown:
            self.stdout.write("")
            self._write_table(ITEM_COLUMNS, shown, width)
        if found["truncated"]:
            self.stdout.write(self.style.WARNING("Not all items are listed."))

    def _write_table(self, columns: tuple[Column, ...], rows: list[list[Cell]], width: int) -> None:
        for line in render(columns, rows, width, self.style.MIGRATE_HEADING):
            self.stdout.write(line)

    def _write_entry(self, entry: dict[str, Any], *, details: bool) -> None:
        item, process = entry["item"], entry["process"]
        now = datetime.datetime.now(tz=datetime.UTC)
        running = span(seconds_between(item["started_at"], item["finished_at"], now))
        status = clean(item["status"])
        title = self.style.MIGRATE_HEADING(clean(item["name"]))
        style = Rows(self.style).status_style(status)
        self.stdout.write(f"{title}  {style(status) if style else status}  {running}".rstrip())
        rows = {"id": item["id"], "process": f"{process['pid']} ({process['server']} on {process['host']})"}
        if details:
            names = ("kind", "thread", "queued_at", "started_at", "finished_at", "timeout", "cancel_reason", "origin")
            rows |= {name: item[name] for name in (*names, "request_id") if item[name] is not None}
        if process["age"] is not None:
            rows["told"] = f"{span(process['age'])} ago, to the shared registry; the stack is to be had on that host"
        for name, value in rows.items():
            self.stdout.write(f"  {name.replace('_', ' '):<13} {clean(str(value))}")
        text = entry["stack"]
        if item["error"] is not None:
            text = item["error"]["traceback"]
        for line in clean_lines(text or ""):
            self.stdout.write(f"  {line}")
        self.stdout.write("")

    def _outcome(self, item_id: str, results: operations.ItemResults) -> str:
        first = results[item_id]
        if item_id in results.requested:
            where = clean(results.requested[item_id])
            return self.style.SUCCESS(f"requested, {where} picks it up within {results.pick_up_seconds:g} s")
        if first is None:
            return self.style.ERROR("not found")
        return self.style.SUCCESS("cancelled") if first else "was cancelled before, or has ended"

    def _terminal_width(self) -> int:
        # Where nobody looks at it, in a pipe or a file, nothing is cut.
        return shutil.get_terminal_size((_UNLIMITED, 24)).columns

    def _end(self, pids: Iterable[int], found: Iterable[int], unresponsive: list[int], but: str = "") -> None:
        if unresponsive or but:
            listed = ", ".join(str(pid) for pid in unresponsive)
            reasons = [f"no answer from process {listed}"] if unresponsive else []
            raise Incomplete("; ".join([*reasons, *([clean(but)] if but else [])]), returncode=INCOMPLETE)
        missing = sorted(set(pids) - set(found))
        if missing:
            listed = ", ".join(str(pid) for pid in missing)
            raise NotFound(f"no process of this site with pid {listed}", returncode=NOT_FOUND)


class _Lines:
    """Takes the place of the output, and keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, text: str = "", style_func: Style | None = None, ending: str | None = None) -> None:
        """Keep a line."""
        self.lines += text.split("\n")


def _select(found: dict[str, Any], pids: list[int], statuses: list[str]) -> None:
    if pids:
        found["processes"] = [record for record in found["processes"] if record["pid"] in pids]
        found["unresponsive"] = [pid for pid in found["unresponsive"] if pid in pids]
        found["stale"] = [process for process in found["stale"] if process["pid"] in pids]
        found["answered"] = len(found["processes"])
    if statuses:
        for record in found["processes"]:
            for name in ("items", "recent"):
                record[name] = [item for item in record[name] if item["status"] in statuses]


def _missing(found: dict[str, Any]) -> str:
    """Return what could not be looked at, and what the registry of all hosts could not tell."""
    if found["problem"] is not None:
        return str(found["problem"])
    if found["registry"] is not None and found["registry"]["error"]:
        return str(found["registry"]["error"])
    silent = ", ".join(f"{process['host']}:{process['pid']}" for process in found["stale"])
    return f"nothing was heard of {silent} for too long" if silent else ""


def _drain_text(result: dict[str, Any]) -> str:
    waiting = f"{result['waiting_for']} item{'' if result['waiting_for'] == 1 else 's'}"
    if result["ending"]:
        return f"Process {result['pid']}: is {result['state']} already, since it ends; {waiting} left."
    if result["state"] != "draining":
        return f"Process {result['pid']}: nothing to drain. Its scheduler is OPEN."
    return f"Process {result['pid']}: waiting for {waiting}, {result['remaining']:.0f} s at the most."


def _several(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple, set)) else [value]


def _who() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):
        # A uid without a name, as in many containers.
        user = "a user without a name"
    return f"{user} by manage.py {sys.argv[1] if len(sys.argv) > 1 else 'qbwi'}"
