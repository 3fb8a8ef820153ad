"""Two requests and their items under sentry-sdk with its default integrations, which patch threads for good.

A program of its own for that reason; it prints the tags that the items saw, as JSON.
"""

import json
import os
import sys
import threading
from typing import Any

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"

import django
import sentry_sdk
from asgiref.sync import sync_to_async
from sentry_sdk.integrations.django import DjangoIntegration
from sentry_sdk.integrations.threading import ThreadingIntegration
from sentry_sdk.transport import Transport

from tests.intake.pages import during


class Nowhere(Transport):
    """Sends nothing."""

    def capture_envelope(self, envelope: Any) -> None:
        """Drop it."""


def main() -> None:
    """Send two requests, A and B, each with a sync and an async item."""
    events: list[Any] = []
    start = threading.Thread.start
    sentry_sdk.init(
        dsn="https://key@sentry.invalid/1",
        integrations=[ThreadingIntegration(propagate_scope=True), DjangoIntegration()],
        transport=Nowhere,
        before_send=lambda event, hint: events.append(event),
    )
    django.setup()
    from django.test import Client
    from django.test.utils import override_settings, setup_test_environment

    from django_qbwi import queue_background_work_item

    setup_test_environment()
    seen: list[Any] = []

    def look(name: str) -> None:
        seen.append({**sentry_sdk.get_isolation_scope()._tags, **sentry_sdk.get_current_scope()._tags})
        sentry_sdk.set_tag("left_by", name)

    async def on_loop(token: Any, name: str) -> None:
        look(name)
        await sync_to_async(sentry_sdk.capture_message)(f"from an item of {name}")

    def in_thread(token: Any, name: str) -> None:
        look(name)
        sentry_sdk.capture_message(f"from an item of {name}")

    def request(name: str) -> None:
        def view(request: Any) -> None:
            sentry_sdk.set_tag("request", name)
            for item in (in_thread, on_loop):
                assert queue_background_work_item(item, name).wait(30)

        during(lambda: Client().get("/page/"), view)

    with override_settings(ROOT_URLCONF="tests.intake.pages"):
        request("A")
        request("B")
    json.dump(
        {
            "patched": threading.Thread.start is not start,
            "seen": seen,
            "events": [[event["message"], event.get("tags", {})] for event in events],
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
