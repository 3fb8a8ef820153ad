"""The one mask for what a request brings: Django's exception-reporter filter, and a stricter rule of our own beside it.

What has a name goes by it: `?token=abc` is masked, `?q=my+password` is not. What has none, such as a segment of a path,
goes by its looks. A value that is an address itself (`?next=/confirm?token=abc`, a referer) is masked inside, wherever
it stands and however often it is encoded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any
from urllib.parse import quote, unquote, unquote_plus

from django.conf import settings
from django.http import HttpRequest, QueryDict
from django.utils.encoding import escape_uri_path
from django.views.debug import SafeExceptionReporterFilter, get_exception_reporter_filter

from django_qbwi.intake.secrecy import is_secret_name, looks_secret, without_tokens

MASK = "********************"
"""What stands in the place of a masked value, as in Django's error reports."""

_MIN_SUBSTRING = 8
_MAX_DEPTH = 5
"""How often an address may stand inside of another, or be encoded again; what is deeper is masked as a whole."""

# What a text without any of these holds is no address, and no token that is known by its looks.
_SUSPECT = re.compile(r"[%/=?#&;:{]|eyJ")
_SUSPECT_URL = re.compile(r"[^/]{16}|[;=?#%@]")
_SUSPECT_PATH = re.compile(r"[^/]{16}|[;=?%:]")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|[/?#]")
_AUTHORITY = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//[^/]*")
# Up to the last @ of the authority: a password may have one as well.
_USERINFO = re.compile(r"//[^/?#\s]*@")
# A "port" that is no number, and an @ later on: a password with a slash, a question mark or a hash in it.
_BROKEN_USERINFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:)?//[^/?#@:\s\[\]]*:(?![0-9]*[/?#])[^/?#@\s]*[/?#]\S*@")


class Mask:
    """Masks the values of one request by their names, but for the names that are marked as harmless."""

    __slots__ = ("_filter", "_is_own", "_request", "_unmasked")

    def __init__(self, request: HttpRequest, unmasked: frozenset[str] = frozenset()) -> None:
        self._request = request
        self._unmasked = unmasked
        self._filter: Any = get_exception_reporter_filter(request)
        # A project's own filter (DEFAULT_EXCEPTION_REPORTER_FILTER) may know more names, and look at values.
        self._is_own = type(self._filter) is not SafeExceptionReporterFilter

    def value(self, name: str, value: Any, depth: int = 0) -> Any:
        """Return `value`, or the mask if `name` is secret; dicts, lists, addresses and JSON are looked into."""
        if name.lower() in self._unmasked:
            return value
        if is_secret_name(name):
            return MASK
        if type(value) is str and not self._is_own:
            return MASK if name == settings.SESSION_COOKIE_NAME else self.text(value, depth)
        return self._inside(self._filter.cleanse_setting(name, value), depth)

    def hides(self, name: str, value: Any = "") -> bool:
        """Say whether the value of `name` is masked."""
        if not self._is_own:
            value = ""
        return bool(self.value(name, value) != value)

    def argument(self, name: str, value: Any) -> Any:
        """Return an argument of the view whose name is harmless, without what looks like a secret."""
        return value if self.lets_through(name) or not isinstance(value, str) else self.path(value)

    def lets_through(self, name: str) -> bool:
        """Say whether a name was marked as harmless."""
        return name.lower() in self._unmasked

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

    def query(self, query: str, depth: int = 0) -> str:
        """Return a query string with the values of secret names masked, and nothing else touched."""
        if ";" in query:
            # Django takes it for a part of a value, others for a separator.
            return ";".join(self.query(part, depth) for part in query.split(";"))
        parts = query.split("&")
        cookie = settings.SESSION_COOKIE_NAME
        for index, part in enumerate(parts):
            name, _, value = part.partition("=")
            named = value and name != cookie and name.isidentifier() and not is_secret_name(name)
            # Else the line below would find nothing, and take longer for it: most queries hold no secrets.
            if part and (not named or self._is_own or _SUSPECT.search(value)):
                parts[index] = self._parameter(part, depth)
        return "&".join(parts)

    def url(self, url: str, depth: int = 0) -> str:
        """Return a URL, absolute or not, masked in all its parts: userinfo, path, query and fragment."""
        if not _SUSPECT_URL.search(url):
            return url
        if depth > _MAX_DEPTH:
            return MASK
        if "@" in url:
            broken = _BROKEN_USERINFO.match(url)
            if broken is not None:
                url = f"{broken[1] or ''}//{MASK}@{url[broken.end() :]}"
            url = _USERINFO.sub(f"//{MASK}@", url)
        front, hash_, fragment = url.partition("#")
        address, question, query = front.partition("?")
        authority = _AUTHORITY.match(address)
        host = "" if authority is None else authority[0]
        masked = host + self.path(address[len(host) :], depth=depth)
        if query:
            query = self.query(query, depth)
        if fragment:
            # An application in the browser may have a path and a query of its own in there.
            inside = self.url if fragment[0] in "/!?" or "?" in fragment else self.query
            fragment = inside(fragment, depth + 1)
        return f"{masked}{question}{query}{hash_}{fragment}"

    def path(self, path: str, harmless: Collection[str] = (), depth: int = 0) -> str:
        """Return a path, escaped or not, without what looks like a secret: segments, and parameters of segments.

        Args:
            path: Without a query.
            harmless: Segments that are let through, unescaped.
            depth: How many addresses it is inside of.
        """
        if "path" in self._unmasked or not _SUSPECT_PATH.search(path):
            return path
        if "@" in path:
            path = _USERINFO.sub(f"//{MASK}@", path)
        return "/".join(
            self._segment(segment, depth) if segment and unquote(segment) not in harmless else segment
            for segment in path.split("/")
        )

    def text(self, text: str, depth: int = 0) -> str:
        """Return a text, masked if it is an address, a query or JSON; or what is secret under any name."""
        if not _SUSPECT.search(text):
            return text
        if depth > _MAX_DEPTH:
            return MASK
        text = without_tokens(text, MASK)
        if text[:1] in ("{", "["):
            return self._json(text, depth)
        if re.search(r"\s", text):
            # Prose, which may well speak of an address.
            return text
        if _ADDRESS.match(text) or "?" in text:
            return self.url(text, depth + 1)
        if "=" in text:
            return self.query(text, depth + 1)
        return self._decoded(text, depth)

    def _parameter(self, part: str, depth: int) -> str:
        written, equals, value = part.partition("=")
        if not value:
            # Nothing but a name: it may be the token itself.
            return part if not looks_secret(written) else MASK + equals
        name = unquote_plus(written) if "%" in written or "+" in written else written
        if name.lower() in self._unmasked:
            return part
        text = unquote_plus(value)
        shown = self.value(name, text, depth)
        if shown == text:
            return part
        return f"{written}={quote(str(shown), safe='*' if '%' in value else '*/:?=')}"

    def _segment(self, segment: str, depth: int) -> str:
        front, semicolon, parameters = segment.partition(";")
        if looks_secret(front):
            front = MASK
        elif _SUSPECT.search(front):
            front = self.text(front, depth + 1) if "%" not in front else self._decoded(front, depth + 1)
        return front + semicolon + (parameters and self.query(parameters, depth + 1))

    def _decoded(self, text: str, depth: int) -> str:
        """Look into a text that may be encoded (once more)."""
        decoded = unquote(text) if "%" in text else text
        if decoded == text:
            return text
        masked = self.text(decoded, depth + 1)
        return text if masked == decoded else quote(masked, safe="*")

    def _json(self, text: str, depth: int) -> str:
        try:
            parsed = json.loads(text)
            masked = self._inside(parsed, depth + 1)
        except ValueError:
            return text
        except RecursionError:
            return MASK
        return text if masked == parsed else json.dumps(masked, separators=(",", ":"))

    def _inside(self, value: Any, depth: int) -> Any:
        # The filter knows its own names only, where it looks into dicts.
        if type(value) is dict:
            return {
                key: MASK
                if isinstance(key, str) and key.lower() not in self._unmasked and is_secret_name(key)
                else self._inside(entry, depth)
                for key, entry in value.items()
            }
        if type(value) in (list, tuple):
            return type(value)(self._inside(element, depth) for element in value)
        return self.text(value, depth) if type(value) is str else value


def mask_in_path(path: str, value: Any) -> str:
    """Return a path, escaped or not, without the value of a secret argument of the view."""
    text = str(value)
    for written in {text, escape_uri_path(text), quote(text)}:
        if len(written) >= _MIN_SUBSTRING:
            path = path.replace(written, MASK)
        elif written:
            path = "/".join(MASK if segment == written else segment for segment in path.split("/"))
    return path
