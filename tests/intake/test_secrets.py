"""G36: one mask for everything that is an address, wherever it stands: in a snapshot, its JSON, repr and pickle, in the
origin of an item, and in its records."""

import json
import logging
import pickle
import secrets
import uuid
from typing import Any
from urllib.parse import quote

import pytest
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory, override_settings
from django.urls import include, path, re_path

from django_qbwi import copies_request, queue_background_work_item, snapshot_request
from django_qbwi.intake.masking import MASK
from django_qbwi.intake.secrecy import is_secret_name, looks_secret

PATIENCE = 30
HIDDEN = "hidden-value"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
TOKEN = "Drmhze6EPcv0fN_81Bj-nA"  # as secrets.token_urlsafe(16) makes them

taken: list[Any] = []
options: dict[str, Any] = {}


def work(token: object, snapshot: Any) -> None:
    """Run, and fail, so that a record is written."""
    raise ValueError("for the record")


def view(request: HttpRequest, *args: str, **kwargs: str) -> HttpResponse:
    """Queue an item with a snapshot, and keep all that tells of it."""
    snapshot = snapshot_request(request, **options)
    handle = queue_background_work_item(copies_request(**options)(work), request)
    assert handle.wait(PATIENCE)
    taken.append((snapshot, handle))
    return HttpResponse(snapshot.full_path)


urlpatterns = [
    re_path(r"^reset/([^/]+)/$", view),
    re_path(r"^nested/([0-9]+)/", include([re_path(r"^([^/]+)/$", view)])),
    re_path(r"^mixed/(?P<album>[0-9]+)/([^/]+)/$", view),
    re_path(r"^optional/(?:([^/]+)/)?$", view),
    path("named/<str:link>/", view),
    path("deep/<path:rest>", view),
]


@pytest.fixture(autouse=True)
def site() -> Any:
    """Serve the views of this module."""
    taken.clear()
    options.clear()
    with override_settings(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["testserver"], QBWI={}):
        yield


def everywhere(caplog: Any) -> str:
    """Return all text by which the last request shows."""
    snapshot, handle = taken[-1]
    restored = pickle.loads(pickle.dumps(snapshot))
    assert restored == snapshot
    assert restored.GET == snapshot.GET
    return " ".join(
        [
            json.dumps(snapshot.to_dict()),
            repr(snapshot),
            repr(pickle.dumps(snapshot)),
            snapshot.origin,
            json.dumps(handle.info.to_dict()),
            repr(handle),
            caplog.text,
            *(str(record.__dict__.get("qbwi")) for record in caplog.records),
        ]
    )


def ask(address: str, caplog: Any, **headers: str) -> str:
    """Ask for a page; return all text by which that request shows."""
    with caplog.at_level(logging.DEBUG, logger="django_qbwi"):
        Client().get(address, headers=headers)
    return everywhere(caplog)


@pytest.mark.parametrize(
    "name",
    [
        "code",
        "ticket",
        "SAMLResponse",
        "SAMLart",
        "pw",
        "user[pw]",
        "newPw2",
        "hmac",
        "X-Amz-Signature",
        "openid.sig",
        "PHPSESSID",
        "verification_code",
        "signed_request",
        "code_verifier",
    ],
)
def test_g36_name_of_a_parameter(name: str, caplog: Any) -> None:
    """What is secret by its name is masked in the query, read by the view or not."""
    assert HIDDEN not in ask(f"/deep/a?{quote(name)}={HIDDEN}&page=1", caplog)
    snapshot = taken[-1][0]
    assert (snapshot.GET[name], snapshot.GET["page"]) == (MASK, "1")


@pytest.mark.parametrize(
    "name", ["country_code", "ticket_id", "q", "page", "sort", "pinned", "signs", "uidb64", "status_codes", "designer"]
)
def test_g36_harmless_names(name: str) -> None:
    """Names that only begin like secret ones are not masked."""
    assert snapshot_request(RequestFactory().get(f"/?{name}=shown")).full_path == f"/?{name}=shown"


def test_g36_endless_name() -> None:
    """A name that is longer than any name is masked, and not searched."""
    assert is_secret_name("a" * 201)
    assert not is_secret_name("a" * 200)


ADDRESSES = [
    (f"https://ada:{HIDDEN}@example.org/a", f"https://{MASK}@example.org/a"),
    ("https://ada:hidden@value@example.org/a", f"https://{MASK}@example.org/a"),
    ("https://ada:hid/den?va#lue@example.org/a", f"https://{MASK}@example.org/a"),
    (f"https://{HIDDEN}@example.org:8000/", f"https://{MASK}@example.org:8000/"),
    (f"//ada:{HIDDEN}@example.org/", f"//{MASK}@example.org/"),
    (f"https://example.org/a;jsessionid={HIDDEN}", f"https://example.org/a;jsessionid={MASK}"),
    (f"https://example.org/a;v=1;jsessionid={HIDDEN}/b", f"https://example.org/a;v=1;jsessionid={MASK}/b"),
    (f"https://example.org/?a=1;token={HIDDEN}", f"https://example.org/?a=1;token={MASK}"),
    (f"https://example.org/#access_token={HIDDEN}&a=1", f"https://example.org/#access_token={MASK}&a=1"),
    (f"https://example.org/#/welcome?token={HIDDEN}", f"https://example.org/#/welcome?token={MASK}"),
    (f"https://example.org/#{TOKEN}", f"https://example.org/#{MASK}"),
    (f"https://example.org/?{TOKEN}", f"https://example.org/?{MASK}"),
    (f"https://example.org/?{TOKEN}=", f"https://example.org/?{MASK}="),
    (f"https://example.org/reset/{TOKEN}/", f"https://example.org/reset/{MASK}/"),
    (f"https://example.org/?next=/a?token={HIDDEN}", f"https://example.org/?next=/a?token={MASK}"),
    (f"https://example.org/?lang={JWT}", f"https://example.org/?lang={MASK}"),
]


@pytest.mark.parametrize(("address", "shown"), ADDRESSES)
def test_g36_referer(address: str, shown: str, caplog: Any) -> None:
    """The address of the page before is masked in all its parts, as a default field and as a named header."""
    options["headers"] = ("Referer",)
    text = ask("/deep/a", caplog, Referer=address)
    snapshot = taken[-1][0]
    assert (snapshot.referer, snapshot.headers["referer"]) == (shown, shown)
    for secret in (HIDDEN, "hid/den", "hidden@", "value@", TOKEN, JWT):
        assert secret not in text


@pytest.mark.parametrize(
    "address",
    [
        "https://example.org/a/b.html?page=2&q=my+password&tags=a;b#chapter-2",
        "https://example.org:8000/@ada/posts/how-to-2024-my-best-article-9/",
        "https://example.org/reports/2026-01-02T12:34:56Z/123e4567-e89b-12d3-a456-426614174000/",
        "https://example.org/IMG_20240102_123456.jpg?size=100%25&ratio=4:3",
        "http://[::1]:8000/a?mail=ada@example.org",
        "android-app://org.example/https/example.org/MyVeryLongArticleNameHere",
        "https://d111111abcdef8.a1b2c3d4e5f6g7h8.example.org/",
        "about:blank",
    ],
)
def test_g36_harmless_addresses(address: str) -> None:
    """Nothing is touched in an address without secrets: host, words, dates, UUIDs, mail addresses."""
    request = RequestFactory().get("/", headers={"Referer": address})
    snapshot = snapshot_request(request, headers=("Referer",))
    assert (snapshot.referer, snapshot.headers["Referer"]) == (address, address)


NESTED = f"/a?token={HIDDEN}"


@pytest.mark.parametrize(
    "value",
    [
        quote(NESTED),
        quote(f"https://example.org{NESTED}"),
        quote(quote(quote(NESTED))),
        quote("/b?next=" + quote(NESTED)),
        quote(f"a?code={HIDDEN}"),
        quote(f"page=1&token={HIDDEN}"),
        quote(f'{{"user": {{"pw": "{HIDDEN}"}}}}'),
        quote(f'["{NESTED}"]'),
        quote(f"/b#access_token={HIDDEN}"),
        quote(f"https://ada:{HIDDEN}@example.org/"),
    ],
)
@pytest.mark.parametrize("read", [False, True])
def test_g36_token_inside_of_a_value(value: str, read: bool) -> None:
    """An address, a query or JSON inside of a value is masked like any other, however often it is encoded."""
    request = RequestFactory().get(f"/?next={value}&page=1")
    if read:
        assert "page" in request.GET
    snapshot = snapshot_request(request)
    assert HIDDEN not in str(snapshot.to_dict())
    assert MASK in str(snapshot.GET["next"])
    assert snapshot.GET["page"] == "1"


@pytest.mark.parametrize("query", ["a=" * 20_000 + HIDDEN, "a=?" * 20_000 + HIDDEN, "a=" + quote("{[" * 20_000)])
def test_g36_inside_of_too_much(query: str) -> None:
    """What is nested deeper than anybody nests is masked as a whole, without end in sight or not."""
    snapshot = snapshot_request(RequestFactory().get(f"/?{query}"))
    assert snapshot.GET["a"].endswith(MASK) or HIDDEN not in query
    assert HIDDEN not in snapshot.full_path


@pytest.mark.parametrize("text", ["/#" * 20_000, "//a:b@" * 10_000, "-eyJ" * 20_000, ":" * 80_000, "//a:b/" * 10_000])
def test_g36_endless_addresses(text: str) -> None:
    """Whatever somebody sends as a referer is looked at once, or a few times, and never in a time of its square."""
    request = RequestFactory().get("/", headers={"Referer": f"{text}@x?token={HIDDEN}"})
    assert HIDDEN not in snapshot_request(request, headers=("Referer",)).headers["Referer"]


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (f"/reset/{HIDDEN}/", f"/reset/{MASK}/"),
        ("/reset/ab/", f"/reset/{MASK}/"),
        (f"/nested/5/{HIDDEN}/", f"/nested/5/{MASK}/"),
        (f"/mixed/5/{HIDDEN}/", f"/mixed/5/{MASK}/"),
        ("/reset/123/", "/reset/123/"),
        ("/reset/123e4567-e89b-12d3-a456-426614174000/", "/reset/123e4567-e89b-12d3-a456-426614174000/"),
        ("/optional/", "/optional/"),
        (f"/optional/{HIDDEN}/", f"/optional/{MASK}/"),
        ("/reset/hidden%20value/", f"/reset/{MASK}/"),
    ],
)
def test_g36_unnamed_group(address: str, shown: str, caplog: Any) -> None:
    """What a group without a name caught is masked, since no name says that it is harmless; but for ids."""
    text = ask(address, caplog)
    assert (taken[-1][0].path, taken[-1][0].full_path) == (shown, shown)
    assert HIDDEN not in text
    assert "hidden value" not in text


@pytest.mark.parametrize(
    "segment",
    [
        TOKEN,
        JWT,
        uuid.UUID(int=0x123E4567E89B12D3A456426614174000).hex,
        "3f2a9c1d4e5b6a7f3f2a9c1d4e5b6a7f3f2a9c1d",
        "c1x2y3-0123456789abcdef0123456789abcdef",
        "k3jf9a8s7d6f5g4h3j2k",
        f"invoice-{TOKEN}.pdf",
    ],
)
def test_g36_segment_that_looks_like_a_token(segment: str, caplog: Any) -> None:
    """A segment of the path with the shape of a token is masked, in the arguments of the view as well."""
    assert segment not in ask(f"/named/{segment}/", caplog)
    snapshot = taken[-1][0]
    assert snapshot.full_path == snapshot.path == f"/named/{MASK}/"
    assert snapshot.view_kwargs == {"link": MASK}


def test_g36_signed_segments(caplog: Any) -> None:
    """What django.core.signing makes is masked, in the path and under any name in the query."""
    for signed in (signing.dumps({"a": 1}), signing.Signer().sign("ada"), signing.TimestampSigner().sign("ada")):
        signature = signed.rpartition(":")[2]
        assert signature not in ask(f"/deep/x/{signed}?who={signed}&when=12:30", caplog)
        snapshot = taken[-1][0]
        assert (snapshot.path, snapshot.GET["who"], snapshot.GET["when"]) == (f"/deep/x/{MASK}", MASK, "12:30")


def test_g36_random_tokens() -> None:
    """Tokens as they are usually made have the shape of one, all but very few; ids and words never."""
    makers = [secrets.token_urlsafe, secrets.token_hex, lambda: secrets.token_urlsafe(16)]
    missed = sum(not looks_secret(make()) for make in makers for _ in range(1000))
    assert missed < 100
    assert not any(looks_secret(str(uuid.uuid4())) for _ in range(1000))
    assert not any(looks_secret(str(number)) for number in range(10**40, 10**40 + 100))


@pytest.mark.parametrize(
    "segment",
    [
        "how-to-2024-my-best-article-9",
        "iphone-15-pro-max-256gb-blue",
        "Albert_Einstein_(physicist)",
        "123e4567-e89b-12d3-a456-426614174000",
        "invoice-123e4567-e89b-12d3-a456-426614174000.pdf",
        "20240102123456789012345",
        "reunionpictures2024",
        "donaudampfschifffahrtsgesellschaft",
    ],
)
def test_g36_segment_that_names_something(segment: str, caplog: Any) -> None:
    """Slugs, numbers, names of files and UUIDs with hyphens are ids, not secrets."""
    ask(f"/named/{segment}/", caplog)
    snapshot = taken[-1][0]
    assert (snapshot.path, snapshot.view_kwargs) == (f"/named/{segment}/", {"link": segment})


@pytest.mark.parametrize("unmasked", ["link", "path", "Link"])
def test_g36_segments_can_be_let_through(unmasked: str, caplog: Any) -> None:
    """An argument that is marked as harmless stays in the path too; "path" lets all segments through."""
    options["unmasked"] = (unmasked,)
    ask(f"/named/{TOKEN}/", caplog)
    snapshot = taken[-1][0]
    assert snapshot.full_path == snapshot.path == f"/named/{TOKEN}/"
    assert snapshot.view_kwargs == {"link": TOKEN}


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (f"/deep/a;jsessionid={HIDDEN}/b", f"/deep/a;jsessionid={MASK}/b"),
        (f"/deep/https://ada:{HIDDEN}@example.org/a", f"/deep/https://{MASK}@example.org/a"),
        (f"/deep/b%3Ftoken={HIDDEN}", f"/deep/b?token={MASK}"),
    ],
)
def test_g36_inside_of_the_path(address: str, shown: str, caplog: Any) -> None:
    """Parameters of a segment, and an address that is a part of the path, are masked as well."""
    assert HIDDEN not in ask(address, caplog)
    assert taken[-1][0].path == shown


def test_g36_the_path_as_it_is() -> None:
    """`unmasked=("path",)` copies the path as it is; a secret argument stays masked elsewhere."""
    options["unmasked"] = ("path",)
    Client().get(f"/reset/{HIDDEN}/")
    snapshot = taken[-1][0]
    assert (snapshot.path, snapshot.full_path) == (f"/reset/{HIDDEN}/", f"/reset/{MASK}/")


def test_g36_named_values() -> None:
    """An address in a named POST value or in the session is masked like one in the query."""
    request = RequestFactory().post("/", {"next": NESTED, "comment": f"see {NESTED}"})
    request.session = {"back": NESTED, "list": [NESTED]}  # type: ignore[assignment]
    snapshot = snapshot_request(request, post=("next", "comment"), session=("back", "list"))
    assert snapshot.post["next"] == snapshot.session["back"] == f"/a?token={MASK}"
    assert snapshot.session["list"] == [f"/a?token={MASK}"]
    # Prose is left alone.
    assert snapshot.post["comment"] == f"see {NESTED}"
