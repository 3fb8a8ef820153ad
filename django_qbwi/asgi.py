"""Django's ASGI application with a lifespan: one import changed in a project's asgi.py."""

from __future__ import annotations

import contextlib

from django.core import asgi

from django_qbwi import hosting
from django_qbwi.core.exceptions import NotHosted
from django_qbwi.lifecycle.drain import DrainCoordinator
from django_qbwi.lifecycle.lifespan import LifespanApplication


def get_asgi_application() -> LifespanApplication:
    """Return Django's ASGI application, which tells django_qbwi when the server begins and ends.

    In place of ``django.core.asgi.get_asgi_application``. A server that speaks the lifespan protocol then waits for the
    items while its event loop still runs, until the limit of the drain, or almost until its own for this.
    """
    return LifespanApplication(asgi.get_asgi_application(), _ThisProcess())


class _ThisProcess:
    def serving_begins(self) -> None:
        # A project without the app, or with wrong settings, is told so when it queues; it shall start.
        with contextlib.suppress(NotHosted):
            hosting.this_process().first_request()
            hosting.begin_schedules()

    def serving_ends(self) -> tuple[DrainCoordinator | None, float | None]:
        try:
            return hosting.this_process().serving_ends()
        except NotHosted:
            return None, None
