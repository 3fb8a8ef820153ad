"""Messages as JSON and back: the same fields, and the same text on the wire."""

from __future__ import annotations

import datetime
import email
import json
from email.message import EmailMessage as PythonMessage
from email.message import MIMEPart
from email.mime.base import MIMEBase
from email.mime.image import MIMEImage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from typing import Any

import pytest
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.utils.safestring import SafeString
from hypothesis import given
from hypothesis import strategies as st

from django_qbwi import InvalidWorkItem
from django_qbwi.contrib.mail.copies import copy_of
from django_qbwi.contrib.mail.plain_messages import from_plain, to_plain
from tests.contrib.mail import sending


class Tagged(EmailMultiAlternatives):
    """A class of a user's own, with fields more: lists, numbers and an enclosed mail."""

    content_subtype = "markdown"


def moved(message: EmailMessage) -> EmailMessage:
    """Return a message as it is behind JSON."""
    return from_plain(json.loads(json.dumps(to_plain(message), allow_nan=False)))


def on_the_wire(message: EmailMessage) -> str:
    """Return the text of a message, with nothing in it that differs from one call to the next."""
    message = copy_of(message)
    fixed = {"Message-ID": "<a@example.com>", "Date": "Thu, 01 Jan 2026 00:00:00 +0000"}
    message.extra_headers = {**fixed, **message.extra_headers}
    made: Any = message.message()
    for number, part in enumerate(made.walk()):
        if part.is_multipart() and part.get_content_maintype() == "multipart":
            part.set_boundary(f"boundary-{number}")
    return str(made.as_string())


LINES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), max_size=40)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=200)
ADDRESSES = st.one_of(
    st.from_regex(r"[a-z]{1,8}@[a-z]{1,8}\.example", fullmatch=True),
    st.sampled_from(["Ann Ärger <ann@bücher.example>", '"Last, First" <last@example.com>', "webmaster"]),
)
MANY = st.lists(ADDRESSES, max_size=3)
HEADERS = st.dictionaries(
    st.from_regex(r"X-[A-Za-z]{1,10}", fullmatch=True), st.one_of(LINES.map(str.strip), st.integers()), max_size=3
)
MIMETYPES = st.sampled_from(["application/pdf", "image/png", "text/plain", "text/csv", "audio/ogg"])
NAMES = st.one_of(st.none(), st.from_regex(r"[a-zäöü ]{1,12}\.[a-z]{3}", fullmatch=True))
FILES = st.tuples(NAMES, st.one_of(st.binary(max_size=200), TEXTS), MIMETYPES)
ALTERNATIVES = st.lists(
    st.tuples(st.one_of(TEXTS, TEXTS.map(str.encode)), st.sampled_from(["text/html", "text/x", "application/x"])),
    max_size=2,
)
EXTRA = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXTS)
    | st.binary(max_size=20)
    | st.datetimes(timezones=st.sampled_from([None, datetime.UTC])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(TEXTS, st.integers()), inner, max_size=3),
    ),
    max_leaves=8,
)


@st.composite
def messages(draw: st.DrawFn) -> EmailMessage:
    """Return a message of one of the three classes, with anything in every field."""
    kind: Any = draw(st.sampled_from([EmailMessage, EmailMultiAlternatives, Tagged]))
    made: EmailMessage = kind(
        draw(LINES),
        draw(TEXTS),
        draw(ADDRESSES),
        draw(MANY),
        bcc=draw(MANY),
        cc=draw(MANY),
        reply_to=draw(MANY),
        headers=draw(HEADERS),
    )
    for name, content, mimetype in draw(st.lists(FILES, max_size=3)):
        made.attach(name or "unnamed", content, mimetype)
    if isinstance(made, EmailMultiAlternatives):
        for alternative, mimetype in draw(ALTERNATIVES):
            made.attach_alternative(alternative, mimetype)
    if isinstance(made, Tagged):
        vars(made)["tags"] = draw(EXTRA)
    made.encoding = draw(st.sampled_from([None, "utf-8"]))
    if draw(st.booleans()):
        made.content_subtype = "html"
    return made


@given(messages())
def test_every_field(message: EmailMessage) -> None:
    """They are the same behind JSON, with the same types, and in the same class."""
    found = moved(message)
    assert type(found) is type(message)
    assert vars(found) == vars(message)
    assert repr(sorted(vars(found).items())) == repr(sorted(vars(message).items()))


@given(messages())
def test_the_same_on_the_wire(message: EmailMessage) -> None:
    """A server gets the same text, or the same error is raised where it is made."""

    def outcome(one: EmailMessage) -> str:
        try:
            return on_the_wire(one)
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    assert outcome(moved(message)) == outcome(message)


def parts() -> dict[str, Any]:
    """Return all kinds of parts of Python that may be attached."""
    plain = MIMEPart()
    plain.set_content("Grüße", filename="a.txt", disposition="attachment")
    letter = PythonMessage()
    letter["Subject"] = "Grüße"
    letter.set_content("text")
    letter.add_attachment(b"\x00\xff", maintype="image", subtype="png", filename="a.png")
    image = MIMEImage(b"\x89PNG\x00", "png")
    image["Content-ID"] = "<logo>"
    nested = MIMEMultipart("related", boundary="=-=")
    nested.attach(MIMEText("Grüße", "plain", "utf-8"))
    nested.attach(image)
    return {"part": plain, "message": letter, "image": image, "nested": nested}


@pytest.mark.parametrize("name", ["image", "nested", "part", "message"])
@pytest.mark.filterwarnings("ignore:MIMEBase attachments are deprecated")
def test_parts_of_python(name: str) -> None:
    """One that was attached as it is arrives as it was, of a kind that Django takes for one."""
    part = parts()[name]
    if not sending.BY_MAILERS and not isinstance(part, MIMEBase):
        pytest.skip("Django takes these since version 6.0")
    message = EmailMessage("a", "text", to=["a@example.com"], attachments=[part])
    found = moved(message)
    [attachment] = found.attachments
    assert isinstance(attachment, MIMEBase) is isinstance(part, MIMEBase)
    assert attachment.as_bytes() == part.as_bytes()
    assert on_the_wire(found) == on_the_wire(message)


def test_mails_in_a_mail() -> None:
    """A mail of Django's, and two of Python's, attached as message/rfc822."""
    inner = EmailMultiAlternatives("inner", "text", to=["b@example.com"])
    inner.extra_headers.update({"Message-ID": "<inner@example.com>", "Date": "Thu, 01 Jan 2026 00:00:00 +0000"})
    old = email.message_from_string("Subject: old\n\ntext")
    new = PythonMessage()
    new.set_content("text")
    message = EmailMessage("a", "text", to=["a@example.com"])
    for content in (inner, old, new, "Subject: text\n\ntext", b"Subject: bytes\n\ntext"):
        message.attach("a.eml", content, "message/rfc822")
    found = moved(message)
    assert isinstance(found.attachments[0].content, EmailMultiAlternatives)
    assert on_the_wire(found) == on_the_wire(message)


def test_buffers_and_safe_texts() -> None:
    """They are the bytes and the text that they hold."""
    message = EmailMessage("a", SafeString("text"), to=["a@example.com"])
    message.attach("a.bin", memoryview(b"1"), "application/octet-stream")
    found = moved(message)
    assert type(found.body) is str
    assert found.attachments == [("a.bin", b"1", "application/octet-stream")]


@pytest.mark.parametrize("value", [object(), {1, 2}, 1j, {"deep": [datetime.date(2026, 1, 1)]}], ids=repr)
def test_what_json_does_not_have(value: Any) -> None:
    """It is refused by the name of its field, with the cure."""
    message = Tagged("a", "text", to=["a@example.com"])
    vars(message)["tags"] = value
    with pytest.raises(InvalidWorkItem, match=r"a mail whose tags holds .* cannot be handed off: give plain values"):
        to_plain(message)


def test_class_that_nobody_finds() -> None:
    """Other processes could not make it."""

    class Local(EmailMessage):
        pass

    with pytest.raises(InvalidWorkItem, match=r"Local cannot be handed off: .* Define it in a module"):
        to_plain(Local("a", "text", to=["a@example.com"]))


class Slotted(EmailMessage):
    """Keeps something where nobody looks."""

    __slots__ = ("hidden",)


def test_class_with_slots() -> None:
    """What stands in them would be lost."""
    message = Slotted("a", "text", to=["a@example.com"])
    message.hidden = 1
    with pytest.raises(InvalidWorkItem, match="it has __slots__"):
        to_plain(message)


@pytest.mark.parametrize("path", ["os:system", "django.core.mail:send_mail", "builtins:dict"])
def test_what_is_no_mail_is_not_made(path: str) -> None:
    """Whoever writes to the engine can have nothing else called."""
    with pytest.raises(InvalidWorkItem, match="is no class of mails"):
        from_plain({"class": path, "fields": {}})
