"""What an item knows of its request: a frozen copy of plain values."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urljoin, urlsplit

from asgiref.sync import sync_to_async
from django.contrib.auth import get_backends
from django.core.exceptions import DisallowedHost
from django.core.files.base import ContentFile
from django.http import QueryDict
from django.utils.datastructures import CaseInsensitiveMapping, MultiValueDict
from django.utils.encoding import iri_to_uri

from django_qbwi.core.exceptions import UserNotRead
from django_qbwi.core.names import printable
from django_qbwi.intake.plain import from_json, to_json

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser
    from django.contrib.auth.models import AnonymousUser


def query_of(lists: Mapping[str, list[str]]) -> QueryDict:
    """Return an immutable QueryDict with all values of `lists`."""
    query = QueryDict("", mutable=True)
    for name, values in lists.items():
        query.setlist(name, values)
    query._mutable = False
    return query


USER_FIELDS = ("user_id", "username", "is_authenticated")


@functools.cache
def _no_query() -> QueryDict:
    # One for all, since it cannot change; not made at import, since it reads settings.
    return QueryDict("", encoding="utf-8")


_NO_HEADERS: CaseInsensitiveMapping[str] = CaseInsensitiveMapping({})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class UploadedFileCopy:
    """An uploaded file that was named in `copies_request(files=...)`, read into memory."""

    name: str | None
    content_type: str | None
    size: int
    """In bytes."""
    charset: str | None
    content: bytes = dataclasses.field(repr=False)

    def open(self) -> ContentFile[bytes]:
        """Return a new file object to read from, or to give to a model's file field."""
        return ContentFile(self.content, name=self.name)

    def read(self) -> bytes:
        """Return the whole content."""
        return self.content


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class RequestSnapshot:
    """A copy of what is worth knowing of a request, without the request.

    - Plain values only; it can be pickled, compared, and written as JSON with `to_dict`.
    - An allow-list: neither Authorization, cookies, CSRF tokens, session data nor POST are in it unless named in
      `copies_request` or `snapshot_request`.
    - `path`, `full_path`, `GET`, `view_kwargs` and `referer` have one mask: values of secret-looking names are masked,
      and segments of a path that look like tokens.
    - A value that `copies_request` computed is an attribute, too.

    Every field has a default, so that a test can make one by hand.
    """

    method: str | None = "GET"
    path: str = "/"
    """The path with the script name, masked; as it is with `unmasked=("path",)`."""
    full_path: str = "/"
    """Path and query string, escaped and masked."""
    scheme: str = "http"
    host: str | None = None
    """As `request.get_host()`; None if the request's host is not allowed."""
    GET: QueryDict = dataclasses.field(default_factory=_no_query)
    content_type: str | None = None
    user_id: Any = None
    """Primary key of the user, None for an anonymous one."""
    username: str | None = None
    """None where unknown, "" for an anonymous user."""
    is_authenticated: bool | None = None
    """None where unknown: the session names a user whom the view did not load."""
    language: str | None = None
    time_zone: str | None = None
    script_name: str = ""
    urlconf: str | None = None
    """The URLconf that a middleware had set, None for that of the settings."""
    view_name: str | None = None
    view_kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)
    remote_addr: str | None = None
    user_agent: str = ""
    referer: str = ""
    request_id: str | None = None
    traceparent: str | None = None
    """The W3C trace context that came with the request."""
    headers: CaseInsensitiveMapping[str] = dataclasses.field(default_factory=lambda: _NO_HEADERS)
    post: QueryDict = dataclasses.field(default_factory=_no_query)
    session: dict[str, Any] = dataclasses.field(default_factory=dict)
    files: MultiValueDict[str, UploadedFileCopy] = dataclasses.field(default_factory=MultiValueDict)
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The computed values, by name."""

    def __repr__(self) -> str:
        try:
            user = "" if self.user_id is None else f" user_id={self.user_id!r}"
        except UserNotRead:
            user = ""
        return f"<RequestSnapshot {self.method} {printable(self.full_path)!r}{user}>"

    def __getattr__(self, name: str) -> Any:
        # Reached for what is no field, and for a field that was left unset.
        if name in USER_FIELDS:
            _raise_user_not_read(name)
        if name == "GET":
            # Parsed when it is asked for, which few items do; a view that did so has it copied.
            query = QueryDict(self.full_path.partition("?")[2])
            object.__setattr__(self, "GET", query)
            return query
        if not name.startswith("__"):
            extra = object.__getattribute__(self, "extra")
            if name in extra:
                return extra[name]
        raise AttributeError(
            f"this RequestSnapshot has no {name!r}: copy it with copies_request({name}=lambda request: ...)"
        )

    def __eq__(self, other: object) -> bool:
        if type(other) is not RequestSnapshot:
            return NotImplemented
        return self._state() == other._state()

    def __hash__(self) -> int:
        return hash((self.method, self.full_path, self.host, self.remote_addr, self.request_id))

    def __reduce__(self) -> tuple[Any, ...]:
        # Not __getstate__: in Python 3.11.2 (no more in 3.11.7) a frozen dataclass with slots replaces it by its own,
        # which reads all fields, also those that raise.
        return _restore, (self._state(),)

    @property
    def origin(self) -> str:
        """Method and masked path, for lists and logs."""
        return printable(f"{self.method} {self.full_path.partition('?')[0]}")

    def build_absolute_uri(self, location: str | None = None) -> str:
        """Return what `request.build_absolute_uri(location)` returned; without one, for the masked full path.

        Raises:
            DisallowedHost: It takes the request's host, which was not allowed.
        """
        # The steps of HttpRequest.build_absolute_uri.
        location = f"//{self.full_path}" if location is None else str(location)
        bits = urlsplit(location)
        if not (bits.scheme and bits.netloc):
            if self.host is None:
                raise DisallowedHost("the host of this request was not allowed, or not known")
            base = f"{self.scheme}://{self.host}"
            if (
                bits.path.startswith("/")
                and not bits.scheme
                and not bits.netloc
                and "/./" not in bits.path
                and "/../" not in bits.path
            ):
                location = base + location.removeprefix("//")
            else:
                location = urljoin(base + self.path, location)
        return iri_to_uri(location)

    def get_user(self) -> AbstractBaseUser | AnonymousUser:
        """Fetch the user now, from the database; an AnonymousUser if there was none, or is none any more.

        As with `request.user`, an authentication backend decides: by default an inactive user is anonymous.

        Raises:
            UserNotRead: The snapshot was taken on a running event loop before the user was loaded.
        """
        from django.contrib.auth.models import AnonymousUser  # only where contrib.auth is installed

        if self.user_id is not None:
            for backend in get_backends():
                user = backend.get_user(self.user_id)
                if user is not None:
                    return user
        return AnonymousUser()

    async def aget_user(self) -> AbstractBaseUser | AnonymousUser:
        """The same for async items."""
        return await sync_to_async(self.get_user)()

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON; `from_dict` takes it back."""
        state = self._state()
        return {name: _WRITERS.get(name, to_json)(value) for name, value in state.items()} | {
            "user_was_read": USER_FIELDS[0] in state
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RequestSnapshot:
        """Return the snapshot that `to_dict` described; what is missing gets its default, unknown keys are ignored."""
        values = {name: _READERS.get(name, from_json)(data[name]) for name in FIELDS if name in data}
        return make(values, user_was_read=data.get("user_was_read", True))

    def _state(self) -> dict[str, Any]:
        state = {}
        for name in FIELDS:
            try:
                state[name] = getattr(self, name)
            except UserNotRead:
                continue
        return state


FIELDS = tuple(field.name for field in dataclasses.fields(RequestSnapshot))
_SLOTS = tuple(
    (
        field.name,
        vars(RequestSnapshot)[field.name].__set__,
        field.default,
        None if field.default_factory is dataclasses.MISSING else field.default_factory,
    )
    for field in dataclasses.fields(RequestSnapshot)
)


def make(values: dict[str, Any], *, user_was_read: bool = True, query_is_parsed: bool = True) -> RequestSnapshot:
    """Return a snapshot of `values`; reading its user raises if that was not read."""
    # As `RequestSnapshot(**values)`, which takes four times as long: for a frozen class it goes through setattr().
    snapshot = object.__new__(RequestSnapshot)
    for name, set_slot, default, make_default in _SLOTS:
        if name in values:
            set_slot(snapshot, values[name])
        elif make_default is not None:
            if not query_is_parsed and name == "GET":
                continue
            set_slot(snapshot, make_default())
        elif user_was_read or name not in USER_FIELDS:
            set_slot(snapshot, default)
    return snapshot


def _restore(state: dict[str, Any]) -> RequestSnapshot:
    snapshot = object.__new__(RequestSnapshot)
    for name, value in state.items():
        object.__setattr__(snapshot, name, value)
    return snapshot


def _raise_user_not_read(name: str) -> NoReturn:
    raise UserNotRead(
        f"the snapshot has no {name}: it was taken on a running event loop, where the user of the request had not been "
        "loaded, and loading it would have blocked. In the view, `await request.auser()` first"
    )


def _write_lists(values: MultiValueDict[str, Any]) -> dict[str, list[Any]]:
    return dict(values.lists())


def _write_files(files: MultiValueDict[str, UploadedFileCopy]) -> dict[str, list[dict[str, Any]]]:
    return {name: [to_json(dataclasses.asdict(file)) for file in copies] for name, copies in files.lists()}


def _read_files(lists: dict[str, list[dict[str, Any]]]) -> MultiValueDict[str, UploadedFileCopy]:
    return MultiValueDict(
        {name: [UploadedFileCopy(**from_json(copy)) for copy in copies] for name, copies in lists.items()}
    )


_WRITERS: dict[str, Callable[[Any], Any]] = {
    "GET": _write_lists,
    "post": _write_lists,
    "files": _write_files,
    "headers": dict,
}
_READERS: dict[str, Callable[[Any], Any]] = {
    "GET": query_of,
    "post": query_of,
    "files": _read_files,
    "headers": CaseInsensitiveMapping,
}
