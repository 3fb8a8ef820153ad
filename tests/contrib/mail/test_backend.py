"""The backend: what a call queues, when, and what it says; and what happens where it cannot queue."""

from __future__ import annotations

import asyncio
import logging
import smtplib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core import mail
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage, EmailMultiAlternatives, send_mail, send_mass_mail
from django.core.mail.backends import smtp
from django.db import transaction
from django.test import override_settings
from django.utils import timezone

from django_qbwi import (
    InvalidWorkItem,
    NotHosted,
    QueueFull,
    WorkItemStatus,
    hosting,
    queue_background_work_item,
    recent_items,
)
from django_qbwi.contrib.mail import BackgroundEmailBackend, delivery
from django_qbwi.contrib.mail.wrapped import make_connection
from django_qbwi.testing import captured_work_items, drain, immediate_work_items
from tests.contrib.mail import sending
from tests.support.gates import PATIENCE, Gate

NO = smtplib.SMTPRecipientsRefused({"a@example.com": (550, b"no such user")})
LATER = smtplib.SMTPDataError(451, b"greylisted")
needs_database = pytest.mark.django_db(transaction=True, databases=["default", "other"])


def send(subject: str) -> int:
    """Send a mail as any site does."""
    return send_mail(subject, "text", "shop@example.com", ["a@example.com"])


def silent() -> BackgroundEmailBackend:
    """Return the backend as `fail_silently=True` makes it, without Django's warning of it."""
    return sending.QuickBackend(fail_silently=True)


def message(subject: str = "a") -> EmailMessage:
    """Return a mail."""
    return EmailMessage(subject, "text", to=["a@example.com"])


@contextmanager
def full_queue(**qbwi: Any) -> Iterator[None]:
    """Hold the one worker, and have one item wait: nothing more can be queued in the block."""
    gate = Gate()
    with sending.site(MAX_WORKERS=1, MAX_QUEUED=1, **qbwi):
        queue_background_work_item(gate)
        gate.await_entered()
        queue_background_work_item(gate)
        try:
            yield
        finally:
            gate.open()


@pytest.mark.usefixtures("site")
def test_mail_leaves_the_request() -> None:
    """It is sent in a thread of items, and the call says how many were queued."""
    threads: list[str] = []
    sending.called["a"] = lambda: threads.append(threading.current_thread().name)
    assert send("a") == 1
    assert drain(PATIENCE)
    assert threads != [threading.current_thread().name]
    [info] = recent_items()
    assert (info.name, info.status) == ("mail", WorkItemStatus.SUCCEEDED)
    assert sending.accepted[0].to == ["a@example.com"]


@pytest.mark.usefixtures("site")
def test_batch_is_one_item() -> None:
    """All mails of one call go over one connection, in their order."""
    assert send_mass_mail([(name, "text", None, ["a@example.com"]) for name in "abc"]) == 3
    assert drain(PATIENCE)
    assert sending.events == ["open", "a", "b", "c", "close"]


@pytest.mark.usefixtures("site")
def test_mails_without_recipients() -> None:
    """They are not counted; a call without any other queues nothing."""
    backend = sending.QuickBackend()
    assert backend.send_messages([EmailMessage("nobody"), message()]) == 1
    assert backend.send_messages([EmailMessage("nobody")]) == 0
    assert backend.send_messages([]) == 0
    assert backend.send_messages(iter([message("b")])) == 1
    assert drain(PATIENCE)
    assert [one.subject for one in sending.accepted] == ["a", "b"]


@pytest.mark.usefixtures("site")
def test_everything_of_a_mail_arrives() -> None:
    """Attachments, alternatives, headers and every kind of recipient; nothing that is changed behind the call."""
    one = EmailMultiAlternatives(
        "a", "text", "b@example.com", ["c@example.com"], bcc=["d@example.com"], cc=["e@example.com"], reply_to=["f@x.y"]
    )
    one.extra_headers["X-One"] = "1"
    one.attach("a.txt", "attached", "text/plain")
    one.attach_alternative("<p>html</p>", "text/html")
    assert one.send() == 1
    one.subject, one.to = "changed", ["changed@example.com"]
    one.attachments.clear()
    assert drain(PATIENCE)
    [found] = sending.accepted
    assert isinstance(found, EmailMultiAlternatives)
    assert found.recipients() == ["c@example.com", "e@example.com", "d@example.com"]
    assert (found.subject, found.reply_to, found.extra_headers) == ("a", ["f@x.y"], {"X-One": "1"})
    assert (found.attachments[0].content, found.alternatives[0].content) == ("attached", "<p>html</p>")


@pytest.mark.usefixtures("site")
def test_header_with_a_line_break() -> None:
    """It is refused at the call, as Django's documentation has views catch it."""
    with pytest.raises(ValueError, match=r"[Nn]ewline|linefeed"):
        send("a\nBcc: b@example.com")
    with captured_work_items() as captured, pytest.raises(InvalidWorkItem, match="cannot be copied"):
        EmailMessage("a", "text", to=["a@example.com"], headers={"X-One": threading.Lock()}).send()  # type: ignore[dict-item]
    assert captured == []


@needs_database
@pytest.mark.usefixtures("site")
def test_inside_a_transaction() -> None:
    """It is queued on commit; a rollback, also that of a savepoint, sends nothing."""
    with captured_work_items() as captured:
        with transaction.atomic():
            assert send("a") == 1
            with transaction.atomic():
                send("in a savepoint")
                transaction.set_rollback(True)
            assert captured == []
        assert len(captured) == 1
        with transaction.atomic(using="other"):
            send("b")
            assert len(captured) == 1
        assert len(captured) == 2
        with transaction.atomic():
            send("rolled back")
            transaction.set_rollback(True)
        assert len(captured) == 2
        captured.run_all()
    assert [one.subject for one in sending.accepted] == ["a", "b"]


@needs_database
@pytest.mark.usefixtures("site")
def test_changed_before_the_commit() -> None:
    """What is sent is what was given, and not what it was at the commit."""
    one = message()
    with transaction.atomic():
        one.send()
        one.subject = "changed"
    assert drain(PATIENCE)
    assert sending.accepted[0].subject == "a"


@pytest.mark.django_db
@pytest.mark.usefixtures("site")
def test_inside_the_transaction_of_a_test() -> None:
    """That is none of the site: it is sent at once where items run at the call, also in a block of the site's own."""
    with immediate_work_items(on_commit=True):
        send("a")
        with transaction.atomic():
            send("b")
    assert [one.subject for one in sending.accepted] == ["a", "b"]


@pytest.mark.usefixtures("site")
def test_on_a_running_loop() -> None:
    """There it is queued at once, and never blocks."""

    async def view() -> int:
        return send("a")

    assert asyncio.run(view()) == 1
    assert drain(PATIENCE)
    assert sending.events == ["open", "a", "close"]


@pytest.mark.usefixtures("site")
def test_refused_for_now_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """With a warning, and without what was accepted."""
    sending.fails["b"] = [LATER, ConnectionResetError(), None]
    backend = sending.QuickBackend()
    assert backend.send_messages([message(name) for name in "abc"]) == 3
    assert drain(PATIENCE)
    assert [one.subject for one in sending.accepted] == ["a", "c", "b"]
    [info] = recent_items()
    assert (info.status, info.attempt) == (WorkItemStatus.SUCCEEDED, 3)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(("error", "attempts"), [(NO, 1), (LATER, 3), (ValueError("invalid address"), 1)])
@pytest.mark.parametrize("fail_silently", [False, True])
def test_failure_is_recorded(
    error: Exception, attempts: int, fail_silently: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Never again where it is for good, and not for ever where it is for now; nothing vanishes in silence."""
    sending.fails["a"] = [error] * 9
    assert sending.QuickBackend(fail_silently=fail_silently).send_messages([message()]) == 1
    assert drain(PATIENCE)
    [info] = recent_items()
    assert (info.status, info.attempt) == (WorkItemStatus.FAILED, attempts)
    assert [record.levelno for record in caplog.records if record.levelno > logging.WARNING] == [logging.ERROR]


def test_full_queue_sends_at_the_call() -> None:
    """As without this backend: a mail is not refused for others, and the caller hears what its server says."""
    with full_queue():
        assert send("a") == 1
        assert sending.events == ["a"]
        sending.fails["b"] = [NO, NO]
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            send("b")
        assert silent().send_messages([message("b")]) == 0


def test_full_queue_and_silence(caplog: pytest.LogCaptureFixture) -> None:
    """What fails then is a warning with its traceback."""
    with full_queue():
        sending.fails["a"] = [NO]
        assert silent().send_messages([message()]) == 0
        told = [record for record in caplog.records if record.name == "django_qbwi.mail"]
        assert [(record.levelno, bool(record.exc_info)) for record in told] == [(logging.WARNING, True)]


def test_full_queue_on_a_running_loop(caplog: pytest.LogCaptureFixture) -> None:
    """Sending would stop it: the refusal is raised, or recorded where that is to be silent."""

    async def view(backend: BackgroundEmailBackend) -> int:
        return backend.send_messages([message()])

    with full_queue():
        with pytest.raises(QueueFull):
            asyncio.run(view(sending.QuickBackend()))
        caplog.clear()
        assert asyncio.run(view(silent())) == 0
        assert caplog.records[-1].levelno == logging.ERROR
        assert sending.events == []
        # In a thread of its own it is sent.
        assert asyncio.run(sync_to_async(send)("b")) == 1


@needs_database
def test_full_queue_after_the_commit(caplog: pytest.LogCaptureFixture) -> None:
    """It is sent there; what fails is recorded, and reaches neither the caller nor other hooks."""
    ran: list[str] = []
    with full_queue():
        with transaction.atomic():
            send("a")
            sending.fails["b"] = [NO]
            send("b")
            transaction.on_commit(lambda: ran.append("hook"))
        assert (sending.events, ran) == (["a"], ["hook"])
    [record] = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert record.getMessage() == "After the commit, 1 mail(s) could not be sent"


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize("error", [RuntimeError("wrong"), KeyboardInterrupt()])
@needs_database
def test_what_else_may_come_after_the_commit(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error is recorded; what ends the process goes on."""

    def queue(*args: Any) -> None:
        raise error

    monkeypatch.setattr(hosting, "queue", queue)
    if isinstance(error, Exception):
        with transaction.atomic():
            send("a")
        assert "1 mail(s) could not be queued" in caplog.text
    else:
        with pytest.raises(KeyboardInterrupt), transaction.atomic():
            send("a")


@needs_database
@pytest.mark.usefixtures("site")
def test_process_without_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can run in the background, mails are sent as ever, those of a transaction on its commit."""

    def refuse(*args: Any) -> None:
        raise NotHosted("nothing runs here")

    monkeypatch.setattr(hosting, "queue", refuse)
    monkeypatch.setattr(hosting, "runs_before_commit", refuse)
    assert send("a") == 1
    with transaction.atomic():
        send("b")
        assert sending.events == ["a"]
    assert sending.events == ["a", "b"]


class MailingHandler(logging.Handler):
    """Mails each record, as AdminEmailHandler does: silently, and by an alias of MAILERS not so."""

    def __init__(self, level: int, fail_silently: bool) -> None:
        super().__init__(level)
        self.backend = sending.QuickBackend(fail_silently=fail_silently)

    def emit(self, record: logging.LogRecord) -> None:
        self.backend.send_messages([message("admin")])


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize("level", [logging.ERROR, logging.WARNING])
@pytest.mark.parametrize("fail_silently", [True, False])
def test_mail_about_a_mail(level: int, fail_silently: bool) -> None:
    """A handler that mails what fails is heard once; that its own mail has failed is not mailed again."""
    sending.fails.update(a=[NO], admin=[NO] * 99)
    handler = MailingHandler(level, fail_silently)
    logging.getLogger("django_qbwi").addHandler(handler)
    try:
        send("a")
        assert drain(PATIENCE)
    finally:
        logging.getLogger("django_qbwi").removeHandler(handler)
    assert len(recent_items()) == 2


@pytest.mark.parametrize("fail_silently", [True, False])
def test_mail_about_a_mail_at_the_call(fail_silently: bool) -> None:
    """Nor where both are sent at the call."""
    sending.fails.update(a=[NO], admin=[NO] * 99)
    with full_queue():
        handler = MailingHandler(logging.WARNING, fail_silently)
        logging.getLogger("django_qbwi").addHandler(handler)
        try:
            with pytest.raises(smtplib.SMTPRecipientsRefused):
                send("a")
        finally:
            logging.getLogger("django_qbwi").removeHandler(handler)
    assert delivery.depth.get() == 0
    # That of the refused item; what is told of it ends there.
    assert len(sending.fails["admin"]) == 98


def test_at_the_call_in_tests() -> None:
    """Under IMMEDIATE, and in the blocks for tests, mails are sent as items run there."""
    with sending.site(IMMEDIATE=True):
        assert send("a") == 1
        assert sending.events == ["open", "a", "close"]
    with sending.site(), immediate_work_items():
        send("b")
        assert sending.events[3:] == ["open", "b", "close"]
    with sending.site(), captured_work_items() as captured:
        send("c")
        assert [item.name for item in captured] == ["mail"]


def test_locmem_behind_it() -> None:
    """The outbox of Django's tests can stand behind it, too."""
    with sending.site(EMAIL_BACKEND="django.core.mail.backends.locmem.EmailBackend", IMMEDIATE=True):
        send("a")
    assert [one.subject for one in mail.outbox] == ["a"]


@pytest.mark.skipif(not sending.BY_MAILERS, reason="Django has MAILERS since version 6.1")
def test_options_of_mailers() -> None:
    """They are those of the backend that sends, which may be another one for each alias."""
    with sending.site(options={"host": "mail.example.com", "backend": sending.SCRIPTED}, EMAIL_BACKEND="wrong.Path"):
        send("a")
        assert drain(PATIENCE)
    assert sending.made_with == [{"host": "mail.example.com"}]


@pytest.mark.filterwarnings("ignore")
def test_options_of_a_call() -> None:
    """`get_connection(...)` and the arguments of `send_mail` reach the backend that sends."""
    with sending.site():
        send_mail("a", "text", None, ["a@example.com"], auth_user="ann", auth_password="secret", fail_silently=True)
        assert drain(PATIENCE)
    assert sending.made_with == [{"username": "ann", "password": "secret"}]


@pytest.mark.filterwarnings("ignore:The EMAIL_BACKEND setting is deprecated", "ignore:Django 2028 will not have")
def test_by_one_line() -> None:
    """The setting of old, also where Django has MAILERS."""
    with override_settings(QBWI={"EMAIL_BACKEND": sending.SCRIPTED}):
        if sending.BY_MAILERS:
            del settings.MAILERS
        settings.EMAIL_BACKEND = sending.OURS
        send("a")
        assert drain(PATIENCE)
    assert sending.events == ["open", "a", "close"]


def test_smtp_is_made_without_a_warning() -> None:
    """By default Django's own is wrapped, as Django itself makes it."""
    with override_settings():
        if sending.BY_MAILERS:
            assert make_connection("default", {"host": "mail.example.com"}).host == "mail.example.com"
            del settings.MAILERS
        connection = make_connection(None, {"username": "ann"})
        assert (type(connection), connection.username, connection.port) == (smtp.EmailBackend, "ann", 25)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
def test_date_of_the_call(zone: str) -> None:
    """It has the time zone that holds there, where the site wants that."""
    with sending.site(), override_settings(EMAIL_USE_LOCALTIME=zone != "UTC"), timezone.override(zone):
        batch = sending.QuickBackend()._batch([message()])
    assert batch.letters[0].date.endswith("+0000" if zone == "UTC" else "+0900")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("shop.mail.Backend", "cannot be imported"),
        (sending.OURS, "which queues mail: give the one that sends it"),
    ],
)
def test_what_cannot_be_wrapped(path: str, text: str) -> None:
    """The call says so, and so do the checks."""
    with sending.site(EMAIL_BACKEND=path):
        with pytest.raises(ImproperlyConfigured, match=text):
            send("a")
        [found] = [one for one in run_checks() if one.id == "qbwi.E014"]
        assert found.msg.startswith(f"""QBWI["EMAIL_BACKEND"] is {path!r}: """)


@pytest.mark.skipif(not sending.BY_MAILERS, reason="Django has MAILERS since version 6.1")
def test_what_cannot_be_wrapped_for_an_alias() -> None:
    """Its own option is looked at, where the mailer is ours."""
    with sending.site(options={"backend": sending.OURS}):
        [found] = [one for one in run_checks() if one.id == "qbwi.E014"]
        assert found.msg.startswith('MAILERS["default"]["OPTIONS"]["backend"] is ')
    with sending.site(backend=sending.SCRIPTED, options={"backend": sending.OURS}):
        assert [one for one in run_checks() if one.id == "qbwi.E014"] == []


def test_checks_find_nothing() -> None:
    """A site with a good backend, and one with settings that another check is about."""
    with sending.site():
        assert [one for one in run_checks() if one.id == "qbwi.E014"] == []
    with sending.site(EMAIL_BACKEND=5):
        assert [one.id for one in run_checks() if str(one.id).startswith("qbwi.E0")] == ["qbwi.E003"]
    with sending.site(EMAIL_HAND_OFF="nowhere"):
        assert "QBWI[\"EMAIL_HAND_OFF\"] is 'nowhere'" in " ".join(str(one) for one in run_checks())
