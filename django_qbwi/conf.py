"""settings.QBWI as a frozen, validated object. Read at first use, never at import."""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from string import Formatter
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured

from django_qbwi.core.lanes import DEFAULT

SETTING = "QBWI"
LINK_FIELDS = ("id", "request_id", "trace_id")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """What bounds one pool; what it leaves out is as the setting of the same name says for all that have none."""

    max_workers: int
    """Threads for its sync items."""
    max_queued: int
    """Items accepted into it and not started."""
    max_async_in_flight: int
    """Its async items that run at the same time."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of django_qbwi; all durations are seconds."""

    max_workers: int = 4
    """Threads for sync items, at least 1."""
    max_async_in_flight: int = 100
    """Async items that run at the same time, at least 1."""
    max_queued: int = 1000
    """Items accepted and not started, at least 1; beyond it QueueFull."""
    max_delayed: int = 10_000
    """Items that wait for their time, at least 1; beyond it QueueFull."""
    item_timeout: float | None = None
    """Seconds for an item that names no timeout of its own; None for no limit."""
    overdue_after: float = 5.0
    """Seconds past a timeout before an item is reported and loses its slot."""
    shutdown_timeout: float = 90.0
    """Seconds that the end of the process may be held, as in the original."""
    cancel_after: float = 0.0
    """Seconds of undisturbed time before tokens are cancelled at shutdown."""
    accept_while_draining: bool = True
    """Whether items are accepted while the server still finishes its requests."""
    handle_signals: bool = True
    """Whether we may stand before the server's signal handlers."""
    immediate: bool = False
    """Run items at the call, in the caller's thread: for test settings."""
    history_size: int = 200
    """Finished items remembered per process."""
    history_days: float | None = 30.0
    """Days that `contrib.history` keeps a row; None for no limit."""
    history_rows: int | None = 10_000
    """Rows that `contrib.history` keeps; None for no limit."""
    request_capture: str = "error"
    """What happens if an item would carry its request along: "error", "warn" or "allow"."""
    context: Sequence[str] = ()
    """Dotted paths of carriers: what else of the caller's context an item gets."""
    warn_in_transaction: bool = True
    """Whether to warn, once, of an item that is queued inside an open transaction and not on its commit."""
    inspection: bool = True
    """Whether other processes of the site may ask this one what it runs, and cancel items."""
    engine: str | None = None
    """Alias of TASKS: decorated functions run there instead of here."""
    crash_report: str | os.PathLike[str] | None = None
    """Directory in which each process notes its items, so that the next one tells of those that a SIGKILL took."""
    pools: Mapping[str, PoolSettings] = dataclasses.field(default_factory=dict)
    """Workers and bounds of their own for the items that name one of these."""
    process_workers: int = 2
    """Helper processes for items with `executor="process"`, at least 1; none is started before the first of those."""
    process_nice: int = 10
    """Added to the niceness of helper processes, 0 to 19, so that requests win."""
    process_max_items: int = 1000
    """Items after which a helper process is replaced, at least 1."""
    process_python: str | None = None
    """Path of the interpreter of helper processes; None: that of this process."""
    log_lines: int = 50
    """The last lines that are kept of what an item logs, for those who look at it; 0 for none."""
    links: Mapping[str, str] | None = None
    """Titles and URLs of what other systems know of an item; with {id}, {request_id} and {trace_id}."""
    email_backend: str = "django.core.mail.backends.smtp.EmailBackend"
    """Dotted path of the backend to which `contrib.mail` hands the mail."""
    email_hand_off: str | None = None
    """Alias of TASKS that gets the mail which this process cannot send; None: it stays here."""


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with settings.QBWI."""

    key: str | None
    message: str
    hint: str


KEYS = {field.name.upper(): field.name for field in dataclasses.fields(Settings)}
POOL_KEYS = {field.name.upper(): field.name for field in dataclasses.fields(PoolSettings)}


def problems(value: Any) -> list[Problem]:
    """Return all that is wrong with a QBWI setting."""
    if not isinstance(value, dict):
        return [Problem(None, f"QBWI is {value!r}", "Set QBWI to a dict, or leave it out.")]
    found = []
    for key, entry in value.items():
        if key not in KEYS:
            found.append(_unknown(key, SETTING, KEYS))
        elif key == "POOLS" and isinstance(entry, dict):
            found += [problem for name, pool in entry.items() for problem in _problems_of_pool(name, pool)]
        elif not _RULES[KEYS[key]][0](entry):
            found.append(Problem(key, f'QBWI["{key}"] is {entry!r}', f"Set it to {_RULES[KEYS[key]][1]}."))
    return found


def load() -> Settings:
    """Read settings.QBWI.

    Raises:
        ImproperlyConfigured: A key or a value is wrong; the message names all of them.
    """
    value = getattr(django_settings, SETTING, {})
    found = problems(value)
    if found:
        raise ImproperlyConfigured(" ".join(f"{problem.message}. {problem.hint}" for problem in found))
    pools = value.get("POOLS", {})
    settings = Settings(**{KEYS[key]: entry for key, entry in value.items() if key != "POOLS"})
    return dataclasses.replace(settings, pools={name: _pool(settings, pool) for name, pool in pools.items()})


def _pool(settings: Settings, given: dict[str, Any]) -> PoolSettings:
    return PoolSettings(**{name: given.get(key, getattr(settings, name)) for key, name in POOL_KEYS.items()})


def _problems_of_pool(name: Any, pool: Any) -> list[Problem]:
    where = f'QBWI["POOLS"][{_quoted(name)}]'
    if not isinstance(name, str) or not name or not name.isprintable():
        return [Problem("POOLS", f'QBWI["POOLS"] has a pool {name!r}', "Name it by a str without control characters.")]
    if name == DEFAULT:
        hint = f"Leave it out: the pool of items that name none is bounded by {', '.join(POOL_KEYS)} of QBWI itself."
        return [Problem("POOLS", f'QBWI["POOLS"] has a pool {name!r}', hint)]
    if not isinstance(pool, dict):
        return [Problem("POOLS", f"{where} is {pool!r}", f"Set it to a dict with any of {', '.join(POOL_KEYS)}.")]
    found = []
    for key, entry in pool.items():
        if key not in POOL_KEYS:
            found.append(_unknown(key, where, POOL_KEYS))
        elif not _is_count(entry):
            found.append(Problem("POOLS", f'{where}["{key}"] is {entry!r}', f"Set it to {_COUNT[1]}."))
    return found


def _quoted(name: Any) -> str:
    return f'"{name}"' if isinstance(name, str) else repr(name)


def _unknown(key: Any, where: str, keys: Mapping[str, str]) -> Problem:
    close = difflib.get_close_matches(key.upper(), keys, n=1, cutoff=0.5) if isinstance(key, str) else None
    hint = f'Did you mean "{close[0]}"?' if close else f"The keys are: {', '.join(keys)}."
    return Problem(f"{key} of {where}", f"{where} has no key {key!r}", hint)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: Any) -> bool:
    # Neither bool nor NaN nor infinity, nor an int beyond what a float can hold.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_span(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _is_timeout(value: Any) -> bool:
    return value is None or (_is_number(value) and value > 0)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_capture_mode(value: Any) -> bool:
    return value in ("error", "warn", "allow")


def _is_list_of_paths(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(path, str) and path for path in value)


def _is_directory(value: Any) -> bool:
    return value is None or (isinstance(value, (str, os.PathLike)) and os.fspath(value) != "")


_MAX_NICE = 19


def _is_links(value: Any) -> bool:
    if not isinstance(value, dict):
        return value is None
    return all(isinstance(title, str) and title and _is_link(url) for title, url in value.items())


def _is_link(url: Any) -> bool:
    if not isinstance(url, str) or re.match(r"https?://[^{}\s/]", url) is None:
        return False
    try:
        parts = list(Formatter().parse(url))
    except ValueError:
        return False
    return all(name in (None, *LINK_FIELDS) and not form and not conversion for _, name, form, conversion in parts)


_COUNT = (_is_count, "an integer of 1 or more")
_SPAN = (_is_span, "a number of seconds, 0 or more")
_FLAG = (_is_flag, "True or False")
_ALIAS = (lambda value: value is None or (isinstance(value, str) and value != ""), "an alias of TASKS, or None")
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "max_workers": _COUNT,
    "max_async_in_flight": _COUNT,
    "max_queued": _COUNT,
    "max_delayed": _COUNT,
    "item_timeout": (_is_timeout, "a number of seconds above 0, or None for no limit"),
    "overdue_after": _SPAN,
    "shutdown_timeout": _SPAN,
    "cancel_after": _SPAN,
    "accept_while_draining": _FLAG,
    "handle_signals": _FLAG,
    "immediate": _FLAG,
    "history_size": (_is_size, "an integer of 0 or more"),
    "history_days": (_is_timeout, "a number of days above 0, or None for no limit"),
    "history_rows": (lambda value: value is None or _is_count(value), "an integer of 1 or more, or None for no limit"),
    "request_capture": (_is_capture_mode, '"error", "warn" or "allow"'),
    "context": (_is_list_of_paths, "a list of dotted paths"),
    "warn_in_transaction": _FLAG,
    "inspection": _FLAG,
    "crash_report": (_is_directory, "the path of a directory, or None"),
    "engine": _ALIAS,
    "pools": (lambda value: isinstance(value, dict), "a dict of pools, each with a dict of its bounds"),
    "process_workers": _COUNT,
    "process_nice": (lambda value: _is_size(value) and value <= _MAX_NICE, "an integer from 0 to 19"),
    "process_max_items": _COUNT,
    "process_python": (lambda value: value is None or (isinstance(value, str) and value != ""), "a path, or None"),
    "log_lines": (_is_size, "an integer of 0 or more"),
    "links": (
        _is_links,
        "a dict of titles and http(s) URLs with no other fields than {id}, {request_id} and {trace_id}, or None",
    ),
    "email_backend": (lambda value: isinstance(value, str) and value != "", "the dotted path of an email backend"),
    "email_hand_off": _ALIAS,
}
