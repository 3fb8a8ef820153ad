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

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from django_qbwi import hosting
from django_qbwi.console.results import (
    Asked,
    Cancellation,
    Drain,
    DrainedProcess,
    FoundItem,
    Overview,
    ShownProcess,
    Stacks,
)
from django_qbwi.console.statistics import Statistics, from_dict, merged
from django_qbwi.core.exceptions import InspectionError, ProcessUnreachable, WorkItemNotFound
from django_qbwi.core.names import printable
from django_qbwi.hosting.identity import sites
from django_qbwi.inspection.reader import Answers
from django_qbwi.inspection.records import (
    Item,
    ProcessRecord,
    bounded,
    fields,
    flag,
    item_from_dict,
    log_from_list,
    number,
    optional,
    text,
    whole,
)
from django_qbwi.inspection.registry import StoredProcess, place_of_this_process
from django_qbwi.inspection.subject import MAX_ITEMS, Subject
from django_qbwi.lifecycle.servers import CommandHost

_MAX_IDS = 1_000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Shared:
    """What the registry of all hosts says of processes that nobody here can ask."""

    registry: dict[str, Any] | None = None
    fresh: list[StoredProcess] = dataclasses.field(default_factory=list)
    stale: list[StoredProcess] = dataclasses.field(default_factory=list)

    @property
    def gap(self) -> str:
        """What it could not tell, "" if nothing."""
        error = "" if self.registry is None else self.registry["error"] or ""
        names = ", ".join(f"{stored.record.host}:{stored.record.pid}" for stored in self.stale)
        return error or (f"nothing was heard of {names} for too long" if names else "")


def overview(*, limit: int = MAX_ITEMS, shared: bool = True) -> Overview:
    """Describe all processes and their items, those that have just answered first.

    Args:
        limit: Items of each list of a process; 500 at the most.
        shared: Whether to look into the registry of all hosts, if there is one.
    """
    limit = max(0, min(limit, MAX_ITEMS))
    request = {"operation": "overview", "limit": limit}
    asked, live = _ask(request, lambda subject: subject.overview(limit), ProcessRecord.from_dict)
    found = _shared(live, asked) if shared else _Shared()
    return Overview(
        asked=asked,
        registry=found.registry,
        stale=tuple(
            {"host": process.record.host, "pid": process.record.pid, "age": round(process.age, 1)}
            for process in found.stale
        ),
        processes=(
            *(ShownProcess(record=record) for record in live),
            *(_stored(process, limit) for process in found.fresh),
        ),
    )


def find(item_id: str) -> FoundItem:
    """Return one item, wherever it is.

    Raises:
        WorkItemNotFound: No process that answered knows it.
    """
    asked, found = _ask({"operation": "find", "id": item_id}, lambda subject: subject.find(item_id), optional(_entry))
    entries: list[FoundItem] = [entry for entry in found if entry is not None]
    if entries:
        return entries[0]
    shared = _shared([], asked)
    for stored in shared.fresh:
        for item in _items(stored):
            if item["id"] == item_id:
                return FoundItem(process=_stored(stored, 0).head, item=item, stack=None)
    gaps = [*asked.gaps, *([shared.gap] if shared.gap else [])]
    if asked.is_empty and not shared.fresh:
        gaps = [*gaps, asked.nobody]
    error = WorkItemNotFound("; ".join([f"no process knows the work item {printable(item_id)!r}", *gaps]))
    error.is_certain = not gaps or asked.is_empty
    raise error


def cancel(item_ids: Iterable[str], *, by: str) -> Cancellation:
    """Ask for the cancellation of items, wherever they are queued or running.

    Args:
        item_ids: 1,000 at the most.
        by: Who does it; written to the log of the process that has the item.
    """
    wanted = list(dict.fromkeys(item_ids))
    if len(wanted) > _MAX_IDS:
        raise ValueError(f"cancel() takes {_MAX_IDS} ids at the most, not {len(wanted)}")
    request = {"operation": "cancel", "ids": wanted, "by": by}
    asked, answers = _ask(request, lambda subject: subject.cancel(wanted, by), _flags)
    outcomes: dict[str, bool | None] = dict.fromkeys(wanted)
    for answer in answers:
        outcomes.update({item_id: first for item_id, first in answer.items() if item_id in outcomes})
    unknown = [item_id for item_id in wanted if outcomes[item_id] is None]
    requested: dict[str, str] = {}
    seconds, error = 0.0, ""
    if unknown:
        shared = _shared([], asked)
        requested, seconds, error = _request_cancellation(
            unknown, outcomes, shared, f"{by} (host {socket.gethostname()})"
        )
        if any(outcomes[item_id] is None and item_id not in requested for item_id in unknown):
            error = "; ".join([*asked.gaps, *([error or shared.gap] if error or shared.gap else [])])
    return Cancellation(asked=asked, outcomes=outcomes, requested=requested, pick_up_seconds=seconds, error=error)


def stacks() -> Stacks:
    """Return all items that run, each with its process and stack."""
    asked, answers = _ask({"operation": "stacks"}, lambda subject: subject.stacks(), _entries)
    return Stacks(asked=asked, entries=tuple(entry for entries in answers for entry in entries))


def statistics(pids: Iterable[int] | None = None) -> Statistics:
    """Return the numbers of all names, added up over the processes of this machine, or over those with `pids`."""
    request = {"operation": "statistics"}
    wanted = None if pids is None else set(pids)
    asked, answers = _ask(request, lambda subject: subject.statistics(), from_dict, pids=wanted)
    return Statistics(asked=asked, names=merged(answers))


def drain(pids: Iterable[int] | None = None, *, by: str = "an operator") -> Drain:
    """Have processes end what is queued and running in them now; returns at once.

    The items' tokens are cancelled with SHUTDOWN, and the process is shown as draining until the last of them has
    ended or QBWI["SHUTDOWN_TIMEOUT"] is over. The scheduler stays open for new items all the while.

    Args:
        pids: The processes; None for all.
        by: Who does it; written to their logs.
    """
    request = {"operation": "drain", "by": by}
    asked, answers = _ask(
        request, lambda subject: subject.drain(by), _drained, pids=None if pids is None else set(pids)
    )
    return Drain(asked=asked, processes=tuple(answers))


def _shared(live: list[ProcessRecord], asked: Asked) -> _Shared:
    """Look into the registry of all hosts for what is not `live`, and cannot be asked."""
    registry, here = hosting.registry(), hosting.this_process()
    if registry is None or not here.host.opens_channel or not here.current.settings.inspection:
        return _Shared()
    try:
        stored = registry.read()
    except InspectionError as error:
        return _Shared(registry={"name": registry.name, "error": str(error)})
    place_here = place_of_this_process() if asked.scope == "machine" else ""
    answered = {_identity(record) for record in live}
    # Who would be seen on the channel, if it lived, is not shown for what it once wrote down.
    others = [
        process
        for process in stored
        if _identity(process.record) not in answered and not (place_here and process.place == place_here)
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


def _stored(stored: StoredProcess, limit: int) -> ShownProcess:
    record = stored.record
    cut = len(record.items) > limit or len(record.recent) > limit
    return ShownProcess(
        record=dataclasses.replace(
            record,
            items=record.items[:limit],
            recent=record.recent[:limit],
            truncated=record.truncated or cut,
        ),
        age=round(stored.age, 1),
    )


def _request_cancellation(
    unknown: list[str], outcomes: dict[str, bool | None], shared: _Shared, by: str
) -> tuple[dict[str, str], float, str]:
    """Ask the processes of other hosts, in the registry, to cancel what nobody here knows.

    Returns:
        Which process is asked for which id, how long that may take, and what went wrong.
    """
    registry = hosting.registry()
    if registry is None or shared.registry is None:
        return {}, 0.0, ""
    known = {item["id"]: (stored, item) for stored in shared.fresh for item in _items(stored)}
    # One that is not listed may be where there was no room for it.
    crowded = [stored.key for stored in shared.fresh if stored.record.truncated]
    wanted: dict[str, list[str]] = {}
    for item_id in unknown:
        stored, item = known.get(item_id, (None, None))
        if item is not None and item["finished_at"] is not None:
            outcomes[item_id] = False
            continue
        for key in crowded if stored is None else [stored.key]:
            wanted.setdefault(key, []).append(item_id)
    try:
        taken = registry.request_cancellation(wanted, by) if wanted else set()
    except InspectionError as error:
        return {}, 0.0, str(error)
    requested = {
        item_id: f"{stored.record.host}:{stored.record.pid}"
        for stored in shared.fresh
        if stored.key in taken
        for item_id in wanted[stored.key]
    }
    return requested, registry.pick_up_seconds if taken else 0.0, ""


def _ask(
    request: dict[str, Any],
    ask_this: Callable[[Subject], Any],
    read: Callable[[Any], Any],
    *,
    pids: set[int] | None = None,
) -> tuple[Asked, list[Any]]:
    """Ask this process by a call and the others over the channel; return who was asked, and what could be read."""
    here = hosting.this_process()
    problem, others = "", None
    try:
        others = hosting.ask_others(request, pids)
    except InspectionError as error:
        problem = str(error)
    except Exception as error:
        # Whatever the system, or somebody on it, makes of the search: it is one sentence for the operator.
        problem = f"the processes of this machine could not be looked for: {printable(str(error))}"
    answers = [] if others is None else others.answers
    # The process of the command itself is nobody's server; where it is all there is, it is better than nothing.
    idle_command = isinstance(here.host, CommandHost) and not here.current.scheduler.started
    if (pids is None or here.pid in pids) and (others is None or not idle_command):
        answers = sorted([*answers, (here.pid, ask_this(here.subject))], key=lambda answer: answer[0])
    understood, silent = _read(answers, read)
    found = Answers(answers=[], unresponsive=[], refused=[]) if others is None else others
    asked = Asked(
        site=_site(),
        scope="process" if others is None else "machine",
        answered=tuple(pid for pid, _ in understood),
        unresponsive=tuple(sorted([*found.unresponsive, *silent])),
        refused=tuple(found.refused),
        strangers=tuple(found.strangers),
        elsewhere=tuple(found.elsewhere),
        problem=problem,
    )
    return asked, [answer for _, answer in understood]


def _site() -> str:
    settings_module = getattr(settings, "SETTINGS_MODULE", None) or "none"
    try:
        names = ", ".join(dict.fromkeys(site.name for site in sites()))
    except ImproperlyConfigured as error:
        names = str(error)
    return printable(f"{names} (settings {settings_module}, ROOT_URLCONF {getattr(settings, 'ROOT_URLCONF', None)})")


def _read(answers: list[tuple[int, Any]], read: Callable[[Any], Any]) -> tuple[list[tuple[int, Any]], list[int]]:
    """Return the answers that could be read, and the pids of the others."""
    understood, strangers = [], []
    for pid, answer in answers:
        try:
            understood.append((pid, read(answer)))
        except ProcessUnreachable:
            strangers.append(pid)
    return understood, strangers


def _entry(answer: Any) -> FoundItem:
    rules = {"process": _head, "item": item_from_dict, "stack": optional(text), "log": log_from_list}
    return FoundItem(**fields(answer, {**rules, "trace_id": optional(bounded(100))}))


def _entries(answer: Any) -> list[FoundItem]:
    if not isinstance(answer, list):
        raise ProcessUnreachable("a process answered without a list of stacks")
    return [_entry(entry) for entry in answer[:_MAX_IDS]]


def _head(answer: Any) -> dict[str, Any]:
    label = bounded(255)
    return {**fields(answer, {"pid": whole, "host": label, "server": label, "state": label}), "age": None}


def _flags(answer: Any) -> dict[str, bool]:
    if not isinstance(answer, dict):
        raise ProcessUnreachable("a process answered without the ids that it cancelled")
    return {text(item_id, 100): flag(first) for item_id, first in answer.items()}


def _drained(answer: Any) -> DrainedProcess:
    rules = {"pid": whole, "state": bounded(20), "remaining": optional(number), "waiting_for": whole, "ending": flag}
    return DrainedProcess(**fields(answer, rules))
