"""Reading a request: every default field of a snapshot, in the caller's thread.

Nothing here costs a query that the view did not pay for, with the one exception that `read_user` names.
"""

from __future__ import annotations

import datetime
import functools
import re
import zoneinfo
from contextvars import ContextVar
from typing import Any

from django.conf import settings
from django.contrib.auth import SESSION_KEY, get_user_model
from django.contrib.sessions.backends.base import SessionBase
from django.core.exceptions import DisallowedHost, ValidationError
from django.http import HttpRequest, HttpResponseBase, QueryDict
from django.http.request import split_domain_port, validate_host
from django.urls import ResolverMatch
from django.utils import timezone, translation
from django.utils.functional import LazyObject, empty
from django.utils.translation import trans_real

from django_qbwi.core.names import name_of, printable
from django_qbwi.intake.masking import MASK, Mask, mask_in_path
from django_qbwi.intake.plain import copy_plain, is_plain, text_of
from django_qbwi.intake.secrecy import is_id, looks_secret
from django_qbwi.intake.snapshot import query_of
from django_qbwi.machine.running_loop import on_running_loop

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(?:-[!-~]{0,200})?")
_MAX_TEXT = 2_000


def http_request_of(value: Any) -> HttpRequest | None:
    """Return the HttpRequest that `value` is, or that it wraps as Django REST framework's Request does; else None."""
    if isinstance(value, HttpRequest):
        return value
    if isinstance(value, HttpResponseBase):
        # A TemplateResponse has its request by the same name.
        return None
    inner = getattr(value, "__dict__", {}).get("_request")
    return inner if isinstance(inner, HttpRequest) else None


def read_request(request: HttpRequest, mask: Mask) -> dict[str, Any]:
    """Return the fields of a snapshot that do not depend on the user.

    Without GET, if that is what the query of `full_path` says: the snapshot parses it when it is asked for.
    """
    meta = request.META
    values: dict[str, Any] = {
        "method": text_of(request.method),
        "path": text_of(request.path),
        "scheme": request.scheme,
        "host": _host(request),
        "content_type": text_of(request.content_type),
        "language": _language(),
        "time_zone": _time_zone(),
        "script_name": str(meta.get("SCRIPT_NAME") or "").rstrip("/"),
        "urlconf": _urlconf(request),
        "remote_addr": text_of(meta.get("REMOTE_ADDR")),
        "user_agent": str(meta.get("HTTP_USER_AGENT", ""))[:_MAX_TEXT],
        "request_id": _request_id(request),
        "traceparent": _traceparent(meta.get("HTTP_TRACEPARENT")),
    }
    if "HTTP_REFERER" in meta:
        values["referer"] = mask.url(str(meta["HTTP_REFERER"]))[:_MAX_TEXT]
    _read_paths(values, request, mask)
    _read_query(values, request, mask)
    return values


def _read_paths(values: dict[str, Any], request: HttpRequest, mask: Mask) -> None:
    full_path, question, query = request.get_full_path().partition("?")
    values["full_path"] = full_path
    harmless: set[str] = set()
    if request.resolver_match is not None:
        harmless = _read_match(values, request.resolver_match, mask)
    if mask.lets_through("path"):
        values["path"] = text_of(request.path)
    for name in ("path", "full_path"):
        values[name] = mask.path(values[name], harmless)
    values["full_path"] += question + query


def _read_query(values: dict[str, Any], request: HttpRequest, mask: Mask) -> None:
    query_string = request.META.get("QUERY_STRING")
    loaded = request.__dict__.get("GET")
    if loaded is not None:
        values["GET"] = _query(loaded, mask)
    elif query_string and not (query_string.isascii() and request.encoding is None):
        values["GET"] = _query(request.GET, mask)
    if query_string:
        path, question, query = values["full_path"].partition("?")
        values["full_path"] = path + question + mask.query(query)


def _read_match(values: dict[str, Any], match: ResolverMatch, mask: Mask) -> set[str]:
    """Read what the URLconf found; return the arguments that the path may show whatever they look like."""
    values["view_name"] = text_of(match.view_name)
    values["view_kwargs"] = arguments = {}
    harmless = set()
    hidden = [text for text in _unnamed(match, values["path"]) if not is_id(text)]
    for name, argument in match.kwargs.items():
        if mask.hides(name, argument):
            arguments[name] = MASK
            hidden.append(argument)
        else:
            arguments[name] = _view_argument(name, mask.argument(name, argument))
            if mask.lets_through(name):
                harmless.add(str(argument))
    for secret in hidden:
        values["path"] = mask_in_path(values["path"], secret)
        values["full_path"] = mask_in_path(values["full_path"], secret)
    return harmless


def _unnamed(match: ResolverMatch, path: str) -> list[str]:
    """Return what the groups without a name caught, which nothing says to be harmless.

    Where there are named groups too, Django leaves the others out; they are in the path all the same.
    """
    unnamed = [str(argument) for argument in getattr(match, "args", ()) if argument is not None]
    pattern = _pattern_with_unnamed_groups(getattr(match, "route", None)) if match.kwargs else None
    found = None if pattern is None else pattern.search(path)
    if pattern is not None and found is not None:
        named = set(pattern.groupindex.values())
        unnamed += [text for index, text in enumerate(found.groups(), 1) if text and index not in named]
    return unnamed


@functools.lru_cache(maxsize=256)
def _pattern_with_unnamed_groups(route: str | None) -> re.Pattern[str] | None:
    if not route or "(" not in route:
        return None
    try:
        # Each part of a URLconf begins with a ^ of its own.
        pattern = re.compile(re.sub(r"(?<![\[\\])\^", "", route))
    except re.error:
        return None
    return pattern if pattern.groups > len(pattern.groupindex) else None


def read_user(given: Any, request: HttpRequest) -> dict[str, Any] | None:
    """Return what is known of the user, at no cost if the view has loaded the user or the session.

    Else, in sync code, the session is read: one query with most session engines, and `Vary: Cookie` in the response.

    Args:
        given: The request as it was given, which may be Django REST framework's.
        request: The HttpRequest.

    Returns:
        The fields of the user, or None if it would have to be read on a running event loop.
    """
    found, user = _loaded_user(given, request)
    if found:
        return _fields_of(user)
    session = request.__dict__.get("session")
    if not isinstance(session, SessionBase):
        # Without sessions, and with a lazy user of somebody's own: not known.
        return {}
    loaded: dict[str, Any] | None = getattr(session, "_session_cache", None)
    if loaded is None and on_running_loop():
        return None
    key = session.get(SESSION_KEY) if loaded is None else loaded.get(SESSION_KEY)
    if key is None:
        return {"username": "", "is_authenticated": False} if _is_of_session(request.__dict__.get("user")) else {}
    try:
        user_id = get_user_model()._meta.pk.to_python(key)
    except ValidationError:
        # Of a user model that this site had before.
        return {}
    # Neither the session's hash nor the user's row were looked at.
    return {"user_id": _plain_or_text(user_id)}


def _is_of_session(user: Any) -> bool:
    """Say whether a lazy user that was not loaded is the one whom the session names, or a middleware's own."""
    if user is None:
        return False
    setup = object.__getattribute__(user, "__dict__").get("_setupfunc")
    return getattr(setup, "__module__", None) == "django.contrib.auth.middleware"


def _loaded_user(given: Any, request: HttpRequest) -> tuple[bool, Any]:
    if given is not request and "_user" in given.__dict__:
        return True, given.__dict__["_user"]
    state = request.__dict__
    user = state.get("user")
    # By type: isinstance() asks a lazy object for its class, which loads it.
    if user is not None and not issubclass(type(user), LazyObject):
        # Assigned by login(), logout(), an API or a test; `_cached_user` may be that of before.
        return True, user
    if user is not None:
        wrapped = object.__getattribute__(user, "__dict__").get("_wrapped", empty)
        if wrapped is not empty:
            return True, wrapped
    for name in ("_cached_user", "_acached_user"):
        if name in state:
            return True, state[name]
    return False, None


def _fields_of(user: Any) -> dict[str, Any]:
    if user is None:
        return {"username": "", "is_authenticated": False}
    user_id = getattr(user, "pk", None)
    get_username = getattr(user, "get_username", None)
    return {
        "user_id": _plain_or_text(user_id),
        "username": text_of(get_username()) if callable(get_username) else None,
        "is_authenticated": bool(getattr(user, "is_authenticated", True)),
    }


def _plain_or_text(value: Any) -> Any:
    return copy_plain(value, "user_id") if is_plain(value) else text_of(value)


def _host(request: HttpRequest) -> str | None:
    try:
        if type(request).get_host is not HttpRequest.get_host:
            return request.get_host()
        host = request._get_raw_host()  # type: ignore[attr-defined]
    except (DisallowedHost, KeyError):
        # Refused, or a request made by hand without SERVER_NAME; the view may not care.
        return None
    return host if _is_allowed(host, tuple(settings.ALLOWED_HOSTS), settings.DEBUG) else None


@functools.lru_cache(maxsize=256)
def _is_allowed(host: str, allowed: tuple[str, ...], debug: bool) -> bool:
    # The rule of HttpRequest.get_host, which takes a fifth of a snapshot and has few answers.
    if debug and not allowed:
        allowed = (".localhost", "127.0.0.1", "[::1]")
    domain, _ = split_domain_port(host)
    return bool(domain) and validate_host(domain, allowed)


def _is_untouched(module: Any) -> bool:
    """Say whether the language, or the time zone, of this module was never activated here.

    Its `Local` takes a third of a snapshot to say that, so its variable is asked, if asgiref builds it as in 3.8 to
    3.13. Django's tests put another Local in its place when a setting of languages changes, so none is kept.
    """
    variable = getattr(getattr(getattr(module, "_active", None), "_storage", None), "_data", None)
    return isinstance(variable, ContextVar) and variable.get(None) is None


def _language() -> str | None:
    if _is_untouched(trans_real):
        return settings.LANGUAGE_CODE
    return translation.get_language()


def _time_zone() -> str | None:
    zone = timezone.get_default_timezone() if _is_untouched(timezone) else timezone.get_current_timezone()
    key = getattr(zone, "key", None)
    if isinstance(key, str):
        return key
    offset = zone.utcoffset(None)
    if offset is not None:
        return str(datetime.timezone(offset))
    try:
        return zoneinfo.ZoneInfo(str(zone)).key
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        # A time zone of somebody's own, that nobody could find again by its name; pytz's can.
        return None


def _urlconf(request: HttpRequest) -> str | None:
    urlconf: Any = request.__dict__.get("urlconf")
    if urlconf is None or urlconf == settings.ROOT_URLCONF:
        return None
    name = urlconf if isinstance(urlconf, str) else getattr(urlconf, "__name__", None)
    return name if isinstance(name, str) else None


def _request_id(request: HttpRequest) -> str | None:
    meta = request.META
    found = request.__dict__.get("request_id") or meta.get("HTTP_X_REQUEST_ID") or meta.get("HTTP_X_CORRELATION_ID")
    return None if not found else printable(str(found))


def _traceparent(header: Any) -> str | None:
    return header if isinstance(header, str) and _TRACEPARENT.fullmatch(header) else None


def _query(query: QueryDict, mask: Mask) -> QueryDict:
    # Never shared: a view may make it mutable, or have put a mutable one in its place.
    return query_of(
        {
            MASK if looks_secret(name) and not any(entries) else name: [
                entry and mask.value(name, entry) for entry in entries
            ]
            for name, entries in query.lists()
        }
    )


def _view_argument(name: str, value: Any) -> Any:
    # A converter may make anything, a model instance too.
    return copy_plain(value, name) if is_plain(value) else f"<{printable(name_of(type(value)))}>"
