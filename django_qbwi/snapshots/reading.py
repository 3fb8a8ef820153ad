"""Reading a request: every default field of a snapshot, in the caller's thread.

Nothing here costs a query that the view did not pay for, with the one exception that `read_user` names.
"""

from __future__ import annotations

import asyncio
import datetime
import re
from typing import Any

from django.conf import settings
from django.contrib.auth import SESSION_KEY, get_user_model
from django.contrib.sessions.backends.base import SessionBase
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, QueryDict
from django.urls import get_urlconf
from django.utils import timezone, translation
from django.utils.functional import LazyObject, empty

from django_qbwi.core.callables import name_of, printable
from django_qbwi.snapshots.masking import Mask
from django_qbwi.snapshots.plain import copy_plain, is_plain
from django_qbwi.snapshots.snapshot import no_query

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(?:-[!-~]{0,200})?")
_REQUEST_ID_HEADERS = ("HTTP_X_REQUEST_ID", "HTTP_X_CORRELATION_ID")
_MAX_TEXT = 2_000


def http_request_of(value: Any) -> HttpRequest | None:
    """Return the HttpRequest that `value` is, or that it wraps as Django REST framework's Request does; else None."""
    if isinstance(value, HttpRequest):
        return value
    inner = getattr(value, "__dict__", {}).get("_request")
    return inner if isinstance(inner, HttpRequest) else None


def read_request(request: HttpRequest, mask: Mask) -> dict[str, Any]:
    """Return the fields of a snapshot that do not depend on the user."""
    meta = request.META
    values: dict[str, Any] = {
        "method": request.method,
        "path": request.path,
        "scheme": request.scheme,
        "host": _host(request),
        "content_type": request.content_type,
        "language": translation.get_language(),
        "time_zone": _time_zone(),
        "script_name": str(meta.get("SCRIPT_NAME") or "").rstrip("/"),
        "urlconf": _urlconf(request),
        "remote_addr": meta.get("REMOTE_ADDR"),
        "user_agent": str(meta.get("HTTP_USER_AGENT", ""))[:_MAX_TEXT],
        "request_id": _request_id(request),
        "traceparent": _traceparent(meta.get("HTTP_TRACEPARENT")),
    }
    if "HTTP_REFERER" in meta:
        values["referer"] = mask.url(str(meta["HTTP_REFERER"]))[:_MAX_TEXT]
    full_path = request.get_full_path()
    query_string = meta.get("QUERY_STRING")
    if query_string or request.__dict__.get("GET"):
        values["GET"] = _query(request, mask)
    if query_string:
        path, question, query = full_path.partition("?")
        full_path = path + question + mask.query(query)
    match = request.resolver_match
    if match is not None:
        values["view_name"] = match.view_name
        if match.kwargs:
            values["view_kwargs"] = {name: _view_argument(name, entry, mask) for name, entry in match.kwargs.items()}
            full_path = mask.path(full_path, match.kwargs)
    values["full_path"] = full_path
    return values


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
        return {"username": "", "is_authenticated": False} if "user" in request.__dict__ else {}
    user_id = get_user_model()._meta.pk.to_python(key)
    # Neither the session's hash nor the user's row were looked at.
    return {"user_id": user_id}


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
        "user_id": user_id if is_plain(user_id) else str(user_id),
        "username": str(get_username()) if callable(get_username) else None,
        "is_authenticated": bool(getattr(user, "is_authenticated", True)),
    }


def on_running_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _host(request: HttpRequest) -> str | None:
    try:
        return request.get_host()
    except (DisallowedHost, KeyError):
        # Refused, or a request made by hand without SERVER_NAME; the view may not care.
        return None


def _time_zone() -> str | None:
    zone = timezone.get_current_timezone()
    key = getattr(zone, "key", None)
    if isinstance(key, str):
        return key
    offset = zone.utcoffset(None)
    if offset is None:
        return str(zone)
    return str(datetime.timezone(offset))


def _urlconf(request: HttpRequest) -> str | None:
    urlconf: Any = getattr(request, "urlconf", None) or get_urlconf()
    if urlconf == settings.ROOT_URLCONF:
        return None
    name = urlconf if isinstance(urlconf, str) else getattr(urlconf, "__name__", None)
    return name if isinstance(name, str) else None


def _request_id(request: HttpRequest) -> str | None:
    found = request.__dict__.get("request_id")
    for header in _REQUEST_ID_HEADERS:
        found = found or request.META.get(header)
    return None if not found else printable(str(found))


def _traceparent(header: Any) -> str | None:
    return header if isinstance(header, str) and _TRACEPARENT.fullmatch(header) else None


def _query(request: HttpRequest, mask: Mask) -> QueryDict:
    query = no_query()
    query._mutable = True
    for name, entries in request.GET.lists():
        query.setlist(name, [mask.value(name, entry) for entry in entries])
    query._mutable = False
    return query


def _view_argument(name: str, value: Any, mask: Mask) -> Any:
    value = mask.value(name, value)
    # A converter may make anything, a model instance too.
    return copy_plain(value, name) if is_plain(value) else f"<{printable(name_of(type(value)))}>"
