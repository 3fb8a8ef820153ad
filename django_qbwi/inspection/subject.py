"""What can be asked of one process, and done to it: the same for this process and, over the channel, for others.

Everything here may be called from any thread. Nothing runs any code but ours in the calling thread, and only
cancelling waits, for half a second at the most: `cancelling`.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
import re
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django_qbwi.core.admission import SchedulerState
from django_qbwi.core.cancellation import CancellationToken, CancelReason
from django_qbwi.core.items import WorkItem
from django_qbwi.core.names import printable
from django_qbwi.core.records import WorkItemStatus, utc
from django_qbwi.core.runs import LogLine
from django_qbwi.core.scheduler import WorkItemScheduler
from django_qbwi.inspection.cancelling import Canceller
from django_qbwi.inspection.pools import counts_of_pools
from django_qbwi.inspection.records import Item, ProcessRecord
from django_qbwi.machine.loggers import SafeLogger
from django_qbwi.machine.primitives import holding

logger = SafeLogger("django_qbwi.inspection")

MAX_ITEMS = 500
"""Items of each list of an answer."""

_CALL_OF_ITEM = re.compile(
    r'(?:executors[/\\](?:threads|async_run)|task_backend[/\\]entries)\.py", line \d+, in (?:run_item|_call|a?run)$'
)
"""The frame of ours that calls an item's function."""
_MAX_STACK, _MAX_STACK_LINE = 100_000, 1_000
_LISTED_TRACEBACK = 2_000
"""Characters of a traceback in a list; that of a single item is longer."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """The parts of a process that are looked at."""

    scheduler: WorkItemScheduler
    limits: Mapping[str, float | None]
    drain_seconds: float
    close_connections: Callable[[], None]
    """Closes all database connections of the calling thread, at no cost where there are none."""


class Subject:
    """One process, to look at and to steer; stands on this side of the channel."""

    def __init__(
        self,
        server: Callable[[], str],
        find: Callable[[], Inspected | None],
        result: Callable[[str, str], dict[str, Any] | None] = lambda kept_under, result_id: None,
    ) -> None:
        self._server = server
        self._find = find
        self._result = result
        self._started_at = datetime.datetime.now(tz=datetime.UTC)
        self._drain: _Drain | None = None
        self._canceller = Canceller()

    def __repr__(self) -> str:
        return f"<Subject server={self._server()}>"

    def overview(self, limit: int = MAX_ITEMS) -> dict[str, Any]:
        """Describe the process and its items, at most `limit` of each list."""
        inspected = self._find()
        state, remaining = self._state(inspected)
        live: list[Item] = []
        recent: list[Item] = []
        running = running_async = queued = finished = failed = 0
        truncated = False
        if inspected is not None:
            scheduler = inspected.scheduler
            running, queued, totals = scheduler.running_count, scheduler.queued_count, scheduler.totals
            running_async = sum(item.lane.kind == "async" for item in scheduler.running_items())
            finished, failed = sum(totals.values()), totals[WorkItemStatus.FAILED]
            found, ended = scheduler.live_items(limit + 1), scheduler.finished_items()
            truncated = len(found) > limit or len(ended) > limit
            # One that has its end, but not its record yet, is in neither list for that moment.
            live = [_describe(item) for item in found[:limit] if not item.status.is_terminal]
            recent = [_describe(item) for item in ended[:limit]]
        return ProcessRecord(
            pid=os.getpid(),
            host=socket.gethostname(),
            server=self._server(),
            started_at=self._started_at.isoformat(),
            state=state,
            remaining=remaining,
            running=running,
            running_async=min(running, running_async),
            queued=queued,
            finished=finished,
            failed=failed,
            left_behind=0 if self._drain is None else self._drain.left_behind,
            limits={} if inspected is None else dict(inspected.limits),
            pools={} if inspected is None else counts_of_pools(inspected.scheduler),
            items=live,
            recent=recent,
            truncated=truncated,
        ).to_dict()

    def find(self, item_id: str, with_stack: bool = True) -> dict[str, Any] | None:
        """Return an item with its stack (None if it does not run, or is not wanted); None if it is not known here."""
        inspected = self._find()
        item = None if inspected is None else next(iter(_known(inspected.scheduler, {item_id})), None)
        if inspected is None or item is None:
            return None
        runs = with_stack and item.status is WorkItemStatus.RUNNING
        # Read before the description, which may say that it has ended since: a stack without an owner helps nobody.
        stack = own_frames(inspected.scheduler.stack(item)) if runs else None
        return {
            "process": self._head(inspected),
            "item": item.info().to_dict(),
            "stack": stack,
            "log": [] if item.last_run is None else [_line(line) for line in list(item.last_run.lines or ())],
            "trace_id": None if item.last_run is None else item.last_run.trace_id,
        }

    def result(self, kept_under: str, result_id: str) -> dict[str, Any] | None:
        """Return the result of a task, or None if it is not known here; `kept_under` says whose tasks are meant."""
        return self._result(kept_under, result_id)

    def stacks(self, limit: int = MAX_ITEMS) -> list[dict[str, Any]]:
        """Return the items that run, each with its stack."""
        inspected = self._find()
        if inspected is None:
            return []
        scheduler = inspected.scheduler
        running = [item for item in scheduler.running_items()[:limit] if not item.status.is_terminal]
        head = self._head(inspected)
        return [
            {"process": head, "item": item.info().to_dict(), "stack": own_frames(scheduler.stack(item))}
            for item in running
        ]

    def statistics(self) -> dict[str, dict[str, Any]]:
        """Return the numbers of each name: how many items have ended, and how long they waited and ran, by bucket."""
        inspected = self._find()
        return {} if inspected is None else inspected.scheduler.statistics.by_name()

    def cancel(self, item_ids: Iterable[str], by: str) -> dict[str, bool]:
        """Cancel those items that are known here; see `WorkItemHandle.cancel` for what is returned of each.

        Args:
            by: Who does it, for the record and for the token's message.

        Raises:
            ProcessUnreachable: Too many callbacks of cancelled items block in this process.
        """
        inspected = self._find()
        if inspected is None:
            return {}
        found = _known(inspected.scheduler, set(item_ids))
        return self._canceller.cancel(inspected.scheduler, found, printable(by), self.leave_thread)

    def drain(self, by: str) -> dict[str, Any]:
        """Cancel with SHUTDOWN all that is queued and running now, and see to its end; returns at once.

        The scheduler stays open, and what is queued from now on is not concerned. Where QBWI["SHUTDOWN_TIMEOUT"] is
        over, async items are cancelled natively; whatever still runs then goes on, since its process does.
        """
        inspected = self._find()
        ending = inspected is not None and inspected.scheduler.state is not SchedulerState.OPEN
        if inspected is not None and not ending and not (self._drain is not None and self._drain.goes_on):
            self._drain = _Drain(inspected, printable(by))
            self._drain.start()
        if ending and inspected is not None:
            waiting_for = inspected.scheduler.running_count + inspected.scheduler.queued_count
        else:
            waiting_for = 0 if self._drain is None else self._drain.left
        state, remaining = self._state(inspected)
        return {
            "pid": os.getpid(),
            "state": state,
            "remaining": remaining,
            "waiting_for": waiting_for,
            "ending": ending,
        }

    def leave_thread(self) -> None:
        """Close what receivers of signals have opened in the calling thread, which ends; it has to be one of ours."""
        inspected = self._find()
        if inspected is not None:
            inspected.close_connections()

    @property
    def state(self) -> str:
        """open, draining or closed."""
        return self._state(self._find())[0]

    def _head(self, inspected: Inspected) -> dict[str, Any]:
        state, _ = self._state(inspected)
        return {"pid": os.getpid(), "host": socket.gethostname(), "server": self._server(), "state": state}

    def _state(self, inspected: Inspected | None) -> tuple[str, float | None]:
        if inspected is None:
            return SchedulerState.OPEN.value, None
        scheduler = inspected.scheduler
        state = scheduler.state
        deadline = scheduler.stop.deadline if state is SchedulerState.DRAINING else None
        drain = self._drain
        if state is SchedulerState.OPEN and drain is not None and drain.goes_on:
            state, deadline = SchedulerState.DRAINING, drain.deadline
        remaining = None if deadline is None else max(0.0, round(deadline - scheduler.clock(), 1))
        return state.value, remaining


class _Drain:
    """The end of the items of one moment, in a process that goes on."""

    def __init__(self, inspected: Inspected, by: str) -> None:
        self._inspected = inspected
        self._by = by
        self._scheduler = inspected.scheduler
        self._items = dict.fromkeys(item for item in self._scheduler.live_items() if not item.status.is_terminal)
        self.deadline = self._scheduler.clock() + inspected.drain_seconds

    def __repr__(self) -> str:
        return f"<_Drain left={self.left}>"

    @property
    def left(self) -> int:
        """Items that have not ended."""
        return len(self._items)

    @property
    def left_behind(self) -> int:
        """Items that have not ended though the limit has passed."""
        return 0 if self.goes_on else self.left

    @property
    def goes_on(self) -> bool:
        """True until the last one has ended, or the limit has passed."""
        return bool(self._items) and self._scheduler.clock() < self.deadline

    def start(self) -> None:
        """Cancel all of them, soon."""
        items, scheduler = list(self._items), self._scheduler
        running = sum(item.status is WorkItemStatus.RUNNING for item in items)
        logger.info("Drain by %s: %d running, %d queued item(s)", self._by, running, len(items) - running)
        for item in items:
            if not item.add_waiter(lambda item=item: self._ended(item)):  # type: ignore[misc]
                self._ended(item)
        if not scheduler.started:
            self._cancel_all()  # items run at the call, and there is no keeper
        elif self._items:
            # Where the callbacks of tokens also run at the end of the process.
            scheduler.keeper.post(self._cancel_all)
            scheduler.keeper.call_at(self.deadline, self._limit_passed)

    def _cancel_all(self) -> None:
        for item in list(self._items):
            token = item.token
            holding(self._scheduler.lock, self._bound, token)
            token._cancel(CancelReason.SHUTDOWN, f"drained by {self._by}")

    def _bound(self, token: CancellationToken) -> None:
        token._deadline = self.deadline if token._deadline is None else min(token._deadline, self.deadline)

    def _ended(self, item: WorkItem) -> None:
        # In the thread of the item: it only takes note.
        self._items.pop(item, None)
        if not self._items:
            self._scheduler.keeper.post(self._finish)

    def _finish(self) -> None:
        logger.info("Drain by %s is over: the scheduler is open", self._by)

    def _limit_passed(self) -> None:
        left = list(self._items)
        if left:
            logger.warning(
                "Drain by %s is over, and the scheduler is open: %d item(s) did not end in %g s and go on",
                self._by,
                len(left),
                self._inspected.drain_seconds,
            )
            self._scheduler.interrupt(left)


def own_frames(stack: str) -> str:
    """Return `stack` without the frames that are above those of the item: of threads, of asyncio and of ours."""
    kept: list[str] = []
    skips_source = False
    for line in map(_bounded, stack[-_MAX_STACK:].splitlines(keepends=True)):
        if _CALL_OF_ITEM.search(line):
            while kept and kept[-1].startswith(" "):
                kept.pop()
            skips_source = True
        elif not (skips_source and line.startswith("    ")):
            skips_source = False
            kept.append(line)
    return "".join(kept) or stack[-_MAX_STACK:]


def _bounded(line: str) -> str:
    return line if len(line) <= _MAX_STACK_LINE else f"{line[: _MAX_STACK_LINE - 2]}…\n"


def _known(scheduler: WorkItemScheduler, item_ids: set[str]) -> list[WorkItem]:
    # The ids of items that nobody has looked at do not exist yet, and are not made here.
    return [item for item in (*scheduler.live_items(), *scheduler.finished_items()) if item.known_id in item_ids]


def _line(line: LogLine) -> dict[str, Any]:
    return {"at": utc(line.at).isoformat(), "level": line.level, "logger": line.logger, "text": line.text}


def _describe(item: WorkItem) -> Item:
    described = item.info().to_dict()
    if described["error"] is not None:
        described["error"]["traceback"] = described["error"]["traceback"][-_LISTED_TRACEBACK:]
    return described
