"""What `copies_request(...)` copies by name, and what it refuses."""

import asyncio
import datetime
import decimal
import enum
import io
import uuid
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpRequest
from django.test import AsyncClient, Client, RequestFactory
from django.utils.functional import SimpleLazyObject
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy

from django_qbwi import InvalidWorkItem, copies_request, snapshot_request
from tests.intake.pages import aduring, during


def test_headers_by_name() -> None:
    """Named headers are copied, found in any case; absent ones are not there."""
    request = RequestFactory().get("/", headers={"X-Tenant": "acme"})
    snapshot = snapshot_request(request, headers=("x-tenant", "X-Absent"))
    assert (snapshot.headers["X-TENANT"], snapshot.headers.get("X-Absent")) == ("acme", None)


def test_post_by_name() -> None:
    """Named POST values are copied with all their values, and no others."""
    request = RequestFactory().post("/", {"title": "x", "tag": ["a", "b"], "other": "y"})
    snapshot = snapshot_request(request, post=("title", "tag", "absent"))
    assert dict(snapshot.post) == {"title": ["x"], "tag": ["a", "b"]}


@pytest.mark.django_db
def test_session_by_key() -> None:
    """Named session values are copied, and no others."""

    def view(request: HttpRequest) -> Any:
        request.session["cart_id"] = 7
        request.session["other"] = 8
        return snapshot_request(request, session=("cart_id", "absent"))

    assert during(lambda: Client().get("/page/"), view).session == {"cart_id": 7}


@pytest.mark.django_db(transaction=True)
def test_session_that_was_not_loaded_on_the_loop() -> None:
    """On a running event loop a session that was not loaded is refused, with the cure."""

    async def view(request: HttpRequest) -> Any:
        with pytest.raises(InvalidWorkItem, match=r"await request\.session\.aget\('cart_id'\)"):
            snapshot_request(request, session=("cart_id",))
        await request.session.aget("cart_id")
        return snapshot_request(request, session=("cart_id",))

    assert asyncio.run(aduring(lambda: AsyncClient().get("/async/"), view)).session == {}


def test_session_without_the_middleware() -> None:
    """A request without a session says so."""
    with pytest.raises(InvalidWorkItem, match="SessionMiddleware"):
        snapshot_request(RequestFactory().get("/"), session=("cart_id",))


def test_files_by_name() -> None:
    """A named file is read into memory; the view can still read it from where it was."""
    photo = SimpleUploadedFile("sea.jpg", b"abcdef", "image/jpeg")
    request = RequestFactory().post("/", {"photo": photo})
    request.FILES["photo"].read(2)
    copy = snapshot_request(request, files=("photo", "absent")).files["photo"]
    assert (copy.name, copy.content_type, copy.size, copy.content) == ("sea.jpg", "image/jpeg", 6, b"abcdef")
    assert isinstance(copy.open(), ContentFile)
    assert copy.read() == copy.open().read() == b"abcdef"
    assert request.FILES["photo"].read() == b"cdef"


def test_file_that_is_too_large() -> None:
    """A file above the limit is refused, naming the file, its size and the cure."""
    request = RequestFactory().post("/", {"photo": SimpleUploadedFile("sea.jpg", b"abcdef")})
    with pytest.raises(InvalidWorkItem, match="'photo' has 6 bytes, more than 5: save it"):
        snapshot_request(request, files=("photo",), max_file_bytes=5)


def test_file_that_is_larger_than_it_says() -> None:
    """The limit holds for what is read, whatever the size that the file claims; no more than one byte above it is."""
    request = RequestFactory().post("/", {"photo": SimpleUploadedFile("sea.jpg", b"abcdefghi")})
    photo = request.FILES["photo"]
    photo.size = 1

    class Counted(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            assert size == 6
            return super().read(size)

    photo.file = Counted(photo.file.read())
    with pytest.raises(InvalidWorkItem, match="larger than 5 bytes, though it says 1"):
        snapshot_request(request, files=("photo",), max_file_bytes=5)


def test_file_limit_of_the_settings(settings: Any) -> None:
    """Without a limit of its own it is FILE_UPLOAD_MAX_MEMORY_SIZE."""
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 5
    request = RequestFactory().post("/", {"photo": SimpleUploadedFile("sea.jpg", b"abcdef")})
    with pytest.raises(InvalidWorkItem, match="more than 5"):
        snapshot_request(request, files=("photo",))
    request.close()


def test_computed_value_is_a_deep_copy() -> None:
    """A computed list does not change afterwards, and safe strings become plain ones."""
    tags = [mark_safe("a"), ["b"]]
    snapshot = snapshot_request(RequestFactory().get("/"), tags=lambda request: tags)
    tags[1].append("c")  # type: ignore[union-attr]
    assert snapshot.tags == ["a", ["b"]]
    assert type(snapshot.tags[0]) is str


def test_closed_file() -> None:
    """A file that the view has closed cannot be copied, and says so."""
    request = RequestFactory().post("/", {"photo": SimpleUploadedFile("sea.jpg", b"x")})
    request.FILES["photo"].close()
    with pytest.raises(InvalidWorkItem, match="'photo' was closed"):
        snapshot_request(request, files=("photo",))
    request.close()


SUBCLASSES: list[Any] = [
    type("Text", (str,), {})("a"),
    type("Moment", (datetime.datetime,), {})(2026, 1, 2, 3, 4, 5, 6, datetime.UTC, fold=1),
    type("Day", (datetime.date,), {})(2026, 1, 2),
    type("Time", (datetime.time,), {})(3, 4, 5, 6),
    type("Span", (datetime.timedelta,), {})(1, 2, 3),
    type("Id", (uuid.UUID,), {})(int=1),
    type("Amount", (decimal.Decimal,), {})("1.50"),
    enum.IntEnum("Level", {"LOW": 1}).LOW,  # type: ignore[attr-defined]
]


@pytest.mark.parametrize("value", SUBCLASSES, ids=lambda value: type(value).__name__)
def test_subclass_of_a_plain_type(value: Any) -> None:
    """Libraries that have dates of their own, and enum members, are copied as what they derive from."""
    copy = snapshot_request(RequestFactory().get("/"), value=lambda request: {"in": [value]}).value["in"][0]
    assert copy == value
    assert type(copy).__module__ in ("builtins", "datetime", "decimal", "uuid")


class Loaded(Exception):
    """A lazy object was evaluated."""


def load() -> Any:
    """Say that somebody evaluated a lazy object."""
    raise Loaded


def anonymous_model() -> Any:
    """Return an unsaved model instance."""
    from django.contrib.auth.models import Group

    return Group(name="x")


@pytest.mark.parametrize(
    ("value", "cure"),
    [
        (lambda: anonymous_model(), "primary key"),
        (lambda: type(anonymous_model()).objects.all(), "values_list"),
        (lambda: SimpleLazyObject(load), "lazy"),
        (lambda: gettext_lazy("yes"), "lazy"),
        (lambda: ContentFile(b"x"), r"files=\(\.\.\.\)"),
        (lambda: {1, 2}, "frozenset"),
        (lambda: RequestFactory().get("/"), "copy values of it"),
        (lambda: datetime, "plain values"),
        (lambda: [1, {"a": object()}], "plain values"),
    ],
)
def test_computed_value_that_is_not_plain(value: Any, cure: str) -> None:
    """What is not plain is refused without evaluating it; the message names the field and the cure."""
    with pytest.raises(InvalidWorkItem, match=rf"^tenant.*{cure}"):
        snapshot_request(RequestFactory().get("/"), tenant=lambda request: value())


def test_endless_value() -> None:
    """A list that contains itself is refused."""
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(InvalidWorkItem, match="deep"):
        snapshot_request(RequestFactory().get("/"), tenant=lambda request: endless)


async def fetch(request: HttpRequest) -> int:
    """Compute something asynchronously."""
    return 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"user_id": lambda request: 1}, "user_id is an attribute"),
        ({"get_user": lambda request: 1}, "get_user is an attribute"),
        ({"_x": lambda request: 1}, "_x is an attribute"),
        ({"header": ("X-Tenant",)}, "header=.*function of the request"),
        ({"headers": "X-Tenant"}, r"headers=\(\"X-Tenant\",\)"),
        ({"post": 5}, "post is 5"),
        ({"files": ("",)}, "files is"),
        ({"max_file_bytes": -1}, "max_file_bytes is -1"),
        ({"tenant": fetch}, "tenant is computed by an async function"),
    ],
)
def test_wrong_options_are_refused_at_decoration(options: Any, message: str) -> None:
    """A wrong option is refused where the function is decorated, and named."""
    with pytest.raises(InvalidWorkItem, match=message):
        copies_request(**options)


def test_coroutine_as_a_computed_value() -> None:
    """A function that returns a coroutine is refused at the call, and the coroutine is closed."""
    with pytest.raises(InvalidWorkItem, match="async function"):
        snapshot_request(RequestFactory().get("/"), tenant=lambda request: fetch(request))
