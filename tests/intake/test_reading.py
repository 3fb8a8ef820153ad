"""The default fields, read from real requests."""

import datetime
import ipaddress
import json
from typing import Any

import pytest
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, QueryDict
from django.test import AsyncClient, AsyncRequestFactory, Client, RequestFactory
from django.utils import timezone
from django.utils.safestring import mark_safe

from django_qbwi import RequestSnapshot, snapshot_request
from django_qbwi.intake.masking import MASK
from tests.intake.pages import MIDDLEWARE, aduring, during

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_fields_of_a_sync_request() -> None:
    """All that a WSGI request says is in the snapshot."""
    headers = {
        "User-Agent": "test/1",
        "Referer": "https://example.org/?a=1",
        "X-Request-Id": "r-1",
        "traceparent": TRACE,
    }
    snapshot = during(
        lambda: Client().post("/albums/5/x/?q=sea", {"a": 1}, headers=headers, REMOTE_ADDR="10.0.0.7"), snapshot_request
    )
    assert (snapshot.method, snapshot.path) == ("POST", f"/albums/5/{MASK}/")
    assert (snapshot.scheme, snapshot.host, snapshot.remote_addr) == ("http", "testserver", "10.0.0.7")
    assert (snapshot.GET["q"], snapshot.content_type) == ("sea", "multipart/form-data")
    assert (snapshot.view_name, snapshot.view_kwargs["album"]) == ("album", 5)
    assert (snapshot.user_agent, snapshot.referer) == ("test/1", "https://example.org/?a=1")
    assert (snapshot.request_id, snapshot.traceparent) == ("r-1", TRACE)
    assert (snapshot.language, snapshot.time_zone, snapshot.urlconf) == ("en", "UTC", None)


async def read_on_loop(client: AsyncClient, path: str, **options: Any) -> Any:
    """Take a snapshot in an async view."""
    return await aduring(lambda: client.get(path, **options), snapshot_request)


def test_fields_of_an_async_request() -> None:
    """An ASGI request gives the same."""
    import asyncio

    snapshot = asyncio.run(read_on_loop(AsyncClient(), "/async/?q=sea", headers={"User-Agent": "test/1"}))
    assert (snapshot.method, snapshot.path, snapshot.full_path) == ("GET", "/async/", "/async/?q=sea")
    assert (snapshot.host, snapshot.remote_addr, snapshot.user_agent) == ("testserver", "127.0.0.1", "test/1")
    assert (snapshot.view_name, snapshot.language) == ("async-page", "en")


def test_language_and_time_zone_that_are_active() -> None:
    """Language and time zone are those that middleware activated."""
    from django.test import override_settings

    middleware = [*MIDDLEWARE, "tests.intake.pages.time_zone_middleware"]
    headers = {"Accept-Language": "de", "X-Zone": "Europe/Berlin"}
    with override_settings(MIDDLEWARE=middleware):
        snapshot = during(lambda: Client().get("/page/", headers=headers), snapshot_request)
    assert (snapshot.language, snapshot.time_zone) == ("de", "Europe/Berlin")


@pytest.mark.parametrize(
    "changed",
    [
        {"LANGUAGES": [("fr", "French")]},
        {"LANGUAGE_CODE": "fr"},
        {"LOCALE_PATHS": ["/nowhere"]},
        {"TIME_ZONE": "Asia/Tokyo"},
    ],
)
def test_languages_of_overridden_settings(changed: dict[str, Any]) -> None:
    """A test's settings, at which Django forgets what was active and where it keeps it, change nothing of that."""
    from django.test import override_settings
    from django.utils import translation

    request = RequestFactory().get("/")
    with override_settings(**changed):
        with translation.override("de"), timezone.override("Europe/Berlin"):
            snapshot = snapshot_request(request)
        assert (snapshot.language, snapshot.time_zone) == ("de", "Europe/Berlin")
        assert snapshot_request(request).time_zone == changed.get("TIME_ZONE", "UTC")
    assert snapshot_request(request).language == "en"


@pytest.mark.parametrize(
    ("zone", "name"),
    [
        (datetime.UTC, "UTC"),
        (timezone.get_fixed_timezone(90), "UTC+01:30"),
        (timezone.get_fixed_timezone(-300), "UTC-05:00"),
    ],
)
def test_time_zone_without_a_name(zone: datetime.tzinfo, name: str) -> None:
    """A fixed offset has a name that can be activated again."""
    with timezone.override(zone):
        assert snapshot_request(RequestFactory().get("/")).time_zone == name


def test_urlconf_of_the_request() -> None:
    """A URLconf that middleware set is remembered by name."""
    from django.test import override_settings

    with override_settings(MIDDLEWARE=["tests.intake.pages.other_urls_middleware"]):
        snapshot = during(lambda: Client().get("/elsewhere/"), snapshot_request)
    assert snapshot.urlconf == "tests.intake.other_pages"


def test_script_name() -> None:
    """The script name is that of the request, under WSGI and ASGI."""
    assert snapshot_request(RequestFactory().get("/page/", SCRIPT_NAME="/site")).script_name == "/site"
    request = AsyncRequestFactory().get("/site/page/")
    request.META["SCRIPT_NAME"] = "/site"
    assert snapshot_request(request).script_name == "/site"


@pytest.mark.parametrize("header", ["x" * 55, "00-zz-00-01", f"{TRACE}\n"])
def test_traceparent_that_is_none(header: str) -> None:
    """What does not look like a traceparent is left out: it comes from the client."""
    request = RequestFactory().get("/")
    request.META["HTTP_TRACEPARENT"] = header
    assert snapshot_request(request).traceparent is None


def test_request_id_of_a_middleware() -> None:
    """An id that middleware has set on the request comes before the client's header; control characters are gone."""
    request = RequestFactory().get("/", headers={"X-Request-Id": "from-client"})
    request.request_id = "from\nmiddleware"
    assert snapshot_request(request).request_id == "from?middleware"


def test_view_argument_that_is_not_plain() -> None:
    """A converter may have made anything of an argument; what cannot be copied is named, not carried along."""
    request = RequestFactory().get("/")

    class Match:
        view_name = "x"
        kwargs = {"album": object(), "number": 3}

    request.resolver_match = Match()  # type: ignore[assignment]
    assert snapshot_request(request).view_kwargs == {"album": "<builtins.object>", "number": 3}


def test_reading_leaves_the_body_alone() -> None:
    """A default snapshot does not read the body: a view may still stream it."""

    def stream(request: HttpRequest) -> bytes:
        snapshot_request(request)
        return request.read()

    assert during(lambda: Client().post("/page/", b"abc", content_type="text/plain"), stream) == b"abc"


@pytest.mark.parametrize("is_parsed", [True, False])
def test_query_is_a_copy(is_parsed: bool) -> None:
    """What a view does to `request.GET` afterwards is not seen, whether it had been parsed or not."""
    request = RequestFactory().get("/?q=sea&q=sky&token=hidden&empty=&%C3%A4=%2B+")
    if is_parsed:
        assert request.GET
    snapshot = snapshot_request(request)
    request.GET._mutable = True
    request.GET["q"] = "changed"
    assert dict(snapshot.GET) == {"q": ["sea", "sky"], "token": [MASK], "empty": [""], "ä": ["+ "]}
    with pytest.raises(AttributeError, match="immutable"):
        snapshot.GET["q"] = "changed"


def test_query_in_other_encodings() -> None:
    """The query is decoded as the request decodes it."""
    request = RequestFactory().get("/?q=%E4", headers={"Content-Type": "text/plain; charset=iso-8859-1"})
    assert snapshot_request(request).GET == request.GET
    raw = RequestFactory().get("/")
    raw.META["QUERY_STRING"] = "q=\xc3\xa4"
    assert snapshot_request(raw).GET["q"] == "ä"


def test_query_that_a_middleware_replaced() -> None:
    """A GET of a middleware's own making is copied as it is."""
    request = RequestFactory().get("/?q=sea")
    request.GET = QueryDict("")  # type: ignore[assignment]
    assert not snapshot_request(request).GET
    request.GET = QueryDict("q=sky", mutable=True)  # type: ignore[assignment]
    assert snapshot_request(request).GET["q"] == "sky"


def test_fields_are_plain() -> None:
    """Whatever middleware has put into a request, the snapshot can be written as JSON."""
    request = RequestFactory().get("/", headers={"X-Tenant": "a"})
    request.path = mark_safe("/a/")
    request.META |= {"REMOTE_ADDR": ipaddress.ip_address("10.0.0.7"), "HTTP_X_TENANT": mark_safe("b")}
    snapshot = snapshot_request(request, headers=("X-Tenant",))
    assert (snapshot.path, snapshot.remote_addr, snapshot.headers["x-tenant"]) == ("/a/", "10.0.0.7", "b")
    assert RequestSnapshot.from_dict(json.loads(json.dumps(snapshot.to_dict()))) == snapshot


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("allowed", [[], ["*"], [".example.org"]])
@pytest.mark.parametrize("host", ["example.org", "a.example.org:8000", "localhost", "[::1]:80", "evil.test", "a b", ""])
def test_host_is_that_of_django(host: str, allowed: list[str], debug: bool, settings: Any) -> None:
    """A host is allowed where Django allows it, also when the settings change."""
    settings.ALLOWED_HOSTS, settings.DEBUG = allowed, debug
    request = RequestFactory().get("/", headers={"Host": host})
    try:
        expected = request.get_host()
    except DisallowedHost:
        expected = None
    assert snapshot_request(request).host == expected


def test_host_of_another_request_class() -> None:
    """A request class with a `get_host` of its own is asked."""

    class Request(HttpRequest):
        def get_host(self) -> str:
            return "own.example.org"

    assert snapshot_request(Request()).host == "own.example.org"


class Own(datetime.tzinfo):
    """A time zone of somebody's own, which changes its offset."""

    def __init__(self, name: str) -> None:
        self.name = name

    def utcoffset(self, moment: datetime.datetime | None) -> datetime.timedelta | None:
        """Depend on the moment."""
        return None if moment is None else datetime.timedelta(hours=1)

    def tzname(self, moment: datetime.datetime | None) -> str | None:
        """Depend on the moment."""
        return None

    def dst(self, moment: datetime.datetime | None) -> datetime.timedelta | None:
        """Do not tell."""
        return None

    def __str__(self) -> str:
        return self.name


@pytest.mark.parametrize(
    ("name", "found"), [("Europe/Berlin", "Europe/Berlin"), ("tzfile('/x')", None), ("../x", None)]
)
def test_time_zone_of_another_library(name: str, found: str | None) -> None:
    """One that is called as the database calls it, like pytz's, is found again; any other is left out."""
    with timezone.override(Own(name)):
        assert snapshot_request(RequestFactory().get("/")).time_zone == found


def test_urlconf_that_is_a_module() -> None:
    """A URLconf given as a module has that module's name; one that is a list has none."""
    from tests.intake import other_pages

    request = RequestFactory().get("/")
    request.urlconf = other_pages  # type: ignore[attr-defined]
    assert snapshot_request(request).urlconf == "tests.intake.other_pages"
    request.urlconf = []  # type: ignore[attr-defined]
    assert snapshot_request(request).urlconf is None
