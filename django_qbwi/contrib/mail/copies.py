"""Copies of messages, made at the call: whatever is changed afterwards does not change what is sent.

What depends on the request is settled in them: a lazy text has the language of the call.
"""

from __future__ import annotations

import copy
from typing import Any

from django.core.mail import EmailMessage
from django.utils.functional import Promise

from django_qbwi.core.exceptions import InvalidWorkItem
from django_qbwi.core.failures import message_of, type_of
from django_qbwi.core.names import name_of, printable

CONNECTIONS = {"connection", "_connection"}
"""Where a message keeps the backend it was made with: the second since Django 6.1."""
_PLAIN = {type(None), bool, int, float, complex, str, bytes}


def copy_of(message: EmailMessage) -> EmailMessage:
    """Return a copy of a message that shares nothing with it which could change, without its connection.

    Raises:
        InvalidWorkItem: Something of it cannot be copied; the message says what.
        ValueError: A header of it is forbidden, as Django has it.
    """
    if not isinstance(message, EmailMessage):
        raise InvalidWorkItem(f"{name_of(type(message))} cannot be queued as a mail: give an EmailMessage of Django")
    try:
        made = copy.copy(message)
    except Exception as error:
        raise _refused(message, "it", error) from error
    for name, value in vars(message).items():
        try:
            vars(made)[name] = None if name in CONNECTIONS else settled(value)
        except Exception as error:
            # Code of whoever has made the value: a file, a lock and a generator all refuse to be copied.
            raise _refused(message, f"its {name}", error) from error
    check_headers(made)
    return made


def settled(value: Any) -> Any:
    """Return a copy of a value of a message, in which no lazy text is left.

    Raises:
        Exception: What the value raises at its copying.
    """
    if type(value) in _PLAIN or isinstance(value, str):
        return value
    if isinstance(value, Promise):
        return str(value)
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, EmailMessage):
        return copy_of(value)
    if isinstance(value, dict):
        made = copy.copy(value)
        for key, entry in value.items():
            made[key] = settled(entry)
        return made
    if isinstance(value, tuple):
        entries = map(settled, value)
        # One with names, too: their classes take one argument for each.
        return tuple.__new__(type(value), entries)
    if type(value) is list:
        return [settled(entry) for entry in value]
    return copy.deepcopy(value)


def check_headers(made: EmailMessage) -> None:
    """Raise the ValueError here that Django raises where a header holds a line break; views catch it at the call.

    Without the body, whose encoding takes its time, and without the name of this machine, which may have to be asked.
    """
    probe = copy.copy(made)
    probe.body, probe.attachments = "", []
    if hasattr(probe, "alternatives"):
        probe.alternatives = []
    probe.extra_headers = {"Message-ID": "<probe@localhost>", **made.extra_headers}
    try:
        EmailMessage.message(probe)
    except ValueError:
        raise
    except Exception:
        # A class of its own may mean something else by these fields: then its backend, in the background, will say so.
        pass


def _refused(message: EmailMessage, what: str, error: Exception) -> InvalidWorkItem:
    subject = printable(str(getattr(message, "subject", "")))
    return InvalidWorkItem(
        f"the mail {subject!r} cannot be sent in the background: {what} cannot be copied ({type_of(error)}: "
        f"{message_of(error)}). Give plain values: the bytes of a file, and not the file"
    )
