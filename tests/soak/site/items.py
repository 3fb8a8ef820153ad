"""Items that do next to nothing, each with another option; a request queues some of each."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from collections import Counter
from typing import Any

from django.db import transaction

from django_qbwi import CancellationToken, Retry, WorkItemHandle, background_work_item, exponential, track
from django_qbwi.core.exceptions import WorkItemRejected
from tests.processes.site.report import report

AT_ONCE = 2
"""How many of a key run at a time."""
_PAUSES = exponential(first=0.05, factor=2.0, longest=1.0, jitter=0.5)
_running: Counter[int] = Counter()
_counting = threading.Lock()


@background_work_item(name="plain")
def plain(token: CancellationToken) -> None:
    """Take a moment."""
    time.sleep(random.uniform(0, 0.01))


@background_work_item(name="async")
async def on_loop(token: CancellationToken) -> None:
    """Take a moment, on the loop."""
    await asyncio.sleep(random.uniform(0, 0.02))


@background_work_item(name="fails")
def fails(token: CancellationToken) -> None:
    """Fail."""
    raise ValueError("as it should")


@background_work_item(name="first", priority=50)
def first(token: CancellationToken) -> None:
    """Come before the others."""


@background_work_item(name="last", priority=-50)
async def last(token: CancellationToken) -> None:
    """Come behind the others."""


@background_work_item(name="expires", expires=0.05)
def expires(token: CancellationToken) -> None:
    """Start soon, or never."""
    time.sleep(0.005)


@background_work_item(name="stumbles", retry=Retry(max_attempts=3, on=(OSError,), backoff=_PAUSES))
def stumbles(token: CancellationToken, done: int = 0) -> None:
    """Fail now and then, and go on from where it was."""
    token.checkpoint(done=done + 1)
    if random.random() < 0.6:
        raise OSError("no disk")


@background_work_item(name="stumbles on the loop", retry=Retry(max_attempts=2, backoff=_PAUSES))
async def stumbles_on_loop(token: CancellationToken) -> None:
    """Fail now and then."""
    if random.random() < 0.6:
        raise OSError("no disk")


@background_work_item(name="unique", unique_key=lambda key: key)
def unique(token: CancellationToken, key: int) -> None:
    """Wait once for each key."""
    time.sleep(0.005)


@background_work_item(name="turns", concurrency=AT_ONCE, concurrency_key=lambda key: key)
def turns(token: CancellationToken, key: int) -> None:
    """Tell if too many of a key run at once."""
    with _counting:
        _running[key] += 1
        if _running[key] > AT_ONCE:
            report("too many of a key", id=key)
    time.sleep(random.uniform(0, 0.02))
    with _counting:
        _running[key] -= 1


@background_work_item(name="honours its timeout", timeout=0.05)
def honours(token: CancellationToken) -> None:
    """Stay until the token is cancelled."""
    token.wait()
    token.raise_if_cancellation_requested()


@background_work_item(name="overdue", timeout=0.05)
async def overdue(token: CancellationToken) -> None:
    """Stay beyond the timeout, now and then for so long that it is cancelled natively."""
    await asyncio.sleep(random.choice([0.1, 0.1, 0.1, 5.0]))


@background_work_item(name="reports")
def reports(token: CancellationToken) -> None:
    """Say how far it is."""
    for done in range(5):
        token.report(done, 5, "step")
        token.raise_if_cancellation_requested()


@background_work_item(name="in a pool", pool="mail", labels={"kind": "mail"})
def in_a_pool(token: CancellationToken) -> None:
    """Take a moment of a worker of its own."""
    time.sleep(random.uniform(0, 0.02))


@background_work_item(name="in a pool, on the loop", pool="mail", labels={"kind": "mail"})
async def in_a_pool_on_loop(token: CancellationToken) -> None:
    """Take a moment of a slot of its own."""
    await asyncio.sleep(random.uniform(0, 0.02))


@background_work_item(name="in a helper", executor="process")
def in_a_helper(token: CancellationToken, seconds: float) -> None:
    """Take a moment of another process, which looks at its token, or not."""
    if random.random() < 0.5:
        token.wait(seconds)
    else:
        time.sleep(seconds)


@background_work_item(name="kills its helper", executor="process")
def kills_its_helper(token: CancellationToken) -> None:
    """Be the end of its process."""
    os.kill(os.getpid(), signal.SIGKILL)


@background_work_item(name="moves", hand_off="durable")
def moves(token: CancellationToken, number: int) -> None:
    """Go to the engine, where there is no room or no time here."""
    time.sleep(random.uniform(0, 0.01))


@background_work_item(name="goes on elsewhere", hand_off="durable")
def goes_on(token: CancellationToken, done: int = 0) -> None:
    """Stop at a step when the process ends, and leave the rest to the engine."""
    for step in range(done, 10):
        token.checkpoint(done=step)
        time.sleep(0.02)


@background_work_item(name="stubborn")
def stubborn(token: CancellationToken) -> None:
    """Never look at the token; longer than a drain takes."""
    time.sleep(6.0)


@background_work_item(name="fans out")
def fans_out(token: CancellationToken) -> None:
    """Queue more than there may be room for, from a worker."""
    patient = plain.using(wait_for_room=0.5)
    for _ in range(20):
        try:
            told(patient.queue())
        except WorkItemRejected:
            return


@background_work_item(name="fans out on the loop")
async def fans_out_on_loop(token: CancellationToken) -> None:
    """The same on the loop."""
    patient = on_loop.using(wait_for_room=0.5)
    for _ in range(20):
        try:
            told(await patient.aqueue())
        except WorkItemRejected:
            return


def told(handle: WorkItemHandle) -> WorkItemHandle:
    """Have a handle tell of itself, and of its end."""
    report("handle", id=handle.id)
    handle.add_done_callback(lambda handle: report("called back", id=handle.id))
    return handle


def adopt() -> WorkItemHandle:
    """Start a thread, and track it."""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, args=(random.uniform(0, 0.2),), daemon=True)
    thread.start()
    handle = track(thread, name="tracked")
    handle.token.register(stop.set)
    # It was never queued, and no signal tells of that.
    report("accepted", "tracked", id=handle.id)
    return handle


def on_commit() -> WorkItemHandle:
    """Queue one behind a commit, and one that a rollback takes away."""
    with transaction.atomic():
        plain.using(name="on commit").queue_on_commit()
    try:
        with transaction.atomic():
            fails.using(name="never").queue_on_commit()
            raise LookupError
    except LookupError:
        return plain.queue()


def cancelled() -> WorkItemHandle:
    """Queue an item, and cancel it soon after."""
    handle = honours.using(timeout=30, delay=random.choice([None, 0.05])).queue()
    threading.Timer(random.uniform(0, 0.1), handle.cancel).start()
    return handle


KINDS: dict[str, Any] = {
    "plain": plain.queue,
    "on_loop": on_loop.queue,
    "fails": fails.queue,
    "first": first.queue,
    "last": last.queue,
    "expires": expires.queue,
    "delayed": lambda: plain.using(name="delayed", delay=random.choice([0.01, 0.3, 3.0, 30.0])).queue(),
    "late": lambda: plain.using(name="late", delay=0.05, expires=0.06).queue(),
    "stumbles": stumbles.queue,
    "stumbles_on_loop": stumbles_on_loop.queue,
    "unique": lambda: unique.queue(random.randrange(5)),
    "unique_later": lambda: unique.using(delay=0.2).queue(random.randrange(5)),
    "turns": lambda: turns.using(priority=random.choice([None, 1])).queue(random.randrange(3)),
    "honours": honours.queue,
    "overdue": overdue.queue,
    "reports": reports.queue,
    "in_a_pool": lambda: in_a_pool.using(labels={"number": random.randrange(5)}).queue(),
    "in_a_pool_on_loop": in_a_pool_on_loop.queue,
    "in_a_pool_later": lambda: in_a_pool.using(delay=0.3, priority=random.choice([None, 1])).queue(),
    "in_a_helper": lambda: in_a_helper.queue(random.choice([0.001, 0.01, 0.01, 3.0])),
    "killed": lambda: kills_its_helper.queue() if random.random() < 0.02 else in_a_helper.queue(0.0),
    "moves": lambda: moves.queue(random.randrange(5)),
    "moves_later": lambda: moves.using(delay=random.choice([0.1, 30.0])).queue(1),
    "goes_on": lambda: goes_on.queue(),
    "on_commit": lambda: on_commit(),
    "fans_out": fans_out.queue,
    "fans_out_on_loop": fans_out_on_loop.queue,
    "tracked": adopt,
    "cancelled": cancelled,
}
