"""Every view of the page answers, its task does what the page says, and so do the sentences that no block shows."""

# ruff: noqa: PT009, PT027 (Django's own TestCase, run by manage.py test)

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import Any
from unittest import mock

from django.conf import settings
from django.db import transaction
from django.http import HttpResponse
from django.tasks import TaskResultStatus, exceptions, task_backends
from django.tasks.exceptions import TaskResultDoesNotExist
from django.test import RequestFactory, TransactionTestCase, override_settings
from django.utils import timezone
from shop import receivers, tasks, views
from shop.models import Order

from django_qbwi import (
    InvalidWorkItem,
    OperationCancelled,
    QueueFull,
    SchedulerClosed,
    background_work_item,
    live_items,
    recent_items,
)
from django_qbwi.testing import captured_work_items, drain

GET = RequestFactory().get("/")
PATIENCE = 30
started, proceed = threading.Semaphore(0), threading.Event()


@background_work_item
def occupy(token: Any) -> None:
    """Keep a worker."""
    started.release()
    assert proceed.wait(PATIENCE)


def occupy_a_worker() -> Any:
    """Return the handle of an item that has begun, and waits."""
    handle = occupy.queue()
    assert started.acquire(timeout=PATIENCE)
    return handle


class TheViewsTests(TransactionTestCase):
    """With real threads."""

    def setUp(self) -> None:
        self.order = Order.objects.create(email="ann@example.com")
        receivers.failures.clear()
        proceed.clear()

    def tearDown(self) -> None:
        proceed.set()
        assert drain(PATIENCE)
        while started.acquire(blocking=False):
            pass

    def result(self, task: Any, response: Any) -> Any:
        """Return what has become of the task that a view enqueued."""
        self.assertTrue(drain(PATIENCE))
        return task.get_result(response.content.decode())

    def assert_order(self, **fields: object) -> None:
        """Look at the row."""
        self.assertTrue(Order.objects.filter(pk=self.order.pk, **fields).exists())

    def test_a_sync_task(self) -> None:
        result = self.result(tasks.ship, views.ship_now(GET, self.order.pk))
        self.assertEqual((result.status, result.return_value, result.attempts), (TaskResultStatus.SUCCESSFUL, 1, 1))
        self.assert_order(shipped=True, express=True)
        info = recent_items()[0]
        self.assertEqual((info.id, info.name), (result.id, "shop.tasks.ship"))

    def test_an_async_task(self) -> None:
        result = self.result(tasks.archive, asyncio.run(views.archive_order(GET, self.order.pk)))
        self.assertEqual(result.return_value, 1)
        self.assert_order(archived=True)

    def test_looking_at_a_result(self) -> None:
        occupying = [occupy_a_worker() for _ in range(4)]
        result = tasks.ship.enqueue(self.order.pk)
        self.assertEqual(views.look(GET, result.id).content, b"Not shipped: READY")
        proceed.set()
        self.assertTrue(all(handle.wait(PATIENCE) for handle in occupying))
        self.assertTrue(drain(PATIENCE))
        self.assertEqual(views.look(GET, result.id).content, b"Shipped: 1")
        self.assertEqual(result.status, TaskResultStatus.READY)
        result.refresh()
        self.assertEqual(result.status, TaskResultStatus.SUCCESSFUL)
        self.assertEqual(views.look(GET, "unknown").status_code, 404)

    def test_order(self) -> None:
        with override_settings(QBWI={"MAX_WORKERS": 1}):
            occupy_a_worker()
            tasks.remind.enqueue(self.order.pk)
            tasks.ship.enqueue(self.order.pk)
            views.order_first(GET, self.order.pk)
            proceed.set()
            self.assertTrue(drain(PATIENCE))
            names = [info.name.rpartition(".")[2] for info in recent_items()[:3]]
        # The last one comes first.
        self.assertEqual(names, ["remind", "ship", "ship"])

    def test_time(self) -> None:
        with override_settings(QBWI={"SHUTDOWN_TIMEOUT": 0.2}):
            response = views.remind_later(GET, self.order.pk)
            result = tasks.remind.get_result(response.content.decode())
            self.assertEqual(result.status, TaskResultStatus.READY)
            [info] = live_items()
            self.assertEqual(info.id, result.id)
            self.assertFalse(drain(0.1))

    def test_too_many_wait(self) -> None:
        later = tasks.remind.using(run_after=timezone.now() + timedelta(hours=1))
        with override_settings(QBWI={"MAX_DELAYED": 1, "SHUTDOWN_TIMEOUT": 0.2}):
            result = later.enqueue(self.order.pk)
            with self.assertRaises(QueueFull):
                later.enqueue(self.order.pk)
        # The end of the block is that of a process.
        result.refresh()
        self.assertEqual((result.status, result.attempts), (TaskResultStatus.FAILED, 0))
        self.assertIs(result.errors[0].exception_class, SchedulerClosed)
        self.assertEqual(receivers.failures, ["remind: django_qbwi.core.exceptions.SchedulerClosed"])

    def test_trying_again(self) -> None:
        retry = {**settings.TASKS["patient"]["OPTIONS"]["RETRY"], "backoff": {"first": 0}}
        patient = {**settings.TASKS["patient"], "OPTIONS": {"RETRY": retry}}
        with override_settings(TASKS={**settings.TASKS, "patient": patient}):
            for task, error, attempts, status in (
                (tasks.thank, ConnectionRefusedError, 4, "FAILED"),
                (tasks.thank, KeyError, 1, "FAILED"),
                (tasks.thank_once, ConnectionRefusedError, 1, "FAILED"),
                (tasks.congratulate, KeyError, 3, "FAILED"),
                (tasks.congratulate, [OSError, 1], 2, "SUCCESSFUL"),
            ):
                with mock.patch("shop.tasks.send_mail", side_effect=error):
                    result = task.enqueue(self.order.pk)
                    self.assertTrue(drain(PATIENCE))
                result.refresh()
                self.assertEqual((str(result.status), result.attempts), (status, attempts))

    def test_turns(self) -> None:
        Order.objects.filter(pk=self.order.pk).update(paid=True, shipped=True)
        occupying = [occupy_a_worker() for _ in range(4)]
        results = [tasks.refresh.enqueue(self.order.pk) for _ in range(2)]
        self.assertEqual(results[0].id, results[1].id)
        [info] = [info for info in live_items() if info.id == results[0].id]
        self.assertEqual((info.expires_at - info.queued_at).total_seconds(), 600)
        with self.assertRaisesRegex(InvalidWorkItem, "expires"):
            tasks.refresh.using(run_after=timezone.now() + timedelta(hours=1)).enqueue(0)
        proceed.set()
        self.assertTrue(all(handle.wait(PATIENCE) for handle in occupying))
        self.result(tasks.refresh, HttpResponse(results[0].id))
        self.assert_order(archived=True)

    def test_nonsense_at_definition(self) -> None:
        # The backport has another name for it.
        invalid = getattr(exceptions, "InvalidTask", None) or exceptions.InvalidTaskError
        with self.assertRaises(invalid):
            tasks.task(max_attempts=0)(tasks.ship.func)

    def test_after_the_commit(self) -> None:
        result = self.result(tasks.confirm, views.pay(GET, self.order.pk))
        self.assertIs(result.return_value, True)
        self.assertEqual(receivers.failures, [])

    def test_before_the_commit_and_after_a_rollback(self) -> None:
        with transaction.atomic():
            result = tasks.confirm.enqueue(self.order.pk)
            result.refresh()
            self.assertEqual((result.status, result.enqueued_at), (TaskResultStatus.READY, None))
            transaction.set_rollback(True)
        with self.assertRaises(TaskResultDoesNotExist):
            result.refresh()

    def test_a_refusal_after_the_commit(self) -> None:
        with override_settings(QBWI={"MAX_WORKERS": 1, "MAX_QUEUED": 1}):
            occupy_a_worker()
            occupy.queue()
            with self.assertLogs("django_qbwi.scheduler", "ERROR"), transaction.atomic():
                result = tasks.confirm.enqueue(self.order.pk)
            proceed.set()
        result.refresh()
        self.assertIs(result.errors[0].exception_class, QueueFull)
        self.assertEqual(receivers.failures, ["confirm: django_qbwi.core.exceptions.QueueFull"])

    def test_the_token(self) -> None:
        result = tasks.archive_all.enqueue()
        self.assertTrue(drain(PATIENCE))
        result.refresh()
        self.assertEqual(result.return_value, {"attempt": 1, "archived": 1})

    def test_a_cancelled_task(self) -> None:
        with captured_work_items() as captured:
            result = tasks.archive_all.enqueue()
            captured[0].handle.cancel()
        result.refresh()
        self.assertEqual(result.status, TaskResultStatus.FAILED)
        self.assertIs(result.errors[0].exception_class, OperationCancelled)

    def test_the_backport(self) -> None:
        result = tasks.ship_by_the_backport.enqueue(self.order.pk)
        self.assertTrue(drain(PATIENCE))
        result.refresh()
        self.assertEqual((result.return_value, type(result).__module__), (1, "django_tasks.base"))

    def test_either_decorator_with_either_backend(self) -> None:
        by_default = tasks.django_tasks.task(tasks.echo.func)
        self.assertIs(type(by_default), type(tasks.echo))
        self.assertIs(type(by_default.using(backend="default")), type(tasks.echo))

    def test_the_records(self) -> None:
        self.assertTrue(receivers.note_failures)
        with self.assertLogs("django.tasks", "ERROR"), self.assertLogs("django_qbwi.scheduler", "ERROR"):
            result = tasks.confirm.enqueue(0)
            self.assertTrue(drain(PATIENCE))
        result.refresh()
        self.assertEqual(result.errors[0].exception_class_path, "shop.models.Order.DoesNotExist")
        with self.assertRaises(ImportError):
            _ = result.errors[0].exception_class
        self.assertEqual(receivers.failures, ["confirm: shop.models.Order.DoesNotExist"])

    def test_what_is_no_json(self) -> None:
        with self.assertRaises(InvalidWorkItem):
            tasks.echo.enqueue({1: "one", "1": "another"})
        with self.assertRaises(TypeError):
            tasks.echo.enqueue(self.order)

    def test_the_bound(self) -> None:
        self.assertEqual(task_backends["many"].options, {"RESULTS": 20_000})
        with override_settings(TASKS={**settings.TASKS, "many": {**settings.TASKS["many"], "OPTIONS": {"RESULTS": 1}}}):
            many = tasks.echo.using(backend="many")
            results = []
            for number in range(2):
                results.append(many.enqueue(number))
                self.assertTrue(drain(PATIENCE))
            results[1].refresh()
            with self.assertRaises(TaskResultDoesNotExist):
                results[0].refresh()
