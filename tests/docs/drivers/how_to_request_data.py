"""Every view of the page answers, and its item gets what the page says."""

# ruff: noqa: PT009 (Django's own TestCase, run by manage.py test)

from __future__ import annotations

from asgiref.sync import async_to_sync
from django.core import mail
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import RequestFactory, TransactionTestCase
from shop import items, views
from shop.carriers import TenantCarrier, tenant

from django_qbwi import CancellationToken, RequestSnapshot
from django_qbwi.testing import captured_work_items, drain


class ThePageTests(TransactionTestCase):
    """With real threads."""

    def test_visit(self) -> None:
        with self.assertLogs("shop.items") as logs:
            views.landing_page(RequestFactory().get("/?token=x"))
            self.assertTrue(drain())
        self.assertIn("GET /?token=******************** from 127.0.0.1 (spring)", logs.output[0])

    def test_plain_call(self) -> None:
        with self.assertLogs("shop.items"):
            items.record_visit(CancellationToken.none(), RequestSnapshot(path="/", user_id=3), "spring")

    def test_user(self) -> None:
        request = RequestFactory().get("/")

        class Nobody:
            pk = None
            is_authenticated = False

            def get_username(self) -> str:
                return ""

        async def auser() -> Nobody:
            request.user = Nobody()
            return request.user

        request.auser = auser
        with captured_work_items() as captured:
            async_to_sync(views.profile)(request)
        self.assertEqual(captured[0].args[0].is_authenticated, False)
        self.assertEqual(captured[0].name, items.greet.__module__ + ".greet")

    def test_more(self) -> None:
        data = {"title": "Sea", "photo": SimpleUploadedFile("sea.jpg", b"abc")}
        with self.assertLogs("shop.items") as logs:
            views.upload(RequestFactory().post("/", data, headers={"X-Tenant": "acme"}))
            self.assertTrue(drain())
        self.assertIn("acme: Sea (3 bytes)", logs.output[0])
        self.assertIn("with a cart: False", logs.output[1])

    def test_addresses(self) -> None:
        views.order(RequestFactory().get("/", secure=True))
        self.assertTrue(drain())
        self.assertEqual(mail.outbox[0].body, "https://testserver/orders/")

    def test_refused(self) -> None:
        response = views.Page.as_view()(RequestFactory().get("/"))
        self.assertIn("'self' of the bound method work", response.content.decode())

    def test_carrier(self) -> None:
        self.assertIsNone(TenantCarrier().capture())
        self.addCleanup(tenant.reset, tenant.set("acme"))
        seen: list[str | None] = []
        from django_qbwi import queue_background_work_item

        self.assertTrue(queue_background_work_item(lambda token: seen.append(tenant.get())).wait(30))
        self.assertEqual(seen, ["acme"])
