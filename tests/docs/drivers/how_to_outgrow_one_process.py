"""What moves is stored by the real engine under its old id, and its worker finishes it, as the page says."""

# ruff: noqa: PT009, PT027 (Django's own TestCase, run by manage.py test)

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

from django.core.management import call_command
from django.db import transaction
from django.tasks import TaskResultStatus, task_backends
from django.test import RequestFactory, TransactionTestCase, override_settings
from django_tasks_db.models import DBTaskResult
from mysite import settings_engine, settings_swapped
from shop import items, tasks, views
from shop.models import Order

from django_qbwi import (
    CancellationToken,
    CancellationTokenSource,
    CancelReason,
    InvalidWorkItem,
    WorkItemStatus,
    background_work_item,
    current_work_item,
    recent_items,
)
from django_qbwi.testing import drain

GET = RequestFactory().get("/")
PATIENCE = 30
SHORT = {"MAX_WORKERS": 1, "MAX_QUEUED": 1, "SHUTDOWN_TIMEOUT": 5.0}
started, proceed = threading.Semaphore(0), threading.Event()


@background_work_item
def occupy(token: Any) -> None:
    """Keep a worker."""
    started.release()
    assert proceed.wait(PATIENCE)


def work() -> None:
    """Have the worker of the engine run what there is, in this process."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)}
    try:
        quickly = ["--no-startup-delay", "--interval", "0", "--verbosity", "0"]
        call_command("db_worker", "--backend", "durable", "--no-reload", "--batch", *quickly)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def full_queue(**more: object) -> Iterator[None]:
    """A process that takes no more; the end of the block is that of a process."""
    with override_settings(QBWI={**SHORT, **more}):
        occupy.queue()
        assert started.acquire(timeout=PATIENCE)
        waits = occupy.queue()
        try:
            yield
        finally:
            proceed.set()
            assert waits.wait(PATIENCE)


@contextlib.contextmanager
def stopped_behind_the_first_order() -> Iterator[None]:
    """A process that ends while an item has done one order of two."""
    original = Order.save

    def save(order: Order, *args: object, **kwargs: object) -> None:
        original(order, *args, **kwargs)
        item = current_work_item()
        if item is not None and not started.acquire(blocking=False):
            started.release()
            item.token.wait(PATIENCE)

    Order.save = save
    try:
        with override_settings(QBWI=SHORT):
            yield
            assert started.acquire(timeout=PATIENCE)
            started.release()
    finally:
        Order.save = original


class TheEngineTests(TransactionTestCase):
    """With real threads, and real rows."""

    def setUp(self) -> None:
        self.orders = [Order.objects.create(email=f"{name}@example.com").pk for name in ("ann", "ben")]
        proceed.clear()

    def tearDown(self) -> None:
        proceed.set()
        assert drain(PATIENCE)
        while started.acquire(blocking=False):
            pass

    def rows(self) -> list[tuple[str, str]]:
        """Return id and status of each row of the engine."""
        return [(row.id.hex, row.status) for row in DBTaskResult.objects.all()]

    def look(self, result_id: str) -> str:
        """Return what the page's view says of a result."""
        return views.look(GET, result_id).content.decode()

    def test_a_task_of_a_full_queue(self) -> None:
        """It has the same id in the engine, and any alias finds its result."""
        with full_queue():
            result_id = views.ship_order(GET, self.orders[0]).content.decode()
            self.assertEqual(self.rows(), [(result_id, "READY")])
            self.assertEqual(self.look(result_id), "READY")
            self.assertEqual(recent_items()[0].status, WorkItemStatus.HANDED_OFF)
        work()
        self.assertTrue(Order.objects.get(pk=self.orders[0]).shipped)
        for alias in ("default", "durable"):
            result = task_backends[alias].get_result(result_id)
            self.assertEqual((result.status, result.return_value), (TaskResultStatus.SUCCESSFUL, 1))
        self.assertEqual(self.look(result_id), "SUCCESSFUL")
        self.assertEqual(self.look("0" * 32), "not known")

    def test_a_function_of_a_full_queue(self) -> None:
        """It is a work item again in the worker, under its id."""
        with full_queue():
            result_id = views.archive_order(GET, self.orders[0]).content.decode()
            self.assertEqual(self.rows(), [(result_id, "READY")])
        work()
        self.assertTrue(Order.objects.get(pk=self.orders[0]).archived)
        self.assertEqual((recent_items()[0].id, recent_items()[0].name), (result_id, "shop.items.archive"))
        self.assertEqual(self.look(result_id), "SUCCESSFUL")

    def test_a_rollback_takes_the_row_back(self) -> None:
        """What moves at once is a part of the transaction of its caller."""
        with full_queue(WARN_IN_TRANSACTION=False):
            with transaction.atomic():
                handle = items.archive.queue(self.orders[0])
                self.assertEqual(handle.status, WorkItemStatus.HANDED_OFF)
                self.assertEqual(len(self.rows()), 1)
                transaction.set_rollback(True)
            self.assertEqual(self.rows(), [])

    def test_what_waits_for_its_time(self) -> None:
        """It moves at the end of the process, and keeps its time."""
        with self.assertLogs("django_qbwi", "INFO") as logs, override_settings(QBWI=SHORT):
            handle = items.archive.using(delay=3600).queue(self.orders[0])
            self.assertEqual(handle.status, WorkItemStatus.QUEUED)
        self.assertEqual(handle.status, WorkItemStatus.HANDED_OFF)
        row = DBTaskResult.objects.get(id=handle.id)
        self.assertAlmostEqual((row.run_after - row.enqueued_at).total_seconds(), 3600, delta=60)
        told = [line for line in logs.output if "status=handed_off" in line]
        self.assertEqual(len(told), 1)
        self.assertIn(f": 'durable' as {handle.id}", told[0])

    def test_the_rest_of_an_item(self) -> None:
        """The worker begins behind the order that is done."""
        with stopped_behind_the_first_order():
            handle = items.ship_all.queue()
        self.assertEqual(handle.status, WorkItemStatus.HANDED_OFF)
        self.assertEqual(list(Order.objects.values_list("shipped", flat=True).order_by("pk")), [True, False])
        row = DBTaskResult.objects.get(id=handle.id)
        self.assertEqual(row.args_kwargs["args"][:3], ["shop.items:ship_all", [self.orders[0]], {}])
        work()
        self.assertFalse(Order.objects.filter(shipped=False).exists())
        self.assertEqual(self.look(handle.id), "SUCCESSFUL")

    def test_the_rest_of_a_task(self) -> None:
        """A task goes on with the arguments of its checkpoint; in the worker it has no item."""
        with stopped_behind_the_first_order():
            result = tasks.archive_all.enqueue()
        row = DBTaskResult.objects.get(id=result.id)
        self.assertEqual(row.args_kwargs, {"args": [self.orders[0]], "kwargs": {}})
        work()
        self.assertFalse(Order.objects.filter(archived=False).exists())
        result.refresh()
        self.assertEqual(result.status, TaskResultStatus.SUCCESSFUL)

    def test_a_token_of_a_test_moves_nothing(self) -> None:
        """Its checkpoint returns, whatever has cancelled it."""
        source = CancellationTokenSource()
        source.cancel(CancelReason.SHUTDOWN)
        items.ship_all(source.token)
        self.assertFalse(Order.objects.filter(shipped=False).exists())
        items.ship_all(CancellationToken.none(), after=self.orders[1])

    def test_a_method_is_refused(self) -> None:
        """Where it is decorated."""
        with self.assertRaises(InvalidWorkItem):

            class Shop:
                @background_work_item(hand_off="durable")
                def ship(self, token: CancellationToken) -> None:
                    """Do nothing."""

    def test_everything_goes_there(self) -> None:
        """With ENGINE nothing of a decorated function runs here, but what cannot leave."""
        with override_settings(QBWI=settings_engine.QBWI):
            handle = items.archive.queue(self.orders[0])
            self.assertEqual(handle.status, WorkItemStatus.HANDED_OFF)
            self.assertEqual(self.rows(), [(handle.id, "READY")])
            with self.assertLogs("django_qbwi.scheduler", "WARNING"):
                here = occupy_with.queue(threading.Event())
            self.assertTrue(here.wait(PATIENCE))
            self.assertEqual(here.status, WorkItemStatus.SUCCEEDED)
        work()
        self.assertTrue(Order.objects.get(pk=self.orders[0]).archived)

    def test_the_alias_of_a_task(self) -> None:
        """One task, one call, or all of them."""
        reminds = tasks.remind.enqueue(self.orders[0])
        ships = tasks.ship_by_the_engine(self.orders[0])
        with override_settings(TASKS=settings_swapped.TASKS):
            swapped = tasks.ship.enqueue(self.orders[1])
        self.assertEqual(sorted(self.rows()), sorted((row.id.hex, "READY") for row in DBTaskResult.objects.all()))
        work()
        for result in (reminds, ships):
            result.refresh()
            self.assertEqual(result.status, TaskResultStatus.SUCCESSFUL)
        # It is the alias `default` that has it.
        self.assertEqual(DBTaskResult.objects.get(id=swapped.id).backend_name, "default")


@background_work_item
def occupy_with(token: CancellationToken, event: threading.Event) -> None:
    """Take what is no JSON."""
    event.set()


class TheOtherEnginesTests(TransactionTestCase):
    """Their settings pass the checks, where the package is installed."""

    def assert_checks(self, name: str, *modules: str) -> None:
        """Check a module of settings in a process of its own."""
        if not all(importlib.util.find_spec(module) for module in modules):
            self.skipTest(f"not installed: {', '.join(modules)}")
        environ = {**os.environ, "DJANGO_SETTINGS_MODULE": f"mysite.{name}"}
        command = [sys.executable, "manage.py", "check"]
        result = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
        self.assertEqual((result.returncode, "qbwi" in result.stderr), (0, False), result.stderr)

    def test_huey(self) -> None:
        self.assert_checks("settings_huey", "huey", "redis")

    def test_celery(self) -> None:
        self.assert_checks("settings_celery", "celery", "django_tasks_fennel")

    def test_django_ox(self) -> None:
        self.assert_checks("settings_ox", "django_ox")
