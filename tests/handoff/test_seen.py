"""What moved is seen: in the command, on the page, by signals and in the counts of a process."""

import io
import json
from types import SimpleNamespace

import pytest
from django.core.management import call_command
from django.test import Client

from django_qbwi import WorkItemStatus, hosting
from django_qbwi.signals import work_item_finished, work_item_queued, work_item_rejected
from tests.handoff import functions
from tests.handoff.conftest import at_full_queue


@at_full_queue
def test_command_lists_it(rows: list[SimpleNamespace]) -> None:
    """By its status, as any other that has ended."""
    handle = functions.resize.queue(3)
    output = io.StringIO()
    call_command("qbwi", "list", "--status", "handed_off", "--format", "json", stdout=output)
    found = json.loads(output.getvalue())
    ended = [item for process in found["processes"] for item in process["recent"]]
    assert [(item["id"], item["status"]) for item in ended] == [(handle.id, "handed_off")]


@pytest.mark.urls("tests.admin.urls")
@pytest.mark.django_db(transaction=True)
def test_page_lists_it(rows: list[SimpleNamespace], admin_client: Client) -> None:
    """With a badge of its own, and among the filters."""

    @at_full_queue
    def look() -> None:
        handle = functions.resize.queue(3)
        page = admin_client.get("/admin/django_qbwi/workitem/", {"status": "handed_off"}).content.decode()
        assert handle.id in page
        assert "qbwi-badge qbwi-handed_off" in page

    look()


@at_full_queue
def test_it_is_counted(rows: list[SimpleNamespace]) -> None:
    """Every end is in the totals of its process, which metrics are made of."""
    functions.resize.queue(3)
    assert hosting.scheduler().totals[WorkItemStatus.HANDED_OFF] == 1


@at_full_queue
def test_signals_tell_of_it(rows: list[SimpleNamespace]) -> None:
    """Queued, then finished; it was not rejected, though its queue was full."""
    told: list[tuple[str, str]] = []

    def receive(signal: object, info: object, **kwargs: object) -> None:
        name = {work_item_queued: "queued", work_item_finished: "finished", work_item_rejected: "rejected"}[signal]  # type: ignore[index]
        told.append((name, str(info.status)))  # type: ignore[attr-defined]

    for signal in (work_item_queued, work_item_finished, work_item_rejected):
        signal.connect(receive)
    try:
        functions.resize.queue(3)
    finally:
        for signal in (work_item_queued, work_item_finished, work_item_rejected):
            signal.disconnect(receive)
    assert told == [("queued", "queued"), ("finished", "handed_off")]
