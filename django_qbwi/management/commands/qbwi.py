"""`manage.py qbwi`: what is running in all processes of this site, stop it, and run one item here."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import getpass
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from django_qbwi.console import operations, past, running, scheduled
from django_qbwi.console.options import VERBS, WATCH_SECONDS, add_options, is_number
from django_qbwi.console.printing import Printer
from django_qbwi.console.results import Asked
from django_qbwi.console.selecting import is_wanted, select
from django_qbwi.console.tables import Style
from django_qbwi.core.exceptions import QBWIError, WorkItemNotFound
from django_qbwi.core.names import clean
from django_qbwi.inspection.records import ProcessRecord

INCOMPLETE = 3
NOT_FOUND = 4

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 1.0
_HOME, _CLEAR, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[2J", "\x1b[K", "\x1b[J"


class Incomplete(CommandError):
    """Only a part of the processes answered."""


class NotFound(CommandError):
    """There is no such item, or no such process."""


class Failed(CommandError):
    """The item that was run has failed."""


class CutOff(CommandError):
    """The item that was run was cancelled, or left behind at the limit."""


class Command(BaseCommand):
    """Shows and steers the background work of all processes of this site on this machine, and shows other hosts'."""

    help = "Show what runs in the background of this site's processes, cancel it, or run one work item here."
    # Neither a database nor the apps of the site are asked for anything.
    requires_system_checks = []
    _is_program = False
    """Whether this process is there for the command, and not for who calls it."""
    _is_read = False
    """Whether the command line was understood."""

    def run_from_argv(self, argv: list[str]) -> None:
        """Let `--watch` stand before the operation without its seconds, which argparse would look for there."""
        words = [
            f"--watch={WATCH_SECONDS}" if word == "--watch" and not is_number(following) else word
            for word, following in zip(argv, [*argv[1:], ""], strict=True)
        ]
        self._is_program = True
        try:
            super().run_from_argv(words)
        except SystemExit as end:
            # Of a wrong command line argparse says 2, which is what a timer or a job hears of an item that was cut off.
            raise SystemExit(end.code if self._is_read or end.code != 2 else 1) from None

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the options before and after the operation alike."""
        add_options(parser, first=True)
        found = parser.add_subparsers(dest="operation", metavar=f"{{{','.join(VERBS)}}}")
        for verb in VERBS.values():
            # What is not given after the operation must not replace what was given before it.
            subparser = found.add_parser(
                verb.name, help=verb.help, description=verb.help, argument_default=argparse.SUPPRESS
            )
            add_options(subparser, first=False)
            for name, argument in verb.arguments.items():
                subparser.add_argument(name, **argument)

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what was asked for.

        Raises:
            CommandError: With the exit code: 1 an error, 2 the item was cut off, 3 only a part of the processes
                answered, 4 not found.
        """
        self._is_read = True
        operation = options["operation"] or "list"
        work: Callable[[dict[str, Any]], None] = getattr(self, f"_{operation}")
        options["status"], options["label"] = _several(options["status"]), _several(options["label"])
        options["pid"] = [int(pid) for pid in _several(options["pid"])]
        try:
            if options["watch"] is not None and VERBS[operation].may_be_watched:
                self._watch(work, options)
            else:
                work(options)
        except WorkItemNotFound as error:
            if not error.is_certain:
                raise Incomplete(clean(str(error)), returncode=INCOMPLETE) from error
            raise NotFound(clean(str(error)), returncode=NOT_FOUND) from error
        except (QBWIError, ImproperlyConfigured) as error:
            raise CommandError(clean(str(error))) from error
        except BrokenPipeError:
            # The reader has seen enough, as `head` does. What is still buffered must not fail at the exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    # The operations.

    def _list(self, options: dict[str, Any]) -> None:
        found = select(operations.overview(), options)
        if options["format"] == "json":
            self._write_json(found.to_dict())
        elif options["format"] == "jsonl":
            for process in found.processes:
                for item in (*process.record.items, *process.record.recent):
                    self._write_json(item, "jsonl")
        else:
            self._printer.overview(found, options["status"])
        pids = [process.record.pid for process in found.processes] + [process["pid"] for process in found.stale]
        self._end(options["pid"], pids, found.asked, found.gaps)

    def _show(self, options: dict[str, Any]) -> None:
        entry = operations.find(options["id"])
        if options["format"] == "table":
            self._printer.entry(entry, details=True)
        else:
            self._write_json({"schema": 1, **entry.to_dict()}, options["format"])

    def _stacks(self, options: dict[str, Any]) -> None:
        found = operations.stacks()
        entries = tuple(
            entry
            for entry in found.entries
            if not options["pid"] or entry.process["pid"] in options["pid"]
            if is_wanted(entry.item, options)
        )
        if options["format"] == "json":
            self._write_json(dataclasses.replace(found, entries=entries).to_dict())
        for entry in entries:
            if options["format"] == "jsonl":
                self._write_json(entry.to_dict(), "jsonl")
            elif options["format"] == "table":
                self._printer.entry(entry, details=False)
        if not entries and options["format"] == "table":
            self.stdout.write("Nothing is running.")
        self._end(options["pid"], found.asked.answered, found.asked, found.asked.gaps)

    def _stats(self, options: dict[str, Any]) -> None:
        for name in ("status", "label"):
            if options[name]:
                raise CommandError(f"--{name} is for items that are listed; `stats` counts all that have ended.")
        found = operations.statistics(options["pid"] or None)
        if options["format"] == "json":
            self._write_json(found.to_dict())
        for row in found.to_dict()["names"] if options["format"] == "jsonl" else ():
            self._write_json(row, "jsonl")
        if options["format"] == "table":
            self._printer.statistics(found)
        self._end(options["pid"], found.asked.answered, found.asked, found.asked.gaps)

    def _cancel(self, options: dict[str, Any]) -> None:
        found = operations.cancel(options["ids"], by=_who())
        if options["format"] == "json":
            self._write_json(found.to_dict())
        for item in found.to_dict()["items"] if options["format"] == "jsonl" else ():
            self._write_json(item, "jsonl")
        for item_id in found.outcomes if options["format"] == "table" else ():
            self._printer.outcome(item_id, found)
        missing = [item_id for item_id in found.outcomes if found.outcome(item_id) == "unknown"]
        if missing:
            listed = clean(", ".join(missing))
            if found.error:
                raise Incomplete(f"not found: {listed}; {clean(found.error)}", returncode=INCOMPLETE)
            why = f"; {clean(found.asked.nobody)}" if found.asked.is_empty else ""
            raise NotFound(f"no process knows {listed}{why}", returncode=NOT_FOUND)

    def _drain(self, options: dict[str, Any]) -> None:
        if bool(options["pid"]) == options["all"]:
            raise CommandError("Give the processes to drain with --pid, or all of them with --all.")
        found = operations.drain(options["pid"] or None, by=_who())
        speaks = options["format"] == "table"
        for process in found.processes if speaks else ():
            self._printer.drain_begun(process)
        waited_for = {process.pid for process in found.processes if process.state == "draining"}
        longest = max([process.remaining or 0.0 for process in found.processes], default=0.0)
        left = dict.fromkeys(waited_for, "it still drains")
        for record in self._drained(waited_for, longest):
            del left[record.pid]
            if record.left_behind:
                left[record.pid] = f"{record.left_behind} item(s) did not end"
            if speaks and record.state == "open":
                self.stdout.write(
                    f"Process {record.pid}: the drain is over. Its scheduler is OPEN again and takes new items; "
                    f"{record.running} running, {record.queued} queued."
                )
        if options["format"] == "json":
            self._write_json({**found.to_dict(), "left": left})
        for process in found.processes if options["format"] == "jsonl" else ():
            self._write_json({**process.to_dict(), "left": left.get(process.pid)}, "jsonl")
        if left:
            listed = "; ".join(f"process {pid}: {why}" for pid, why in sorted(left.items()))
            raise CommandError(f"Not drained within the limit: {listed}.")
        self._end(options["pid"], found.asked.answered, found.asked, found.asked.gaps)

    def _history(self, options: dict[str, Any]) -> None:
        past.write(options, self.stdout, self.style, self._write_json)

    def _schedules(self, options: dict[str, Any]) -> None:
        scheduled.show(options["format"], self._printer.schedules, self._write_json)

    def _run(self, options: dict[str, Any]) -> None:
        for name in ("watch", "status", "pid", "label"):
            if options[name]:
                raise CommandError(f"--{name} is for what runs in other processes; `run` runs one item in this one.")
        handle = running.run(options["path"], options["arguments"], ends_process=self._is_program)
        info, told = handle.info, running.sentence(handle.info)
        if options["format"] != "table":
            self._write_json({"schema": 1, "item": info.to_dict()}, options["format"])
        elif options["verbosity"] and info.status == "succeeded":
            self.stdout.write(told)
        code = running.exit_code(info.status)
        if code:
            raise {running.FAILED: Failed, running.CUT_OFF: CutOff}[code](told, returncode=code)

    def _drained(self, pids: set[int], seconds: float) -> Iterator[ProcessRecord]:
        """Yield the record of each process when its drain is over; of one that has ended, the last one known."""
        limit = time.monotonic() + seconds + _GRACE_SECONDS
        left: dict[int, ProcessRecord | None] = dict.fromkeys(pids)
        while left and time.monotonic() < limit:
            time.sleep(_POLL_SECONDS)
            found = operations.overview(limit=0, shared=False)
            records = {process.record.pid: process.record for process in found.processes}
            for pid, known in list(left.items()):
                record = records.get(pid)
                if record is not None:
                    left[pid] = record
                if record is not None and record.state == "open":
                    del left[pid]
                    yield record
                elif record is None and pid not in found.asked.unresponsive:
                    del left[pid]
                    if known is not None:
                        yield known

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

    @property
    def _printer(self) -> Printer:
        # Made when it is needed: `_redraw` replaces the output.
        return Printer(self.stdout, self.style)

    def _write_json(self, value: Any, how: str = "json") -> None:
        self.stdout.write(json.dumps(value, indent=2 if how == "json" else None))

    def _end(self, pids: Iterable[int], found: Iterable[int], asked: Asked, gaps: list[str]) -> None:
        """Raise, with its exit code, what keeps this from being all that was asked for."""
        if gaps:
            raise Incomplete(clean("; ".join(gaps)), returncode=INCOMPLETE)
        missing = sorted(set(pids) - set(found))
        if missing:
            listed = ", ".join(str(pid) for pid in missing)
            raise NotFound(f"no process of this site with pid {listed}: {clean(asked.site)}", returncode=NOT_FOUND)
        if asked.is_empty and not list(found):
            raise NotFound(clean(asked.nobody), returncode=NOT_FOUND)


class _Lines:
    """Takes the place of the output, and keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, text: str = "", style_func: Style | None = None, ending: str | None = None) -> None:
        """Keep a line."""
        self.lines += text.split("\n")


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
