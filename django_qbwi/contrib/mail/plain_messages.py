"""Messages as plain JSON and back, for the engine that QBWI["EMAIL_HAND_OFF"] names.

Every attribute is kept but the connection. What JSON does not have is a dict of one key, its tag.
"""

from __future__ import annotations

import base64
import datetime
import email
from collections.abc import Callable
from email.message import EmailMessage as PythonMessage
from email.message import Message, MIMEPart
from email.mime.base import MIMEBase
from email.policy import compat32, default
from typing import Any

import django
from django.core.mail import EmailAlternative, EmailAttachment, EmailMessage

from django_qbwi.contrib.mail.copies import CONNECTIONS
from django_qbwi.core.calls import found_at
from django_qbwi.core.exceptions import InvalidWorkItem
from django_qbwi.core.names import name_of

_CONNECTION = "_connection" if django.VERSION >= (6, 1) else "connection"


class _RestoredPart(MIMEBase):
    """What was attached as one of Python's old MIME classes."""

    def __init__(self, *, policy: Any = compat32) -> None:
        # Not that of MIMEBase, which writes headers of its own: these are parsed.
        Message.__init__(self, policy=policy)


def to_plain(message: EmailMessage) -> dict[str, Any]:
    """Return a message as JSON can hold it.

    Raises:
        InvalidWorkItem: It has something that JSON cannot; the message names it.
    """
    kind = type(message)
    path = f"{kind.__module__}:{kind.__qualname__}"
    if not _is_found(path, kind):
        raise InvalidWorkItem(
            f"a mail of {name_of(kind)} cannot be handed off: other processes have to import its class by its name. "
            "Define it in a module"
        )
    if isinstance(state := object.__getstate__(message), tuple):
        raise InvalidWorkItem(f"a mail of {name_of(kind)} cannot be handed off: it has __slots__ ({state[1]!r})")
    fields = {name: value for name, value in vars(message).items() if name not in CONNECTIONS}
    return {"class": path, "fields": {name: _encoded(value, name) for name, value in fields.items()}}


def from_plain(plain: dict[str, Any]) -> EmailMessage:
    """Return the message of what `to_plain` has made.

    Raises:
        InvalidWorkItem: It is none.
        ImportError, AttributeError: Its class is not there.
    """
    kind = found_at(plain["class"])
    if not isinstance(kind, type) or not issubclass(kind, EmailMessage):
        raise InvalidWorkItem(f"{plain['class']!r} is no class of mails")
    message: EmailMessage = kind.__new__(kind)
    vars(message).update({name: _decoded(value) for name, value in plain["fields"].items()})
    vars(message)[_CONNECTION] = None
    return message


def _is_found(path: str, kind: type) -> bool:
    try:
        return found_at(path) is kind and not path.startswith("__main__:")
    except (ImportError, AttributeError):
        return False


def _encoded(value: Any, where: str) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return str(value)
    if type(value) is list:
        return [_encoded(entry, where) for entry in value]
    for kind, tag, encode in _ENCODERS:
        if isinstance(value, kind):
            return {tag: encode(value, where)}
    raise InvalidWorkItem(
        f"a mail whose {where} holds {name_of(type(value))} cannot be handed off: give plain values, or send it by a "
        'backend without QBWI["EMAIL_HAND_OFF"]'
    )


def _all(values: Any, where: str) -> list[Any]:
    return [_encoded(value, where) for value in values]


def _part(part: Message[Any, Any], where: str) -> list[str]:
    kind = "base" if isinstance(part, MIMEBase) else "old"
    if isinstance(part, MIMEPart):
        kind = "message" if isinstance(part, PythonMessage) else "part"
    return [kind, base64.b64encode(part.as_bytes()).decode()]


# The more special ones first.
_ENCODERS: list[tuple[Any, str, Callable[[Any, str], Any]]] = [
    (EmailAttachment, "attachment", _all),
    (EmailAlternative, "alternative", _all),
    (tuple, "tuple", _all),
    (list, "list", _all),
    (dict, "dict", lambda value, where: [_all(pair, where) for pair in value.items()]),
    ((bytes, bytearray, memoryview), "bytes", lambda value, where: base64.b64encode(value).decode()),
    (datetime.datetime, "datetime", lambda value, where: [value.isoformat(), value.fold]),
    (Message, "part", _part),
    (EmailMessage, "message", lambda value, where: to_plain(value)),
]


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(entry) for entry in value]
    if isinstance(value, dict):
        ((tag, content),) = value.items()
        return _DECODERS[tag](content)
    return value


def _parsed(part: list[str]) -> Any:
    kind, text = part
    data = base64.b64decode(text)
    if kind == "base":
        return email.message_from_bytes(data, _class=_RestoredPart, policy=compat32)
    if kind == "old":
        return email.message_from_bytes(data, policy=compat32)
    # The headers of the outermost part alone are of that class; what is in it is a part like any other.
    factory: Any = PythonMessage if kind == "message" else MIMEPart
    return email.message_from_bytes(data, _class=factory, policy=default)


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "attachment": lambda content: EmailAttachment(*map(_decoded, content)),
    "alternative": lambda content: EmailAlternative(*map(_decoded, content)),
    "tuple": lambda content: tuple(map(_decoded, content)),
    "list": lambda content: [_decoded(entry) for entry in content],
    "dict": lambda content: {_decoded(key): _decoded(entry) for key, entry in content},
    "bytes": base64.b64decode,
    "datetime": lambda content: datetime.datetime.fromisoformat(content[0]).replace(fold=content[1]),
    "part": _parsed,
    "message": from_plain,
}
