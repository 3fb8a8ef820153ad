"""The options of `manage.py qbwi` that every operation takes."""

from __future__ import annotations

import argparse
from typing import Any

from django_qbwi.core.items import WorkItemStatus

WATCH_SECONDS = 2.0


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
        choices=[str(status) for status in WorkItemStatus],
        help="Only items with this status; may be repeated. Ended ones are listed only so.",
        **default,
    )
    parser.add_argument("--pid", action="append", type=int, help="Only this process; may be repeated.", **default)


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
