"""`RequestSnapshot`: a frozen value that survives pickle and JSON, and shows no secrets."""

import dataclasses
import datetime
import decimal
import gc
import json
import pickle
import uuid
import weakref
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.core.exceptions import DisallowedHost
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.test import AsyncRequestFactory, RequestFactory
from django.utils.functional import SimpleLazyObject

from django_qbwi import InvalidWorkItem, RequestSnapshot, UserNotRead, snapshot_request
from django_qbwi.intake.snapshot import make

VALUES = {
    "number": 3,
    "text": "ü",
    "nothing": None,
    "data": b"\x00\xff",
    "price": decimal.Decimal("1.10"),
    "key": uuid.UUID(int=7),
    "moment": datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC),
    "day": datetime.date(2026, 1, 2),
    "hour": datetime.time(3, 4),
    "span": datetime.timedelta(days=1, microseconds=5),
    "pair": (1, (2, "x")),
    "names": frozenset({"a"}),
    "tree": {"a": [1, {"$": 2}], "b": {1: 2}},
}


def full_snapshot() -> RequestSnapshot:
    """Return a snapshot with something in each of its parts."""
    request = RequestFactory().post(
        "/page/?q=1&q=2",
        {"title": "Sea", "photo": SimpleUploadedFile("sea.jpg", b"\xff\xd8", "image/jpeg")},
        headers={"X-Tenant": "acme", "Referer": "https://example.org/"},
    )
    computed = {name: lambda request, value=value: value for name, value in VALUES.items()}
    return snapshot_request(request, headers=("X-Tenant",), post=("title",), files=("photo",), **computed)


def test_is_frozen() -> None:
    """No field can be set."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        full_snapshot().path = "/"  # type: ignore[misc]


def test_survives_pickle() -> None:
    """A pickled snapshot is equal when it comes back."""
    snapshot = full_snapshot()
    assert pickle.loads(pickle.dumps(snapshot)) == snapshot


def test_survives_json() -> None:
    """What `to_dict` returns can be written as JSON, and `from_dict` makes an equal snapshot of it."""
    snapshot = full_snapshot()
    copy = RequestSnapshot.from_dict(json.loads(json.dumps(snapshot.to_dict())))
    assert copy == snapshot
    assert copy.extra == VALUES
    assert copy.files["photo"].open().read() == b"\xff\xd8"
    assert (copy.GET.getlist("q"), copy.post["title"], copy.headers["x-tenant"]) == (["1", "2"], "Sea", "acme")


def test_from_dict_takes_what_is_there() -> None:
    """Missing fields get their defaults and unknown ones are ignored: two versions may talk to each other."""
    assert RequestSnapshot.from_dict({"path": "/a/", "from_the_future": 1}) == RequestSnapshot(path="/a/")


@pytest.mark.parametrize("factory", [RequestFactory(), AsyncRequestFactory()], ids=["wsgi", "asgi"])
@pytest.mark.parametrize("is_parsed", [True, False])
def test_keeps_nothing_alive(factory: Any, is_parsed: bool) -> None:
    """A snapshot with all that can be in one keeps neither the request alive nor its user, session and file."""
    uploaded = SimpleUploadedFile("sea.jpg", b"x")
    request: Any = factory.post("/?q=1", {"title": "Sea", "photo": uploaded}, headers={"X-Tenant": "acme"})
    request.user = SimpleLazyObject(lambda: AnonymousUser() if request else None)
    request.session = SessionStore()
    request.session["cart"] = [1]
    if is_parsed:
        assert request.GET["q"] == "1"
        assert not request.user.is_authenticated
    options: Any = {"headers": ("X-Tenant",), "post": ("title",), "session": ("cart",), "files": ("photo",)}
    snapshot = snapshot_request(request, **options, tenant=lambda request: request.headers["X-Tenant"])
    kept = [weakref.ref(part) for part in (request, request.session, request.FILES["photo"])]
    request.close()
    request = None
    gc.collect()
    assert [reference() for reference in kept] == [None, None, None]
    assert (snapshot.GET["q"], snapshot.tenant, snapshot.files["photo"].read()) == ("1", "acme", b"x")


def test_comparison() -> None:
    """Snapshots of equal requests are equal and hash alike, others differ."""
    one, two = (snapshot_request(RequestFactory().get("/page/?q=1")) for _ in range(2))
    assert (one, hash(one)) == (two, hash(two))
    assert one != snapshot_request(RequestFactory().get("/page/?q=2"))
    assert one != "a text"


def test_repr_shows_no_secrets() -> None:
    """The repr has method and masked path, and neither headers nor values."""
    many = snapshot_request(RequestFactory().get("/?" + "&a=1" * 2000))
    assert repr(many).startswith("<RequestSnapshot GET '/?&a=1")
    request = RequestFactory().get("/page/?token=abc&q=1", headers={"Authorization": "Basic abc"})
    request.user = None
    text = repr(
        snapshot_request(request, headers=("Authorization",), unmasked=("Authorization",), extra_one=lambda r: "abc")
    )
    assert text == "<RequestSnapshot GET '/page/?token=********************&q=1'>"


def test_computed_values_are_attributes() -> None:
    """A computed value is read as an attribute; one that was not copied raises, with the cure."""
    snapshot = snapshot_request(RequestFactory().get("/"), tenant=lambda request: 7)
    assert (snapshot.tenant, snapshot.extra) == (7, {"tenant": 7})
    with pytest.raises(AttributeError, match="copies_request\\(shop=lambda request"):
        snapshot.shop  # noqa: B018


def test_unread_user_raises() -> None:
    """The user's fields of a snapshot without a user raise, also after pickle and JSON; it can be compared."""
    snapshot = make({"path": "/a/"}, user_was_read=False)
    for copy in (
        snapshot,
        pickle.loads(pickle.dumps(snapshot)),
        RequestSnapshot.from_dict(json.loads(json.dumps(snapshot.to_dict()))),
    ):
        assert copy == snapshot
        assert copy != RequestSnapshot(path="/a/")
        for read in (lambda c: c.user_id, lambda c: c.username, lambda c: c.is_authenticated, lambda c: c.get_user()):
            with pytest.raises(UserNotRead, match=r"await request\.auser\(\)"):
                read(copy)


@pytest.mark.parametrize(
    "location",
    ["/b/", "/b/?q=ü", "c/", "../d/", "//cdn.example.org/x", "https://other.example.org/", "?page=2", "/a/../b", ""],
)
@pytest.mark.parametrize("secure", [False, True])
def test_build_absolute_uri(location: str, secure: bool, settings: Any) -> None:
    """For any given location it is what the request itself returns, behind a proxy as well."""
    settings.USE_X_FORWARDED_HOST = True
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    headers = {"X-Forwarded-Host": "example.org"} | ({"X-Forwarded-Proto": "https"} if secure else {})
    request = RequestFactory().get("/albums/5/", headers=headers)
    assert snapshot_request(request).build_absolute_uri(location) == request.build_absolute_uri(location)


def test_build_absolute_uri_without_location() -> None:
    """Without a location it is the request's own, with the query masked."""
    request = RequestFactory().get("//albums/ü/?q=1")
    assert snapshot_request(request).build_absolute_uri() == request.build_absolute_uri()
    request = RequestFactory().get("/albums/?token=abc")
    assert snapshot_request(request).build_absolute_uri() == "http://testserver/albums/?token=********************"


def test_host_that_is_not_allowed() -> None:
    """A request for a host that is not allowed can be copied; building a URI on it raises, as the request does."""
    snapshot = snapshot_request(RequestFactory().get("/", headers={"Host": "evil.example.com"}))
    assert snapshot.host is None
    assert snapshot.build_absolute_uri("https://example.org/") == "https://example.org/"
    with pytest.raises(DisallowedHost):
        snapshot.build_absolute_uri("/")


def test_request_made_by_hand() -> None:
    """A bare HttpRequest can be copied, and a snapshot can be made without any request: for unit tests."""
    request = HttpRequest()
    request.GET["q"] = "1"
    request.method = "GET"
    assert snapshot_request(request).GET["q"] == "1"
    assert RequestSnapshot(path="/a/", user_id=3).user_id == 3


def test_what_is_no_request() -> None:
    """Anything else is refused, a response that has its request by the name of a wrapper's, too."""
    with pytest.raises(InvalidWorkItem, match="is no request"):
        snapshot_request(TemplateResponse(RequestFactory().get("/"), "page.html"))
    with pytest.raises(InvalidWorkItem, match="no request"):
        snapshot_request("GET /")
