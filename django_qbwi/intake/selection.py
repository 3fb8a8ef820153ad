"""What is copied beyond the default fields: named headers, POST values, session values, files, and computed values."""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest
from django.utils.datastructures import CaseInsensitiveMapping, MultiValueDict

from django_qbwi.core.exceptions import InvalidWorkItem
from django_qbwi.core.names import name_of
from django_qbwi.intake import reading
from django_qbwi.intake.masking import Mask
from django_qbwi.intake.plain import copy_plain, text_of
from django_qbwi.intake.snapshot import FIELDS, RequestSnapshot, UploadedFileCopy, make, query_of

_RESERVED = frozenset(FIELDS) | frozenset(dir(RequestSnapshot)) | {"unmasked", "max_file_bytes"}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The names given to `copies_request` or `snapshot_request`, checked."""

    headers: tuple[str, ...] = ()
    post: tuple[str, ...] = ()
    session: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    unmasked: frozenset[str] = frozenset()
    max_file_bytes: int | None = None
    computed: Mapping[str, Callable[[Any], Any]] = dataclasses.field(default_factory=dict)

    def snapshot(self, given: Any) -> RequestSnapshot:
        """Copy a request, an HttpRequest or one that wraps it, in the caller's thread.

        Raises:
            InvalidWorkItem: It is no request, or a value cannot be copied.
        """
        request = reading.http_request_of(given)
        if request is None:
            raise InvalidWorkItem(f"{name_of(type(given))} is no request: give an HttpRequest")
        mask = Mask(request, self.unmasked)
        values = reading.read_request(request, mask)
        user = reading.read_user(given, request)
        if user is not None:
            values.update(user)
        if self is not NOTHING_MORE:
            self._add(values, given, request, mask)
        return make(values, user_was_read=user is not None, query_is_parsed="GET" in values)

    def _add(self, values: dict[str, Any], given: Any, request: HttpRequest, mask: Mask) -> None:
        if self.headers:
            values["headers"] = CaseInsensitiveMapping(
                {
                    name: mask.header(name, text_of(request.headers[name]))
                    for name in self.headers
                    if name in request.headers
                }
            )
        if self.post:
            values["post"] = query_of(mask.post(given.POST, self.post))
        if self.session:
            values["session"] = _session(request, self.session, mask)
        if self.files:
            values["files"] = self._files(given.FILES)
        values["extra"] = {name: self._compute(name, given) for name in self.computed}

    def _files(self, uploaded: MultiValueDict[str, UploadedFile[Any]]) -> MultiValueDict[str, UploadedFileCopy]:
        limit = settings.FILE_UPLOAD_MAX_MEMORY_SIZE if self.max_file_bytes is None else self.max_file_bytes
        return MultiValueDict(
            {
                name: [_file(name, file, limit) for file in uploaded.getlist(name)]
                for name in self.files
                if name in uploaded
            }
        )

    def _compute(self, name: str, given: Any) -> Any:
        value = self.computed[name](given)
        # By type: isinstance() asks a lazy object for its class, which loads it.
        if type(value) is types.CoroutineType:
            value.close()
            raise InvalidWorkItem(f"{name} is computed by an async function: await in the view, and pass the result")
        return copy_plain(value, name)


NOTHING_MORE = Selection()


def select(
    *,
    headers: Iterable[str] = (),
    post: Iterable[str] = (),
    session: Iterable[str] = (),
    files: Iterable[str] = (),
    unmasked: Iterable[str] = (),
    max_file_bytes: int | None = None,
    **computed: Callable[[Any], Any],
) -> Selection:
    """Check the options of `copies_request`.

    Raises:
        InvalidWorkItem: One of them is wrong; the message names it.
    """
    named = {
        option: _names(option, names)
        for option, names in {
            "headers": headers,
            "post": post,
            "session": session,
            "files": files,
            "unmasked": unmasked,
        }.items()
    }
    if max_file_bytes is not None and (type(max_file_bytes) is not int or max_file_bytes < 0):
        raise InvalidWorkItem(f"max_file_bytes is {max_file_bytes!r}: give a number of bytes, 0 or more")
    for name, function in computed.items():
        _check_computed(name, function)
    if not any(named.values()) and not computed and max_file_bytes is None:
        return NOTHING_MORE
    lowered = frozenset(name.lower() for name in named.pop("unmasked"))
    return Selection(**named, unmasked=lowered, max_file_bytes=max_file_bytes, computed=computed)


def _names(option: str, names: Any) -> tuple[str, ...]:
    if isinstance(names, (str, bytes)):
        raise InvalidWorkItem(f'{option} is {names!r}: give a tuple of names, such as {option}=("{names!s}",)')
    found = tuple(names) if isinstance(names, Iterable) else (None,)
    if not all(isinstance(name, str) and name for name in found):
        raise InvalidWorkItem(f"{option} is {names!r}: give a tuple of names")
    return found


def _check_computed(name: str, function: Any) -> None:
    if name in _RESERVED or name.startswith("_"):
        raise InvalidWorkItem(f"{name} is an attribute of every RequestSnapshot: give the computed value another name")
    if not callable(function):
        raise InvalidWorkItem(
            f"{name}={function!r}: a computed value needs a function of the request, such as {name}=lambda request: ..."
        )
    if inspect.iscoroutinefunction(function):
        raise InvalidWorkItem(f"{name} is computed by an async function: await in the view, and pass the result")


def _session(request: HttpRequest, names: tuple[str, ...], mask: Mask) -> dict[str, Any]:
    session = request.__dict__.get("session")
    if session is None:
        raise InvalidWorkItem(f"session={names!r}: the request has no session; is SessionMiddleware installed?")
    if not hasattr(session, "_session_cache") and reading.on_running_loop():
        raise InvalidWorkItem(
            f"session={names!r}: the session was not loaded, and cannot be on a running event loop: in the view, "
            f"`await request.session.aget({names[0]!r})` first"
        )
    return {
        name: copy_plain(mask.value(name, session[name]), f"session[{name!r}]") for name in names if name in session
    }


def _file(field: str, file: UploadedFile[Any], limit: int) -> UploadedFileCopy:
    if file.closed:
        raise InvalidWorkItem(
            f"files: {field!r} was closed before it was copied: queue the item first, or pass its name"
        )
    size = file.size or 0
    if size > limit:
        raise InvalidWorkItem(
            f"files: {field!r} has {size} bytes, more than {limit}: save it in the view and pass its name or primary "
            "key, or raise max_file_bytes"
        )
    position = file.tell()
    try:
        file.seek(0)
        content = file.read(limit + 1)
    finally:
        file.seek(position)
    if len(content) > limit:
        raise InvalidWorkItem(f"files: {field!r} is larger than {limit} bytes, though it says {size}")
    return UploadedFileCopy(
        name=file.name, content_type=file.content_type, size=len(content), charset=file.charset, content=content
    )
