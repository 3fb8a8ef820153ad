"""What the operations return: frozen values, each with `to_dict()` for JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from django_qbwi.inspection.reader import Stranger
from django_qbwi.inspection.records import SCHEMA, Item, ProcessRecord

MAX_NAMED = 50
"""Strangers, and processes of other sites, that are named; all of them are counted."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Who was asked, and who was not."""

    site: str
    """Which site was looked for, for people: its settings module, its URLconf and its public name."""
    scope: str
    """"machine", or "process" where only this process can be looked at."""
    answered: tuple[int, ...] = ()
    """The pids of those that answered."""
    unresponsive: tuple[int, ...] = ()
    """The pids of those that did not in time: stopped, or busy in C code with the GIL held."""
    refused: tuple[int, ...] = ()
    """The pids of those of the site that run as another user, and do not let this one look."""
    strangers: tuple[Stranger, ...] = ()
    """Who listens under the name of the site without belonging to it."""
    elsewhere: tuple[int, ...] = ()
    """The pids that the names of other sites on this machine say."""
    problem: str = ""
    """Why the other processes could not be asked, "" where nothing went wrong."""

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "site": self.site,
            "unresponsive": list(self.unresponsive),
            "refused": list(self.refused),
            "strangers": [stranger.to_dict() for stranger in self.strangers[:MAX_NAMED]],
            "other_sites": {"count": len(self.elsewhere), "pids": list(self.elsewhere[:MAX_NAMED])},
            "scope": self.scope,
            "problem": self.problem or None,
        }

    @property
    def gaps(self) -> list[str]:
        """Why this may not be all that there is, for people; empty if all processes that were found have answered."""
        found = [self.problem] if self.problem else []
        if self.unresponsive:
            found.append(f"no answer from {pids(self.unresponsive)}")
        if self.refused:
            found.append(f"not asked, since of another user: {pids(self.refused)}")
        return found

    @property
    def is_empty(self) -> bool:
        """True if no process of the site was found at all."""
        return not (self.answered or self.unresponsive or self.refused or self.problem)

    @property
    def nobody(self) -> str:
        """Say that no process was found, which were looked for, and who was seen instead."""
        seen = f"; not asked, since of other sites: {pids(self.elsewhere)}" if self.elsewhere else ""
        if self.strangers:
            seen += f"; {sum(stranger.sockets for stranger in self.strangers)} socket(s) of strangers have its name"
        return (
            f"no process of this site was found, which is {self.site}; each is listed from its first request on{seen}"
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ShownProcess:
    """One process that answered, or wrote down what it would answer."""

    record: ProcessRecord
    age: float | None = None
    """Seconds since it said so to the registry of all hosts, None if it has just answered."""

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {**self.record.to_dict(), "age": self.age}

    @property
    def head(self) -> dict[str, Any]:
        """Return which process it is."""
        record = self.record
        head = {name: getattr(record, name) for name in ("pid", "host", "server", "state")}
        return {**head, "age": self.age}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """All processes and their items."""

    asked: Asked
    registry: dict[str, Any] | None
    """None, or the registry of all hosts: its `name`, and `error`, a text if it could not be read."""
    stale: tuple[dict[str, Any], ...]
    """`host`, `pid` and `age` of the processes that have not written to it for too long."""
    processes: tuple[ShownProcess, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON of `manage.py qbwi --format json`."""
        reads = self.registry is not None and not self.registry["error"]
        return {
            "schema": SCHEMA,
            "answered": len(self.processes),
            **self.asked.to_dict(),
            **({"scope": "site"} if reads else {}),
            "registry": self.registry,
            "stale": list(self.stale),
            "truncated": any(process.record.truncated for process in self.processes),
            "processes": [process.to_dict() for process in self.processes],
        }

    @property
    def gaps(self) -> list[str]:
        """See `Asked.gaps`; what the registry could not tell is among them."""
        found = self.asked.gaps
        if self.registry is not None and self.registry["error"]:
            found.append(self.registry["error"])
        silent = ", ".join(f"{process['host']}:{process['pid']}" for process in self.stale)
        return [*found, f"nothing was heard of {silent} for too long"] if silent else found


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class FoundItem:
    """One item, its process (pid, host, server, state, age) and its stack."""

    process: dict[str, Any]
    item: Item
    stack: str | None
    """That of its thread, or the await chain of its task; None if it does not run, or runs on another host."""
    log: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """The last lines that it has logged, each with `at`, `level`, `logger` and `text`."""
    trace_id: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        entry = {"process": self.process, "item": self.item, "stack": self.stack}
        return {**entry, "log": self.log, "trace_id": self.trace_id}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Cancellation:
    """What became of the wish to cancel items."""

    asked: Asked
    outcomes: dict[str, bool | None]
    """For each id True if this was the first cancellation and the item had not ended, False if it came too late.

    None if no process that answered knows the item.
    """
    requested: dict[str, str]
    """Ids that a process of another host is asked to cancel at its next beat, with its host and pid."""
    pick_up_seconds: float
    """How long that may take, 0 if nothing was requested."""
    error: str
    """What may hide an id that is not known otherwise: of the registry of all hosts, or of this machine."""

    def outcome(self, item_id: str) -> str:
        """Return what became of one id: requested, elsewhere (requested of another host), too_late or unknown."""
        if item_id in self.requested:
            return "elsewhere"
        return {True: "requested", False: "too_late", None: "unknown"}[self.outcomes[item_id]]

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        items = [
            {"id": item_id, "outcome": self.outcome(item_id), "process": self.requested.get(item_id)}
            for item_id in self.outcomes
        ]
        return {"schema": SCHEMA, **self.asked.to_dict(), "items": items, "error": self.error or None}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Stacks:
    """The items that run, each with its process and stack."""

    asked: Asked
    entries: tuple[FoundItem, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"schema": SCHEMA, **self.asked.to_dict(), "stacks": [entry.to_dict() for entry in self.entries]}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DrainedProcess:
    """What a process says when it is asked to drain."""

    pid: int
    state: str
    remaining: float | None
    """Seconds until the limit."""
    waiting_for: int
    """Items."""
    ending: bool
    """Whether the process ends anyway, and was left alone."""

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """The processes that answered, when they began to drain."""

    asked: Asked
    processes: tuple[DrainedProcess, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"schema": SCHEMA, **self.asked.to_dict(), "drained": [process.to_dict() for process in self.processes]}


def pids(found: Iterable[int]) -> str:
    """Return pids for people; of many only the first."""
    numbers = sorted(found)
    rest = f" and {len(numbers) - MAX_NAMED} more" if len(numbers) > MAX_NAMED else ""
    return "process " + ", ".join(str(pid) for pid in numbers[:MAX_NAMED]) + rest
