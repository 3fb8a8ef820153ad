"""The backend that hands the mail to its server: which class it is, and how one of its objects is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import django
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import DNS_NAME
from django.core.mail.backends import smtp
from django.utils.module_loading import import_string

from django_qbwi import conf

OWN_OPTION = "backend"
"""In the OPTIONS of an alias of MAILERS: what is wrapped there, in place of QBWI["EMAIL_BACKEND"]."""
_KNOWS_MAILERS = django.VERSION >= (6, 1)


def options_of_alias(alias: str | None) -> dict[str, Any]:
    """Return the options of an alias of settings.MAILERS; none without an alias."""
    if alias is None:
        return {}
    mailers: Mapping[str, Any] = getattr(django_settings, "MAILERS", {})
    return dict(mailers.get(alias, {}).get("OPTIONS", {}))


def wrapped_class(options: Mapping[str, Any]) -> Any:
    """Return the class of the backend that sends.

    Raises:
        ImproperlyConfigured: It cannot be imported, or is one that only queues.
    """
    path = options.get(OWN_OPTION) or conf.load().email_backend
    try:
        found = import_string(path)
    except ImportError as error:
        raise ImproperlyConfigured(
            f'QBWI["EMAIL_BACKEND"] is {path!r}, which cannot be imported ({error}): give the dotted path of the '
            "backend that is to send the mail"
        ) from error
    if getattr(found, "queues_mail", False):
        raise ImproperlyConfigured(
            f'QBWI["EMAIL_BACKEND"] is {path!r}, which queues mail: give the one that sends it, as '
            '"django.core.mail.backends.smtp.EmailBackend"'
        )
    return found


def make_connection(alias: str | None, options: Mapping[str, Any]) -> Any:
    """Return a new object of the backend that sends, which raises what fails; it is not opened yet."""
    kind = wrapped_class(options)
    arguments = {name: value for name, value in options.items() if name != OWN_OPTION}
    if alias is not None:
        arguments["alias"] = alias
    elif _KNOWS_MAILERS and isinstance(kind, type) and kind.__init__ is smtp.EmailBackend.__init__:  # type: ignore[misc]
        # As Django's own calls: without it a warning would tell of a use of MAILERS that is not ours to change.
        arguments["alias"] = None
    return kind(**arguments)


def fix_headers(connection: Any, message: Any, key: str, date: str) -> None:
    """Give a message the id and the date of its call, by SMTP: a server that gets it twice can tell.

    Not for other backends: what speaks to the API of a service may refuse these headers.
    """
    if not isinstance(connection, smtp.EmailBackend):
        return
    names = {str(name).lower() for name in message.extra_headers}
    if "message-id" not in names:
        # Not at the call: the first look at the name of the machine may ask a name server.
        message.extra_headers["Message-ID"] = f"<{key}@{DNS_NAME}>"
    if "date" not in names:
        message.extra_headers["Date"] = date
