"""What an operator does: see the items of all processes of this site, and stop one. For the command and the page.

All functions block for at most half a second, and may be called from any thread, but not on an event loop.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django_qbwi import hosting
from django_qbwi.core.exceptions import WorkItemNotFound
from django_qbwi.inspection.records import SCHEMA
from django_qbwi.inspection.subject import MAX_ITEMS


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
    processes = [hosting.process().subject.overview(min(limit, MAX_ITEMS))]
    return {
        "schema": SCHEMA,
        "answered": len(processes),
        "unresponsive": [],
        "refused": [],
        "scope": "process",
        "truncated": any(record["truncated"] for record in processes),
        "processes": processes,
    }


def find(item_id: str) -> dict[str, Any]:
    """Return one item: `process` (pid, host, server, state), `item` (as in `overview`), `stack`.

    The stack is text without locals: that of its thread, or the await chain of its asyncio task; None if it does not
    run.

    Raises:
        WorkItemNotFound: No process that answered knows it.
    """
    subject = hosting.process().subject
    found = subject.find(item_id)
    if found is None:
        raise WorkItemNotFound(f"no process knows the work item {item_id!r}")
    return {"process": _head(subject.overview(0)), **found}


def cancel(item_ids: Iterable[str], *, by: str) -> dict[str, bool | None]:
    """Cancel items, wherever they are queued or running.

    Args:
        by: Who does it; written to the log of the process that has the item.

    Returns:
        For each id True if this was the first cancellation and the item had not ended, False if it came too late,
        None if no process that answered knows the item.
    """
    wanted = list(item_ids)
    done = hosting.process().subject.cancel(wanted, by)
    return {item_id: done.get(item_id) for item_id in wanted}


def stacks() -> list[dict[str, Any]]:
    """Return all items that run, each with its process and stack, in the shape of `find`."""
    subject = hosting.process().subject
    head = _head(subject.overview(0))
    return [{"process": head, **entry} for entry in subject.stacks()]


def drain(pids: Iterable[int] | None = None, *, by: str = "an operator") -> list[dict[str, Any]]:
    """Have processes end what is queued and running in them now; returns at once.

    The items' tokens are cancelled with SHUTDOWN, and the process is shown as draining until the last of them has
    ended or QBWI["SHUTDOWN_TIMEOUT"] is over. The scheduler stays open for new items all the while.

    Args:
        pids: The processes; None for all.
        by: Who does it; written to their logs.

    Returns:
        For each process that answered `pid`, `state`, `remaining` (seconds until the limit, or None) and
        `waiting_for` (the number of items).
    """
    here = hosting.process()
    if pids is not None and here.pid not in set(pids):
        return []
    return [here.subject.drain(by)]


def _head(record: dict[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in ("pid", "host", "server", "state")}
