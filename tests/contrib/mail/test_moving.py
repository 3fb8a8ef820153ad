"""Mail that moves to an engine, which sends what this process cannot."""

from __future__ import annotations

import json
import smtplib
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from django.core.mail import EmailMessage
from django.test import override_settings

from django_qbwi import (
    CancellationToken,
    InvalidWorkItem,
    WorkItemStatus,
    hosting,
    queue_background_work_item,
    recent_items,
)
from django_qbwi.contrib.mail.delivery import Batch, deliver_plain
from django_qbwi.testing import drain
from tests.contrib.mail import sending
from tests.handoff import functions
from tests.handoff.conftest import end, end_and_open
from tests.handoff.listed import ListedBackend, tasks
from tests.support.gates import PATIENCE, Gate, until

GONE = smtplib.SMTPServerDisconnected("gone")


@pytest.fixture
def rows() -> Iterator[list[SimpleNamespace]]:
    """The rows of an engine that is there for mail."""
    functions.start_afresh()
    ListedBackend.start_afresh()
    with override_settings(TASKS=tasks()):
        yield ListedBackend.rows
    ListedBackend.start_afresh()


def messages(*subjects: str) -> list[EmailMessage]:
    """Return mails that differ by their subjects."""
    return [EmailMessage(subject, "text", to=["a@example.com"]) for subject in subjects]


def run(row: SimpleNamespace) -> None:
    """Do what the worker of the engine does with a row."""
    path, args, kwargs, options = row.args
    assert path == "django_qbwi.contrib.mail.delivery:deliver_plain"
    assert options == {"name": "mail"}
    deliver_plain(CancellationToken.none(), *args, **kwargs)


def test_full_queue_moves(rows: list[SimpleNamespace]) -> None:
    """What is refused here is sent there: not in the request, and as it was given."""
    gate = Gate()
    with sending.site(MAX_WORKERS=1, MAX_QUEUED=1, EMAIL_HAND_OFF="durable"):
        queue_background_work_item(gate)
        gate.await_entered()
        queue_background_work_item(gate)
        one = messages("a")[0]
        one.attach("a.bin", b"\x00\xff", "application/octet-stream")
        try:
            assert sending.QuickBackend().send_messages([one]) == 1
        finally:
            gate.open()
        assert sending.events == []
        [row] = rows
        run(row)
    assert sending.accepted[0].attachments == [("a.bin", b"\x00\xff", "application/octet-stream")]


def test_usual_mail_stays(rows: list[SimpleNamespace]) -> None:
    """It is sent here, and tried again here."""
    sending.fails["a"] = [GONE]
    with sending.site(EMAIL_HAND_OFF="durable"):
        sending.QuickBackend().send_messages(messages("a", "b"))
        assert drain(PATIENCE)
        [info] = recent_items()
        assert (info.status, info.attempt) == (WorkItemStatus.SUCCEEDED, 2)
    assert (rows, [one.subject for one in sending.accepted]) == ([], ["a", "b"])


@pytest.mark.parametrize("error", [None, GONE], ids=["in_time", "with_a_failure"])
def test_shutdown_in_the_middle(rows: list[SimpleNamespace], error: Exception | None) -> None:
    """What was accepted is not sent again there; a failure at that moment moves, too."""
    with sending.site(EMAIL_HAND_OFF="durable"):
        sending.called["b"] = lambda: functions.gate(CancellationToken.none())
        sending.fails["b"] = [error, error]
        sending.QuickBackend().send_messages(messages("a", "b", "c"))
        functions.gate.await_entered()
        end_and_open()
    sent_here = [one.subject for one in sending.accepted]
    assert sent_here == (["a", "b"] if error is None else ["a"])
    sending.fails.clear()
    [row] = rows
    with sending.site():
        run(row)
    assert [one.subject for one in sending.accepted] == ["a", "b", "c"]


def test_attempt_that_waits_at_the_end(rows: list[SimpleNamespace]) -> None:
    """It moves with what is left."""
    sending.fails["b"] = [smtplib.SMTPDataError(451, b"greylisted")]
    with sending.site(EMAIL_HAND_OFF="durable"):
        sending.PatientBackend().send_messages(messages("a", "b", "c"))
        until(lambda: hosting.scheduler().delayed_count)
        end()
    [row] = rows
    with sending.site():
        run(row)
    assert [one.subject for one in sending.accepted] == ["a", "c", "b"]


@pytest.mark.usefixtures("rows")
def test_what_cannot_move_is_refused() -> None:
    """At the call, and not at the end of the process; without an engine it may be sent."""
    one = messages("a")[0]
    vars(one)["campaign"] = {1, 2}
    with sending.site(EMAIL_HAND_OFF="durable"), pytest.raises(InvalidWorkItem, match="whose campaign holds"):
        sending.QuickBackend().send_messages([one])
    with sending.site():
        assert sending.QuickBackend().send_messages([one]) == 1
        assert drain(PATIENCE)
    assert vars(sending.accepted[0])["campaign"] == {1, 2}


def test_password_of_a_call_stays(rows: list[SimpleNamespace]) -> None:
    """A mail with options of its own does not move: they have no business in the table of an engine."""
    gate = Gate()
    with sending.site(MAX_WORKERS=1, MAX_QUEUED=1, EMAIL_HAND_OFF="durable"):
        queue_background_work_item(gate)
        gate.await_entered()
        queue_background_work_item(gate)
        try:
            sending.QuickBackend(password="secret").send_messages(messages("a"))
        finally:
            gate.open()
    assert (rows, sending.events) == ([], ["a"])


def test_engine_for_everything(rows: list[SimpleNamespace]) -> None:
    """QBWI["ENGINE"] takes the mail, as it takes decorated functions."""
    with sending.site(ENGINE="durable"):
        sending.QuickBackend().send_messages(messages("a"))
        until(lambda: rows)
    with sending.site():
        run(rows[0])
    assert sending.events == ["open", "a", "close"]


@pytest.mark.skipif(not sending.BY_MAILERS, reason="Django has MAILERS since version 6.1")
def test_options_of_the_alias_are_found_there() -> None:
    """They are in the settings of the worker, and not in the row."""
    with sending.site(options={"password": "secret"}):
        batch = sending.QuickBackend(alias="default", password="secret")._batch(messages("a"))
        plain = json.loads(json.dumps(batch.to_plain()))
        assert "secret" not in repr(plain)
        deliver_plain(CancellationToken.none(), plain)
    assert sending.made_with == [{"password": "secret"}]
    assert Batch.from_plain(plain).letters[0].key == batch.letters[0].key
