"""The operations of `manage.py qbwi`, and their options."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from typing import Any

from django_qbwi.console import past
from django_qbwi.core.records import WorkItemStatus

WATCH_SECONDS = 2.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """One operation."""

    name: str
    help: str
    arguments: Mapping[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    """Those that only this one takes, as argparse wants them."""
    may_be_watched: bool = False


VERBS: Mapping[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb(name="list", help="List processes and items (the default).", may_be_watched=True),
        Verb(
            name="show",
            help="Show one item, with its stack.",
            arguments={"id": {"help": "The id of an item."}},
            may_be_watched=True,
        ),
        Verb(
            name="cancel",
            help="Ask items to end: queued ones never start, running ones see their token cancelled.",
            arguments={"ids": {"nargs": "+", "metavar": "id", "help": "The ids of items."}},
        ),
        Verb(name="stacks", help="Show where all running items are.", may_be_watched=True),
        Verb(
            name="stats",
            help="Show for each name how many items ended and failed, and how long they waited and ran.",
            may_be_watched=True,
        ),
        Verb(
            name="drain",
            help="Cancel all items of a process, which goes on, and wait for their end.",
            arguments={"--all": {"action": "store_true", "default": False, "help": "Drain all of this machine."}},
        ),
        Verb(name="schedules", help="Show what runs by the clock, when next, and how it went.", may_be_watched=True),
        Verb(
            name="history",
            help="List what ended badly, or moved, in processes that may be gone (django_qbwi.contrib.history).",
            arguments={
                "id": {
                    "nargs": "?",
                    "default": None,
                    "help": "The id of one item, or how it begins: shown with its traceback.",
                },
                "--name": {"default": None, "help": "Only items with this in their names."},
                "--search": {"default": None, "metavar": "TEXT", "help": "Only items with this in anything else."},
                "--since": {
                    "type": past.since,
                    "default": None,
                    "metavar": "SPAN",
                    "help": "Only items that ended in the last 90s, 30m, 12h or 7d, for instance.",
                },
                "--limit": {
                    "type": past.rows,
                    "default": past.LIMIT,
                    "metavar": "ROWS",
                    "help": f"At most so many, the newest ones: {past.LIMIT} if not given, {past.MOST} at the most.",
                },
            },
            may_be_watched=True,
        ),
        Verb(
            name="run",
            help="Run one work item in this process, and wait for its end: for cron, timers and jobs.",
            arguments={
                "path": {"help": "Its dotted path, such as shop.items.ship_orders."},
                "arguments": {
                    "nargs": "*",
                    "default": [],
                    "metavar": "JSON",
                    "help": "Its arguments after the token, each a JSON value: 42 true '\"large\"'.",
                },
            },
        ),
    )
}


def add_options(parser: argparse.ArgumentParser, *, first: bool) -> None:
    """Add those that may stand before and after the operation; only the `first` ones have defaults."""
    default: dict[str, Any] = {} if first else {"default": argparse.SUPPRESS}
    parser.add_argument(
        "--format",
        choices=["table", "json", "jsonl"],
        help="table for people (the default), json, or jsonl: one object a line.",
        **({"default": "table"} if first else default),
    )
    parser.add_argument(
        "--watch",
        nargs="?",
        type=_seconds,
        const=WATCH_SECONDS,
        metavar="SECONDS",
        help=f"Look again every {WATCH_SECONDS:g} seconds, or as often as given, until Ctrl-C.",
        **default,
    )
    parser.add_argument(
        "--status",
        action="append",
        choices=[*(str(status) for status in WorkItemStatus), "lost"],
        help="Only items with this status; may be repeated. Ended ones are listed only so; lost ones by history alone.",
        **default,
    )
    parser.add_argument("--pid", action="append", type=int, help="Only this process; may be repeated.", **default)
    parser.add_argument(
        "--label",
        action="append",
        metavar="NAME=VALUE",
        help="Only items with this label; a text without = is looked for in names and values. If repeated, all count.",
        **default,
    )


def is_number(word: str) -> bool:
    """True for what may follow `--watch`."""
    try:
        float(word)
    except ValueError:
        return False
    return True


def _seconds(value: str) -> float:
    seconds = float(value)
    if not 0.1 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{value} is not between 0.1 and 86400 seconds")
    return seconds
