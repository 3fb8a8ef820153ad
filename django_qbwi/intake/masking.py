"""Which names are secret: Django's exception-reporter filter decides, and a stricter rule of our own beside it.

A name is looked at, never a value: `?token=abc` is masked, `?q=my+password` is not.
"""

from __future__ import annotations

import functools
import re
from typing import Any
from urllib.parse import quote, unquote_plus

from django.conf import settings
from django.http import HttpRequest, QueryDict
from django.utils.encoding import escape_uri_path
from django.views.debug import SafeExceptionReporterFilter, get_exception_reporter_filter

MASK = "********************"
"""What stands in the place of a masked value, as in Django's error reports."""

# What Django's own list lacks, in the versions that are supported.
_SECRET = re.compile(
    "API|AUTH|TOKEN|KEY|SECRET|PASS|SIGNATURE|COOKIE|CSRF|SESSION|CREDENTIAL|JWT|^(?:sig|pwd|pin|otp|sid)$", re.I
)
_MIN_SUBSTRING = 8


class Mask:
    """Masks the values of one request by their names, but for the names that are marked as harmless."""

    __slots__ = ("_filter", "_is_own", "_request", "_unmasked")

    def __init__(self, request: HttpRequest, unmasked: frozenset[str] = frozenset()) -> None:
        self._request = request
        self._unmasked = unmasked
        self._filter: Any = get_exception_reporter_filter(request)
        # A project's own filter (DEFAULT_EXCEPTION_REPORTER_FILTER) may know more names, and look at values.
        self._is_own = type(self._filter) is not SafeExceptionReporterFilter

    def value(self, name: str, value: Any) -> Any:
        """Return `value`, or the mask if `name` is secret; dicts and lists are looked into."""
        if name.lower() in self._unmasked:
            return value
        if _is_secret(name):
            return MASK
        if type(value) is str and not self._is_own:
            return MASK if name == settings.SESSION_COOKIE_NAME else value
        cleansed = self._filter.cleanse_setting(name, value)
        return cleansed if type(cleansed) is str else self._inside(cleansed)

    def hides(self, name: str, value: Any = "") -> bool:
        """Say whether the value of `name` is masked."""
        if not self._is_own:
            value = ""
        return bool(self.value(name, value) != value)

    def header(self, name: str, value: Any) -> Any:
        """Return the value of a header, or the mask; a filter knows it by the name that it has in `request.META`."""
        if self._is_own and name.lower() not in self._unmasked:
            value = self._filter.cleanse_setting(f"HTTP_{name.upper().replace('-', '_')}", value)
        return self.value(name, value)

    def post(self, post: QueryDict, names: tuple[str, ...]) -> dict[str, list[Any]]:
        """Return POST parameters, masked where needed; `sensitive_post_parameters` counts, with DEBUG too."""
        sensitive = getattr(self._request, "sensitive_post_parameters", ())
        filtered: Any = post
        if (
            self._is_own
            and type(self._filter).get_post_parameters is not SafeExceptionReporterFilter.get_post_parameters
        ):
            filtered = self._filter.get_post_parameters(self._request)
        lists = {}
        for name in names:
            if name not in post:
                continue
            values = post.getlist(name)
            if name.lower() not in self._unmasked:
                if sensitive == "__ALL__" or name in sensitive or name not in filtered:
                    values = [MASK] * len(values)
                elif filtered is not post:
                    values = filtered.getlist(name) if hasattr(filtered, "getlist") else [filtered[name]]
            lists[name] = [self.value(name, value) for value in values]
        return lists

    def query(self, query: str) -> str:
        """Return a query string with the values of secret names masked, and nothing else touched."""
        parts = query.split("&")
        cookie = settings.SESSION_COOKIE_NAME
        for index, part in enumerate(parts):
            name, _, value = part.partition("=")
            if "%" in name or "+" in name:
                name = unquote_plus(name)
            if not value:
                continue
            if not self._is_own and not _is_secret(name) and name != cookie:
                # As the lines below would find, which take longer: most queries hold no secrets.
                continue
            text = unquote_plus(value) if self._is_own else ""
            shown = self.value(name, text)
            if shown != text:
                parts[index] = f"{part.partition('=')[0]}={quote(str(shown), safe='*')}"
        return "&".join(parts)

    def url(self, url: str) -> str:
        """Return a URL with its query masked, and without a password in front of its host."""
        front, question, rest = url.partition("?")
        if "@" in front:
            front = re.sub(r"//[^/@]*@", f"//{MASK}@", front, count=1)
        if not question:
            return front
        query, hash_, fragment = rest.partition("#")
        return f"{front}?{self.query(query)}{hash_}{self.query(fragment)}"

    def _inside(self, value: Any) -> Any:
        # The filter knows its own names only, where it looks into dicts.
        if type(value) is dict:
            return {
                key: MASK
                if isinstance(key, str) and key.lower() not in self._unmasked and _is_secret(key)
                else self._inside(entry)
                for key, entry in value.items()
            }
        if type(value) in (list, tuple):
            return type(value)(self._inside(element) for element in value)
        return value


def mask_in_path(path: str, value: Any) -> str:
    """Return an escaped path without the value of a secret argument of the view."""
    text = str(value)
    for written in {escape_uri_path(text), quote(text)}:
        if len(written) >= _MIN_SUBSTRING:
            path = path.replace(written, MASK)
        elif written:
            path = "/".join(MASK if segment == written else segment for segment in path.split("/"))
    return path


@functools.lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    # Names of arguments and of query parameters are few, and a search takes as long as all the rest of a default field.
    return bool(_SECRET.search(name) or SafeExceptionReporterFilter.hidden_settings.search(name))
