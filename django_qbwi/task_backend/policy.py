"""The policy of retries of a task: that of its alias, and what the task itself says.

`OPTIONS["RETRY"]` is a dict of plain values, so that settings import nothing: exceptions and functions by dotted paths.
"""

from __future__ import annotations

import builtins
import dataclasses
import difflib
from collections.abc import Iterable
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from django_qbwi.core.exceptions import InvalidWorkItem
from django_qbwi.core.failures import message_of, type_of
from django_qbwi.core.names import printable
from django_qbwi.intake.retries import Retry, exponential
from django_qbwi.task_backend.task_class import ATTEMPTS

_KEYS = ("max_attempts", "on", "backoff")
_BACKOFF_KEYS = ("first", "factor", "longest", "jitter")


def retry_from(given: Any) -> Retry | None:
    """Return the policy that an option stands for.

    Args:
        given: None, a `Retry`, the dotted path of one, or a dict of its arguments.

    Raises:
        InvalidWorkItem: It stands for none; the message says what to give.
    """
    if given is None or isinstance(given, Retry):
        return given
    if isinstance(given, str):
        found = _imported(given, "the path of a Retry")
        if not isinstance(found, Retry):
            raise InvalidWorkItem(f"{given!r} is {printable(repr(found))}: give the path of a Retry")
        return found
    if not isinstance(given, dict):
        raise InvalidWorkItem(
            f'it is {given!r}: give a dict as in {{"max_attempts": 3}}, a Retry, or the dotted path of one'
        )
    _refuse_unknown("it", given, _KEYS)
    arguments = dict(given)
    if "on" in arguments:
        arguments["on"] = _classes(arguments["on"])
    if "backoff" in arguments:
        arguments["backoff"] = _backoff(arguments["backoff"])
    return Retry(**arguments)


def usual_policy(alias: str, options: dict[str, Any]) -> Retry | None:
    """Return the policy of an alias.

    Raises:
        ImproperlyConfigured: Its option stands for none.
    """
    try:
        return retry_from(options.get("RETRY"))
    except InvalidWorkItem as error:
        raise ImproperlyConfigured(f'TASKS["{alias}"]["OPTIONS"]["RETRY"]: {error}') from error


def policy_of(task: Any, usual: Retry | None) -> Retry | None:
    """Return what follows a failed attempt of `task`, whose own words win over what is `usual` for its alias."""
    # A task of another alias, which was changed to ours by `using`, may be of another class.
    own = {name: getattr(task, name, None) for name in ATTEMPTS}
    said = {name: value for name, value in own.items() if value is not None}
    if not said:
        return usual
    return Retry(**said) if usual is None else dataclasses.replace(usual, **said)


def _classes(given: Any) -> Any:
    several = given if isinstance(given, (list, tuple)) else [given]
    return tuple(_class(one) for one in several)


def _class(given: Any) -> Any:
    if not isinstance(given, str):
        # A class; if not, the policy refuses it.
        return given
    built_in = getattr(builtins, given, None)
    found = _imported(given, "the dotted paths of exceptions") if built_in is None else built_in
    if not isinstance(found, type) or not issubclass(found, BaseException):
        raise InvalidWorkItem(f"on names {given!r}, which is no exception: give the dotted paths of exceptions")
    return found


def _backoff(given: Any) -> Any:
    if isinstance(given, str):
        return _imported(given, "the path of a function of the attempt's number and its exception")
    if not isinstance(given, dict):
        # A function; if not, the policy refuses it.
        return given
    _refuse_unknown("backoff", given, _BACKOFF_KEYS)
    return exponential(**given)


def _imported(path: str, cure: str) -> Any:
    try:
        return import_string(path)
    except Exception as error:
        # Importing runs the module's own code, which may raise whatever it likes.
        why = f"{type_of(error)}, {message_of(error)}".replace(": ", ", ")
        raise InvalidWorkItem(f"{path!r} cannot be imported ({why}): give {cure}") from error


def _refuse_unknown(what: str, given: dict[Any, Any], known: Iterable[str]) -> None:
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(str(key).lower(), known, n=1, cutoff=0.5)
            cure = f'did you mean "{close[0]}"?' if close else f"the keys are {', '.join(known)}"
            raise InvalidWorkItem(f"{what} has no key {key!r}: {cure}")
