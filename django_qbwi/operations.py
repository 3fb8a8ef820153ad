"""What an operator does: see the items of all processes of this site, and stop one. For the command and the page.

All functions block for half a second at the most, and may be called from any thread, but not on an event loop.
A process of another machine, or of another container, is out of reach.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from django_qbwi import hosting
from django_qbwi.connections import under_test
from django_qbwi.core.exceptions import ProcessUnreachable, WorkItemNotFound
from django_qbwi.identity import sites
from django_qbwi.inspection.channel import find_place
from django_qbwi.inspection.reader import Answers, ask
from django_qbwi.inspection.records import SCHEMA, ProcessRecord, item_from_dict, text
from django_qbwi.inspection.subject import MAX_ITEMS, Subject
from django_qbwi.lifecycle.servers import CommandHost
from django_qbwi.process import Process

_MAX_IDS = 1_000


class ItemResults(dict[str, "bool | None"]):
    """What became of each id, and who could not be asked about it."""

    unresponsive: list[int]
    """The pids of the processes that did not answer."""


class ProcessResults(list[dict[str, Any]]):
    """What the processes answered, and who did not."""

    unresponsive: list[int]
    """The pids of the processes that did not answer."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Replies:
    """What the processes said: this one by a call, the others over the channel."""

    scope: str
    answers: list[tuple[int, Any]]
    unresponsive: list[int]
    refused: list[int]


def overview(*, limit: int = MAX_ITEMS) -> dict[str, Any]:
    """Describe all processes and their items, as the JSON of `manage.py qbwi --format json`.

    Args:
        limit: Items of each list of a process; 500 at the most.

    Returns:
        `schema`: 1.
        `answered`: The number of processes that answered.
        `unresponsive`: The pids of those that did not in half a second: stopped, or busy in C code with the GIL held.
        `refused`: The pids of those that run as another user, and do not let this one look.
        `scope`: "machine", or "process" where only this process can be looked at.
        `truncated`: Whether a process has more items than it listed.
        `processes`: One for each that answered, by pid: `pid`, `host`, `server`, `started_at` (ISO 8601), `state`
            (open, draining, closed), `remaining` (seconds left of a drain, or None), `running`, `queued`, `finished`
            (all that ended since the start), `failed` (those of them that failed), `limits` (`max_workers`,
            `max_async_in_flight`, `max_queued`, `item_timeout`, `shutdown_timeout`), `items` (running ones first,
            oldest first), `recent` (those that ended last, newest first), `truncated`. An item is what
            `WorkItemInfo.to_dict` returns; its traceback is shortened, `find` has all of it.
    """
    limit = max(0, min(limit, MAX_ITEMS))
    replies = _ask({"operation": "overview", "limit": limit}, lambda subject: subject.overview(limit))
    processes, strangers = _read(replies, lambda answer: ProcessRecord.from_dict(answer).to_dict())
    return {
        "schema": SCHEMA,
        "answered": len(processes),
        "unresponsive": sorted([*replies.unresponsive, *strangers]),
        "refused": replies.refused,
        "scope": replies.scope,
        "truncated": any(record["truncated"] for _, record in processes),
        "processes": [record for _, record in processes],
    }


def find(item_id: str) -> dict[str, Any]:
    """Return one item: `process` (pid, host, server, state), `item` (as in `overview`), `stack`.

    The stack is text without locals: that of its thread, or the await chain of its asyncio task; None if it does not
    run.

    Raises:
        WorkItemNotFound: No process that answered knows it.
    """
    replies = _ask({"operation": "find", "id": item_id}, lambda subject: subject.find(item_id))
    found, strangers = _read(replies, lambda answer: None if answer is None else _entry(answer))
    entries: list[dict[str, Any]] = [entry for _, entry in found if entry is not None]
    if entries:
        return entries[0]
    silent = sorted([*replies.unresponsive, *strangers])
    but = f"; {_pids(silent)} did not answer" if silent else ""
    raise WorkItemNotFound(f"no process knows the work item {item_id!r}{but}")


def cancel(item_ids: Iterable[str], *, by: str) -> ItemResults:
    """Cancel items, wherever they are queued or running.

    Args:
        item_ids: 1,000 at the most.
        by: Who does it; written to the log of the process that has the item.

    Returns:
        For each id True if this was the first cancellation and the item had not ended, False if it came too late,
        None if no process that answered knows the item.
    """
    wanted = list(dict.fromkeys(item_ids))
    if len(wanted) > _MAX_IDS:
        raise ValueError(f"cancel() takes {_MAX_IDS} ids at the most, not {len(wanted)}")
    request = {"operation": "cancel", "ids": wanted, "by": by}
    replies = _ask(request, lambda subject: subject.cancel(wanted, by))
    answers, strangers = _read(replies, _flags)
    done = ItemResults(dict.fromkeys(wanted))
    done.unresponsive = sorted([*replies.unresponsive, *strangers])
    for _, answer in answers:
        done.update({item_id: first for item_id, first in answer.items() if item_id in done})
    return done


def stacks() -> ProcessResults:
    """Return all items that run, each with its process and stack, in the shape of `find`."""
    replies = _ask({"operation": "stacks"}, lambda subject: subject.stacks())
    answers, strangers = _read(replies, lambda answer: [_entry(entry) for entry in answer])
    found = ProcessResults(entry for _, entries in answers for entry in entries)
    found.unresponsive = sorted([*replies.unresponsive, *strangers])
    return found


def drain(pids: Iterable[int] | None = None, *, by: str = "an operator") -> ProcessResults:
    """Have processes end what is queued and running in them now; returns at once.

    The items' tokens are cancelled with SHUTDOWN, and the process is shown as draining until the last of them has
    ended or QBWI["SHUTDOWN_TIMEOUT"] is over. The scheduler stays open for new items all the while.

    Args:
        pids: The processes; None for all.
        by: Who does it; written to their logs.

    Returns:
        For each process that answered `pid`, `state`, `remaining` (seconds until the limit, or None), `waiting_for`
        (the number of items) and `ending` (whether the process ends anyway, and was left alone).
    """
    request = {"operation": "drain", "by": by}
    replies = _ask(request, lambda subject: subject.drain(by), pids=None if pids is None else set(pids))
    answers, strangers = _read(replies, _drained)
    found = ProcessResults(answer for _, answer in answers)
    found.unresponsive = sorted([*replies.unresponsive, *strangers])
    return found


def _ask(request: dict[str, Any], ask_this: Callable[[Subject], Any], *, pids: set[int] | None = None) -> _Replies:
    here = hosting.process()
    others = _ask_others(request, here, pids)
    answers = [] if others is None else others.answers
    # The process of the command itself is nobody's server; where it is all there is, it is better than nothing.
    idle_command = isinstance(here.host, CommandHost) and not here.current.scheduler.started
    if (pids is None or here.pid in pids) and (others is None or not idle_command):
        answers = sorted([*answers, (here.pid, ask_this(here.subject))], key=lambda answer: answer[0])
    return _Replies(
        scope="process" if others is None else "machine",
        answers=answers,
        unresponsive=[] if others is None else others.unresponsive,
        refused=[] if others is None else others.refused,
    )


def _ask_others(request: dict[str, Any], here: Process, pids: set[int] | None) -> Answers | None:
    """Return what the other processes say, None if nobody can ask them."""
    place = find_place()
    # The processes of a parallel test run are one site, and would see each other's items.
    if place is None or under_test() or not here.current.settings.inspection:
        return None
    own = None if here.publisher is None else here.publisher.address
    try:
        return ask(place, sites(), request, but=own, pids=pids)
    except OSError:
        return None


def _read(replies: _Replies, read: Callable[[Any], Any]) -> tuple[list[tuple[int, Any]], list[int]]:
    """Return the answers that could be read, and the pids of the others."""
    understood, strangers = [], []
    for pid, answer in replies.answers:
        try:
            understood.append((pid, read(answer)))
        except (ProcessUnreachable, AttributeError, KeyError, TypeError, ValueError):
            strangers.append(pid)
    return understood, strangers


def _entry(answer: Any) -> dict[str, Any]:
    stack = answer["stack"]
    process = answer["process"]
    return {
        "process": {"pid": int(process["pid"]), **{name: text(process[name]) for name in ("host", "server", "state")}},
        "item": item_from_dict(answer["item"]),
        "stack": None if stack is None else text(stack),
    }


def _flags(answer: Any) -> dict[str, bool]:
    return {text(item_id, 100): bool(first) for item_id, first in answer.items()}


def _drained(answer: Any) -> dict[str, Any]:
    remaining = answer["remaining"]
    return {
        "pid": int(answer["pid"]),
        "state": text(answer["state"]),
        "remaining": None if remaining is None else float(remaining),
        "waiting_for": int(answer["waiting_for"]),
        "ending": bool(answer["ending"]),
    }


def _pids(pids: Iterable[int]) -> str:
    return "process " + ", ".join(str(pid) for pid in pids)
