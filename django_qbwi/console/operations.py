"""What an operator does: see the items of all processes of this site, and stop one. For the command and the page.

All functions block for half a second at the most, and may be called from any thread, but not on an event loop.
A process of another machine, or of another container, is out of reach, unless there is a registry of all hosts
(`django_qbwi.contrib.shared_registry`). Then `overview`, `find` and `cancel` ask it too, for as long as its database
takes; what it tells of a process is at most as old as the last beat of that process, and never replaces a live answer.
"""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Callable, Iterable
from typing import Any

from django_qbwi import hosting
from django_qbwi.connections import under_test
from django_qbwi.core.exceptions import InspectionError, ProcessUnreachable, WorkItemNotFound
from django_qbwi.core.names import printable
from django_qbwi.hosting.identity import sites
from django_qbwi.hosting.process import Process
from django_qbwi.inspection.places import find_place
from django_qbwi.inspection.reader import Answers, Stranger, ask
from django_qbwi.inspection.records import SCHEMA, Item, ProcessRecord, item_from_dict, text
from django_qbwi.inspection.registry import StoredProcess, place_of_this_process
from django_qbwi.inspection.subject import MAX_ITEMS, Subject
from django_qbwi.lifecycle.servers import CommandHost

_MAX_IDS = 1_000
_MAX_STRANGERS = 50


class ItemResults(dict[str, "bool | None"]):
    """What became of each id, and who could not be asked about it."""

    def __init__(self, item_ids: Iterable[str] = ()) -> None:
        super().__init__(dict.fromkeys(item_ids))
        self.unresponsive: list[int] = []
        """The pids of the processes that did not answer."""
        self.requested: dict[str, str] = {}
        """Ids that a process of another host is asked to cancel at its next beat, with its host and pid."""
        self.pick_up_seconds = 0.0
        """How long that may take, 0 if nothing was requested."""
        self.error = ""
        """What went wrong with the registry of all hosts, if there is one and an id is not known otherwise."""


class ProcessResults(list[dict[str, Any]]):
    """What the processes answered, and who did not."""

    unresponsive: list[int]
    """The pids of the processes that did not answer."""
    problem = ""
    """Why the other processes could not be asked, "" where nothing went wrong."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Replies:
    """What the processes said: this one by a call, the others over the channel."""

    scope: str
    answers: list[tuple[int, Any]]
    unresponsive: list[int]
    refused: list[int]
    strangers: list[Stranger]
    elsewhere: list[int]
    problem: str = ""
    """Why nobody else could be asked, where that was tried."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Shared:
    """What the registry of all hosts says of processes that nobody here can ask."""

    registry: dict[str, Any] | None
    fresh: list[StoredProcess]
    stale: list[StoredProcess]


_NOTHING_SHARED = _Shared(registry=None, fresh=[], stale=[])


def overview(*, limit: int = MAX_ITEMS, shared: bool = True) -> dict[str, Any]:
    """Describe all processes and their items, as the JSON of `manage.py qbwi --format json`.

    Args:
        limit: Items of each list of a process; 500 at the most.
        shared: Whether to look into the registry of all hosts, if there is one.

    Returns:
        `schema`: 1.
        `answered`: The number of processes that answered.
        `unresponsive`: The pids of those that did not in half a second: stopped, or busy in C code with the GIL held.
        `refused`: The pids of those that run as another user, and do not let this one look.
        `strangers`: Who listens under the name of the site without belonging to it: `pid`, `uid` (None where nobody can
            tell) and `sockets`, the number of names; the fifty with the most of them.
        `scope`: "machine", "process" where only this process can be looked at, or "site" with a registry of all hosts.
        `problem`: Why the other processes could not be asked, None where nothing went wrong.
        `registry`: None, or that registry: its `name`, and `error`, a text if it could not be read.
        `stale`: `host`, `pid` and `age` of the processes that have not written to it for too long.
        `truncated`: Whether a process has more items than it listed.
        `processes`: One for each that answered, by pid: `pid`, `host`, `server`, `started_at` (ISO 8601), `state`
            (open, draining, closed), `remaining` (seconds left of a drain, or None), `running`, `queued`, `finished`
            (all that ended since the start), `failed` (those of them that failed), `age` (seconds since it said so to
            the registry, None if it has just answered), `limits` (`max_workers`,
            `max_async_in_flight`, `max_queued`, `item_timeout`, `shutdown_timeout`), `items` (running ones first,
            oldest first), `recent` (those that ended last, newest first), `truncated`. An item is what
            `WorkItemInfo.to_dict` returns; its traceback is shortened, `find` has all of it.
    """
    limit = max(0, min(limit, MAX_ITEMS))
    replies = _ask({"operation": "overview", "limit": limit}, lambda subject: subject.overview(limit))
    live, strangers = _read(replies, ProcessRecord.from_dict)
    found = _shared([record for _, record in live], replies) if shared else _NOTHING_SHARED
    processes = [{**record.to_dict(), "age": None} for _, record in live]
    processes += [_stored(process, limit) for process in found.fresh]
    return {
        "schema": SCHEMA,
        "answered": len(processes),
        "unresponsive": sorted([*replies.unresponsive, *strangers]),
        "refused": replies.refused,
        "strangers": [stranger.to_dict() for stranger in replies.strangers[:_MAX_STRANGERS]],
        "scope": replies.scope if found.registry is None or found.registry["error"] else "site",
        "problem": replies.problem or None,
        "registry": found.registry,
        "stale": [
            {"host": process.record.host, "pid": process.record.pid, "age": round(process.age, 1)}
            for process in found.stale
        ],
        "truncated": any(record["truncated"] for record in processes),
        "processes": processes,
    }


def find(item_id: str) -> dict[str, Any]:
    """Return one item: `process` (pid, host, server, state, age), `item` (as in `overview`), `stack`.

    The stack is text without locals: that of its thread, or the await chain of its asyncio task; None if it does not
    run, or if it runs where only the registry of all hosts tells of it (`age` is not None).

    Raises:
        WorkItemNotFound: No process that answered knows it.
    """
    replies = _ask({"operation": "find", "id": item_id}, lambda subject: subject.find(item_id))
    found, strangers = _read(replies, lambda answer: None if answer is None else _entry(answer))
    entries: list[dict[str, Any]] = [entry for _, entry in found if entry is not None]
    if entries:
        return entries[0]
    shared = _shared([], replies)
    for stored in shared.fresh:
        for item in _items(stored):
            if item["id"] == item_id:
                return {"process": _head(stored), "item": item, "stack": None}
    silent = sorted([*replies.unresponsive, *strangers])
    but = f"; {_pids(silent)} did not answer" if silent else ""
    why = _why_unknown(shared, [item_id], ItemResults())
    but += f"; {why}" if why else ""
    but += f"; {replies.problem}" if replies.problem else ""
    error = WorkItemNotFound(f"no process knows the work item {item_id!r}{but}")
    error.is_certain = not but
    raise error


def cancel(item_ids: Iterable[str], *, by: str) -> ItemResults:
    """Cancel items, wherever they are queued or running.

    Args:
        item_ids: 1,000 at the most.
        by: Who does it; written to the log of the process that has the item.

    Returns:
        For each id True if this was the first cancellation and the item had not ended, False if it came too late,
        None if no process that answered knows the item. Those of them that are in `requested` are known to a process of
        another host, or may be, and are cancelled there at its next beat.
    """
    wanted = list(dict.fromkeys(item_ids))
    if len(wanted) > _MAX_IDS:
        raise ValueError(f"cancel() takes {_MAX_IDS} ids at the most, not {len(wanted)}")
    request = {"operation": "cancel", "ids": wanted, "by": by}
    replies = _ask(request, lambda subject: subject.cancel(wanted, by))
    answers, strangers = _read(replies, _flags)
    done = ItemResults(wanted)
    done.unresponsive = sorted([*replies.unresponsive, *strangers])
    for _, answer in answers:
        done.update({item_id: first for item_id, first in answer.items() if item_id in done})
    unknown = [item_id for item_id in wanted if done[item_id] is None]
    if unknown:
        _request_cancellation(unknown, done, _shared([], replies), f"{by} (host {socket.gethostname()})")
        done.error = done.error or replies.problem
    return done


def stacks() -> ProcessResults:
    """Return all items that run, each with its process and stack, in the shape of `find`."""
    replies = _ask({"operation": "stacks"}, lambda subject: subject.stacks())
    answers, strangers = _read(replies, lambda answer: [_entry(entry) for entry in answer])
    found = ProcessResults(entry for _, entries in answers for entry in entries)
    found.unresponsive = sorted([*replies.unresponsive, *strangers])
    found.problem = replies.problem
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
    found.problem = replies.problem
    return found


def _shared(live: list[ProcessRecord], replies: _Replies) -> _Shared:
    """Look into the registry of all hosts for what is not `live`, and cannot be asked."""
    registry = hosting.registry()
    # As for the channel: the processes of a parallel test run are one site.
    if registry is None or under_test() or not hosting.this_process().current.settings.inspection:
        return _NOTHING_SHARED
    try:
        stored = registry.read()
    except InspectionError as error:
        return _Shared(registry={"name": registry.name, "error": str(error)}, fresh=[], stale=[])
    here = place_of_this_process() if replies.scope == "machine" else ""
    answered = {_identity(record) for record in live}
    # Who would be seen on the channel, if it lived, is not shown for what it once wrote down.
    others = [
        process
        for process in stored
        if _identity(process.record) not in answered and not (here and process.place == here)
    ]
    return _Shared(
        registry={"name": registry.name, "error": None},
        fresh=[process for process in others if not process.is_stale],
        stale=[process for process in others if process.is_stale],
    )


def _identity(record: ProcessRecord) -> tuple[str, int, str]:
    # A pid comes again, but not with the same microsecond of its start.
    return record.host, record.pid, record.started_at


def _items(stored: StoredProcess) -> list[Item]:
    return [*stored.record.items, *stored.record.recent]


def _stored(stored: StoredProcess, limit: int) -> dict[str, Any]:
    record = stored.record.to_dict()
    cut = len(record["items"]) > limit or len(record["recent"]) > limit
    return {
        **record,
        "items": record["items"][:limit],
        "recent": record["recent"][:limit],
        "truncated": record["truncated"] or cut,
        "age": round(stored.age, 1),
    }


def _head(stored: StoredProcess) -> dict[str, Any]:
    record = stored.record.to_dict()
    return {**{name: record[name] for name in ("pid", "host", "server", "state")}, "age": round(stored.age, 1)}


def _request_cancellation(unknown: list[str], done: ItemResults, shared: _Shared, by: str) -> None:
    """Ask the processes of other hosts, in the registry, to cancel what nobody here knows."""
    registry = hosting.registry()
    if registry is None or shared.registry is None:
        return
    known = {item["id"]: (stored, item) for stored in shared.fresh for item in _items(stored)}
    # One that is not listed may be where there was no room for it.
    crowded = [stored.key for stored in shared.fresh if stored.record.truncated]
    wanted: dict[str, list[str]] = {}
    for item_id in unknown:
        stored, item = known.get(item_id, (None, None))
        if item is not None and item["finished_at"] is not None:
            done[item_id] = False
            continue
        for key in crowded if stored is None else [stored.key]:
            wanted.setdefault(key, []).append(item_id)
    try:
        taken = registry.request_cancellation(wanted, by) if wanted else set()
    except InspectionError as error:
        done.error = str(error)
        return
    done.pick_up_seconds = registry.pick_up_seconds if taken else 0.0
    for stored in shared.fresh:
        for item_id in wanted.get(stored.key, ()) if stored.key in taken else ():
            done.requested[item_id] = f"{stored.record.host}:{stored.record.pid}"
    done.error = _why_unknown(shared, [item_id for item_id in unknown if done[item_id] is None], done)


def _why_unknown(shared: _Shared, item_ids: list[str], done: ItemResults) -> str:
    if all(item_id in done.requested for item_id in item_ids):
        return ""
    error = "" if shared.registry is None else shared.registry["error"] or ""
    return error or _silent_hosts(shared)


def _silent_hosts(shared: _Shared) -> str:
    names = ", ".join(f"{stored.record.host}:{stored.record.pid}" for stored in shared.stale)
    return f"nothing was heard of {names} for too long" if names else ""


def _ask(request: dict[str, Any], ask_this: Callable[[Subject], Any], *, pids: set[int] | None = None) -> _Replies:
    here = hosting.this_process()
    problem = ""
    try:
        others = _ask_others(request, here, pids)
    except Exception as error:
        # Whatever the system, or somebody on it, makes of the search: it is one sentence for the operator.
        others, problem = None, f"the processes of this machine could not be looked for: {printable(str(error))}"
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
        strangers=[] if others is None else others.strangers,
        elsewhere=[] if others is None else others.elsewhere,
        problem=problem,
    )


def _ask_others(request: dict[str, Any], here: Process, pids: set[int] | None) -> Answers | None:
    """Return what the other processes say, None if nobody can ask them."""
    place = find_place()
    # The processes of a parallel test run are one site, and would see each other's items.
    if place is None or under_test() or not here.current.settings.inspection:
        return None
    own = None if here.publisher is None else here.publisher.address
    return ask(place, sites(), request, but=own, pids=pids)


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
        "process": {
            "pid": int(process["pid"]),
            **{name: text(process[name]) for name in ("host", "server", "state")},
            "age": None,
        },
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
