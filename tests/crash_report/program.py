"""A process with items that ends without a word, as its arguments say; and the one after it."""

import json
import os
import signal
import sys
import threading

import django
from django.conf import settings

DIRECTORY, WHAT = sys.argv[1:3]

settings.configure(
    SECRET_KEY="for the tests only",
    INSTALLED_APPS=["django_qbwi"],
    QBWI={"MAX_WORKERS": 2, "CRASH_REPORT": DIRECTORY},
    LOGGING_CONFIG=None,
    USE_TZ=True,
)
django.setup()

import logging  # noqa: E402

from django_qbwi import Retry, background_work_item, hosting, queue_background_work_item  # noqa: E402
from django_qbwi.signals import work_item_retried, work_items_lost  # noqa: E402

logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO)
entered = threading.Semaphore(0)


def quick(token: object) -> None:
    """Do nothing."""


def guilty(token: object) -> None:
    """Be there when the process is killed."""
    entered.release()
    threading.Event().wait(60)


def patient(token: object) -> None:
    """Wait for a worker."""


async def on_the_loop(token: object) -> None:
    """Be there as well, on the loop."""
    entered.release()
    import asyncio

    await asyncio.sleep(60)


@background_work_item(retry=Retry(max_attempts=2, backoff=lambda attempt, error: 3600.0))
def again(token: object) -> None:
    """Fail, and wait for the next attempt."""
    raise LookupError


def crash() -> None:
    """End five items, and be killed with three that run, one that waits, and one that is to be tried again."""
    for _ in range(5):
        queue_background_work_item(quick).wait(30)
    failed = threading.Event()
    work_item_retried.connect(lambda **named: failed.set(), weak=False)
    again.queue()
    assert failed.wait(30)
    for work_item in (guilty, guilty, on_the_loop):
        queue_background_work_item(work_item)
        entered.acquire(timeout=30)
    queue_background_work_item(patient)
    print("ready", flush=True)
    # The end of the test's side of a pipe, or nothing at all.
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)


def tell() -> None:
    """Be the next process."""
    heard: list[dict[str, object]] = []

    def receive(items: tuple[object, ...], **named: object) -> None:
        heard.extend({"name": item.name, "pid": item.pid, "ran": item.started_at is not None} for item in items)

    work_items_lost.connect(receive)
    queue_background_work_item(quick).wait(30)
    # It is read by the thread that opens the channel, off the items' way.
    done = threading.Event()
    hosting._find_process().current.reporter.post(done.set)
    assert done.wait(30)
    print(json.dumps(heard))


def end() -> None:
    """End in good order."""
    queue_background_work_item(quick).wait(30)


def fork() -> None:
    """Have a child with an item of its own, which ends in good order; then be killed with one."""
    queue_background_work_item(guilty)
    entered.acquire(timeout=30)
    child = os.fork()
    if child == 0:
        queue_background_work_item(quick).wait(30)
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    os.kill(os.getpid(), signal.SIGKILL)


{"crash": crash, "tell": tell, "end": end, "fork": fork}[WHAT]()
