"""Which names are secret: Django's exception-reporter filter decides, and a stricter rule of our own beside it.

A name is looked at, never a value: `?token=abc` is masked, `?q=my+password` is not.
"""

from __future__ import annotations

import functools
import re
from typing import Any
from urllib.parse import quote, unquote_plus

from django.conf import settings
from django.http import HttpRequest
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

    __slots__ = ("_filter", "_request", "_unmasked")

    def __init__(self, request: HttpRequest, unmasked: frozenset[str] = frozenset()) -> None:
        self._request = request
        self._unmasked = unmasked
        self._filter: Any = get_exception_reporter_filter(request)

    def value(self, name: str, value: Any) -> Any:
        """Return `value`, or the mask if `name` is secret; dicts are looked into."""
        if name.lower() in self._unmasked:
            return value
        if _is_secret(name):
            return MASK
        if type(value) is str and type(self._filter) is SafeExceptionReporterFilter:
            return MASK if name == settings.SESSION_COOKIE_NAME else value
        # A project's own filter may know more names (DEFAULT_EXCEPTION_REPORTER_FILTER), also those of nested dicts.
        return self._filter.cleanse_setting(name, value)

    def hides(self, name: str) -> bool:
        """Say whether the value of `name` is masked."""
        return bool(self.value(name, "") != "")

    def post(self, names: tuple[str, ...]) -> dict[str, bool]:
        """Return for each POST parameter whether it is masked; `sensitive_post_parameters` counts, with DEBUG too."""
        sensitive = getattr(self._request, "sensitive_post_parameters", ())
        hidden = {}
        for name in names:
            marked = sensitive == "__ALL__" or name in sensitive
            hidden[name] = name.lower() not in self._unmasked and (marked or self.hides(name))
        return hidden

    def query(self, query: str) -> str:
        """Return a query string with the values of secret names masked, and nothing else touched."""
        parts = query.split("&")
        for index, part in enumerate(parts):
            name, equals, _ = part.partition("=")
            if "%" in name or "+" in name:
                name = unquote_plus(name)
            if equals and self.hides(name):
                parts[index] = f"{part.partition('=')[0]}={MASK}"
        return "&".join(parts)

    def url(self, url: str) -> str:
        """Return a URL with its query masked, and without a password in front of its host."""
        front, question, rest = url.partition("?")
        if "@" in front:
            front = re.sub(r"//[^/@]*@", f"//{MASK}@", front, count=1)
        if not question:
            return front
        query, hash_, fragment = rest.partition("#")
        return f"{front}?{self.query(query)}{hash_}{fragment}"


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
