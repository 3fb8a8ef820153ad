"""Processes that work off a queue of somebody else's, and end by `os._exit`, which no hook of Python's sees."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from django_qbwi.lifecycle.servers.host import ServerHost
from django_qbwi.lifecycle.servers.running import runs


class CeleryChildHost(ServerHost):
    """A child of Celery's prefork pool: a signal says when it has done its tasks, and waits for its receivers."""

    name = "celery"
    is_server = True
    is_final = True
    exits_by_exception = False
    has_exit_hook = True
    exit_hook_is_last = True

    def on_exit(self, hold: Callable[[], None]) -> None:
        """Hold at Celery's worker_process_shutdown."""

        def worker_process_shutdown(**kwargs: Any) -> None:
            hold()

        signals = sys.modules["celery.signals"]
        signals.worker_process_shutdown.connect(worker_process_shutdown, weak=False)


class BilliardChildHost(ServerHost):
    """A child of billiard's pool that is not Celery's: nothing tells of its end."""

    name = "billiard"
    is_final = True

    def refusal(self) -> str | None:
        """Nothing could wait for the items."""
        return (
            "billiard ends this process by os._exit when its work is done, and its items with it: call the function "
            "here, without queueing it"
        )


class RqHorseHost(ServerHost):
    """RQ's work horse: a process for one job, gone by `os._exit` as soon as that returns."""

    name = "RQ work horse"
    is_final = True

    def refusal(self) -> str | None:
        """Nothing could wait for the items."""
        return (
            "RQ ends this process by os._exit when its job returns, and its items with it: call the function in the "
            "job itself, enqueue it as a job of its own, or use RQ's SimpleWorker"
        )


class HelperHost(ServerHost):
    """A helper process of our own, which runs one item at a time for its parent, and ends when that says so."""

    name = "helper process"
    is_final = True
    takes_handlers = False
    opens_channel = False
    holds_at_exit = False

    def refusal(self) -> str | None:
        """Nothing could wait for the items."""
        return (
            'this is a helper process, which runs an item with executor="process" and ends when its parent says so: '
            "call the function in the item itself, or have the item write down what is to be queued"
        )


def by_stack() -> ServerHost | None:
    """Tell such a process by what its main thread is doing; None if it is none."""
    if runs("django_qbwi.executors.processes.service", "serve"):
        return HelperHost()
    if runs("rq.worker", "main_work_horse"):
        return RqHorseHost()
    if runs("billiard.pool", "workloop"):
        return CeleryChildHost() if "celery.concurrency.prefork" in sys.modules else BilliardChildHost()
    return None
