"""Copies of messages: nothing of them changes with the original, and what cannot be copied is refused."""

from __future__ import annotations

import io
import threading
from email.message import EmailMessage as PythonMessage
from email.mime.text import MIMEText
from typing import Any

import pytest
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.utils import translation
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy

from django_qbwi import InvalidWorkItem
from django_qbwi.contrib.mail.copies import copy_of
from tests.contrib.mail import sending


class Newsletter(EmailMultiAlternatives):
    """A class of a user's own, with a field more."""

    def __init__(self, *args: Any, campaign: dict[str, list[int]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.campaign = campaign


@pytest.mark.filterwarnings("ignore:MIMEBase attachments are deprecated")
def test_nothing_is_shared() -> None:
    """Whatever is changed behind the call stays out of the copy."""
    part = MIMEText("attached")
    mail = Newsletter("a", "text", to=["a@example.com"], headers={"X-One": "1"}, campaign={"numbers": [1]})
    mail.attach("a.bin", b"1", "application/octet-stream")
    mail.attach(part)
    mail.attach_alternative("<p>text</p>", "text/html")
    made = copy_of(mail)
    assert isinstance(made, Newsletter)

    mail.subject, mail.body = "changed", "changed"
    mail.to.append("b@example.com")
    mail.extra_headers["X-Two"] = "2"
    mail.attach("b.bin", b"2", "application/octet-stream")
    mail.alternatives.clear()
    mail.campaign["numbers"].append(2)
    part.replace_header("Content-Type", "text/html")

    assert (made.subject, made.body, made.to) == ("a", "text", ["a@example.com"])
    assert made.extra_headers == {"X-One": "1"}
    assert [one for one in made.attachments if isinstance(one, tuple)] == [("a.bin", b"1", "application/octet-stream")]
    assert made.attachments[1].get_content_type() == "text/plain"
    assert [one.mimetype for one in made.alternatives] == ["text/html"]
    assert made.campaign == {"numbers": [1]}


def test_types_are_kept() -> None:
    """Attachments and alternatives keep the names of their fields, and a class of its own keeps its methods."""
    mail = EmailMultiAlternatives("a", "text", to=["a@example.com"])
    mail.attach("a.txt", "text", "text/plain")
    mail.attach_alternative("<p>", "text/html")
    made = copy_of(mail)
    assert isinstance(made, EmailMultiAlternatives)
    assert (made.attachments[0].filename, made.alternatives[0].content) == ("a.txt", "<p>")


def test_lazy_texts_are_settled() -> None:
    """They have the language of the call, wherever they stand."""
    mail = EmailMessage(gettext_lazy("Monday"), gettext_lazy("Tuesday"), to=["a@example.com"])
    mail.extra_headers["X-Day"] = gettext_lazy("Sunday")
    with translation.override("de"):
        made = copy_of(mail)
    with translation.override("fr"):
        assert (made.subject, made.body, made.extra_headers) == ("Montag", "Dienstag", {"X-Day": "Sonntag"})
        assert type(made.subject) is str


def test_safe_text_is_text() -> None:
    """What a template renders is taken as it is."""
    assert copy_of(EmailMessage("a", SafeString("text"), to=["a@example.com"])).body == "text"


def test_buffers_become_bytes() -> None:
    """They could change behind the call."""
    mail = EmailMessage("a", "text", to=["a@example.com"])
    buffer = bytearray(b"1")
    mail.attach("a.bin", buffer, "application/octet-stream")
    mail.attach("b.bin", memoryview(buffer), "application/octet-stream")
    made = copy_of(mail)
    buffer[:] = b"2"
    assert [one.content for one in made.attachments] == [b"1", b"1"]


def test_mail_in_a_mail() -> None:
    """One that is attached is copied, too, with whatever it is made of."""
    inner = EmailMessage("inner", "text", to=["b@example.com"])
    old = PythonMessage()
    old.set_content("old")
    mail = EmailMessage("a", "text", to=["a@example.com"])
    mail.attach("inner.eml", inner, "message/rfc822")
    mail.attach("old.eml", old, "message/rfc822")
    made = copy_of(mail)
    inner.subject = "changed"
    old["Subject"] = "changed"
    assert "changed" not in made.message().as_string()
    assert "inner" in made.message().as_string()


def test_connection_stays_behind() -> None:
    """What it was made with is the backend that queues it."""
    mail = EmailMessage("a", "text", to=["a@example.com"])
    name = "_connection" if sending.BY_MAILERS else "connection"
    vars(mail)[name] = threading.Lock()
    assert vars(copy_of(mail))[name] is None


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("campaign", threading.Lock(), "cannot pickle '_thread.lock' object"),
        ("extra_headers", {"X-One": (part for part in "ab")}, "cannot pickle 'generator' object"),
        ("attachments", [("a.bin", io.BufferedReader(io.BytesIO(b"1")), "application/octet-stream")], "Reader"),
    ],
    ids=["lock", "generator", "file"],
)
def test_what_cannot_be_copied(field: str, value: Any, error: str) -> None:
    """It is refused by name, with the cure."""
    mail = EmailMessage("a", "text", to=["a@example.com"])
    setattr(mail, field, value)
    with pytest.raises(InvalidWorkItem, match=f"the mail 'a' .* its {field} cannot be copied .*{error}.* the bytes of"):
        copy_of(mail)


def test_value_that_contains_itself() -> None:
    """There is no end of it."""
    mail = EmailMessage("a", "text", to=["a@example.com"])
    endless: list[Any] = []
    endless.append(endless)
    mail.extra_headers["X-One"] = endless
    with pytest.raises(InvalidWorkItem, match="its extra_headers cannot be copied"):
        copy_of(mail)


def test_class_that_forbids_it() -> None:
    """What it raises is told."""

    class Unique(EmailMessage):
        def __copy__(self) -> Any:
            raise RuntimeError("there is one")

    with pytest.raises(InvalidWorkItem, match=r"it cannot be copied .*there is one"):
        copy_of(Unique("a", "text", to=["a@example.com"]))


def test_what_is_no_mail() -> None:
    """That of the standard library has no recipients for a backend of Django."""
    with pytest.raises(InvalidWorkItem, match=r"email\.message\.EmailMessage cannot be queued as a mail"):
        copy_of(PythonMessage())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fields",
    [
        {"subject": "a\nBcc: b@example.com"},
        {"from_email": "a@example.com\nBcc: b@example.com"},
        {"to": ["a@example.com\r\nBcc: b@example.com"]},
        {"headers": {"X-One": "1\n2"}},
        {"headers": {"Bcc": "b@example.com"}} if sending.BY_MAILERS else {"reply_to": ["a\nb@example.com"]},
    ],
)
def test_header_with_a_line_break(fields: dict[str, Any]) -> None:
    """Django's own error is raised at the call, where views catch it."""
    with pytest.raises(ValueError, match=r"[Nn]ewline|linefeed|Bcc"):
        copy_of(EmailMessage(**{"subject": "a", "body": "text", "to": ["a@example.com"], **fields}))


def test_class_that_means_something_else() -> None:
    """What only the headers of Django's own would mind is left to the backend that sends it."""

    class Template(EmailMessage):
        pass

    mail = Template("a", "text", to=["a@example.com"])
    mail.reply_to = None  # type: ignore[assignment]
    mail.to = 5  # type: ignore[assignment]
    assert copy_of(mail).to == 5
