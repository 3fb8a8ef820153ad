"""What looks secret by its name is masked; Django's filter and `sensitive_post_parameters` are honoured."""

import re
from typing import Any

import pytest
from django.http import HttpRequest
from django.test import Client, RequestFactory
from django.views.debug import SafeExceptionReporterFilter
from django.views.decorators.debug import sensitive_post_parameters

from django_qbwi import snapshot_request
from django_qbwi.intake.masking import MASK
from tests.intake.pages import during


def everything_in(snapshot: Any) -> str:
    """Return all text that a snapshot holds."""
    return str(snapshot.to_dict())


@pytest.mark.django_db
def test_default_snapshot_holds_no_secrets() -> None:
    """S6: neither credentials, cookies, tokens, session nor POST are in a default snapshot."""
    headers = {
        "Authorization": "Basic hidden-1",
        "Proxy-Authorization": "Basic hidden-2",
        "X-CSRFToken": "hidden-3",
        "Cookie": "sessionid=hidden-4",
        "Referer": "https://ada:hidden-9@example.org/?access_token=hidden-5&page=1#token=hidden-10",
    }
    snapshot = during(
        lambda: Client().post("/albums/5/hidden-6/?api_key=hidden-7&page=1", {"a": "hidden-8"}, headers=headers),
        snapshot_request,
    )
    text = everything_in(snapshot)
    assert "hidden" not in text
    assert snapshot.full_path == f"/albums/5/{MASK}/?api_key={MASK}&page=1"
    assert snapshot.path == f"/albums/5/{MASK}/"
    assert snapshot.view_kwargs == {"album": 5, "token": MASK}
    assert (snapshot.GET["api_key"], snapshot.GET["page"]) == (MASK, "1")
    assert snapshot.origin == f"POST /albums/5/{MASK}/"


def test_unmasked_names() -> None:
    """A name that is marked as harmless is copied as it is, in the query too."""
    request = RequestFactory().get("/?author=ada&token=abc", headers={"X-Api-Version": "2"})
    snapshot = snapshot_request(request, headers=("X-Api-Version",), unmasked=("X-API-Version", "author"))
    assert snapshot.headers["X-Api-Version"] == "2"
    assert snapshot.full_path == f"/?author=ada&token={MASK}"
    assert snapshot_request(request, headers=("X-Api-Version",)).headers["X-Api-Version"] == MASK


@pytest.mark.parametrize("name", ["Authorization", "Cookie", "Proxy-Authorization", "X-CSRFToken"])
def test_named_header_is_masked(name: str) -> None:
    """S7: naming a secret header is not enough, it must be marked as well."""
    request = RequestFactory().get("/", headers={name: "hidden"})
    assert snapshot_request(request, headers=(name,)).headers[name] == MASK
    assert snapshot_request(request, headers=(name,), unmasked=(name,)).headers[name] == "hidden"


@pytest.mark.parametrize("debug", [False, True])
def test_sensitive_post_parameters(debug: bool, settings: Any) -> None:
    """S7: what a view marks as sensitive is masked even if it is named, and with DEBUG too."""
    settings.DEBUG = debug

    @sensitive_post_parameters("iban")
    def view(request: HttpRequest) -> Any:
        return snapshot_request(request, post=("iban", "title", "password"))

    snapshot = during(lambda: Client().post("/page/", {"iban": "DE1", "title": "x", "password": "y"}), view)
    assert dict(snapshot.post) == {"iban": [MASK], "title": ["x"], "password": [MASK]}


def test_all_post_parameters_are_sensitive() -> None:
    """`sensitive_post_parameters()` masks all of them."""

    @sensitive_post_parameters()
    def view(request: HttpRequest) -> Any:
        return snapshot_request(request, post=("title",))

    assert during(lambda: Client().post("/page/", {"title": "x"}), view).post["title"] == MASK


class Filter(SafeExceptionReporterFilter):
    """A project's own filter."""

    def cleanse_setting(self, key: Any, value: Any) -> Any:
        """Hide shoe sizes as well."""
        return "hidden by the project" if key == "shoe_size" else super().cleanse_setting(key, value)


def test_filter_of_the_request() -> None:
    """S7: a filter that the request carries decides too."""
    request = RequestFactory().post("/?shoe_size=46", {"shoe_size": "46"})
    request.exception_reporter_filter = Filter()
    snapshot = snapshot_request(request, post=("shoe_size",))
    assert (snapshot.GET["shoe_size"], snapshot.post["shoe_size"]) == ("hidden by the project",) * 2
    assert snapshot.full_path == "/?shoe_size=hidden%20by%20the%20project"


class StrictFilter(SafeExceptionReporterFilter):
    """A project's own filter that decides by what Django gives it: names in META, values, and the whole of POST."""

    hidden_settings = re.compile("X_INTERNAL", re.IGNORECASE)

    def cleanse_setting(self, key: Any, value: Any) -> Any:
        """Hide the numbers of cards."""
        is_card = isinstance(value, str) and value.startswith("4111")
        return "a card" if is_card else super().cleanse_setting(key, value)

    def get_post_parameters(self, request: Any) -> Any:
        """Hide one parameter, and leave another one out."""
        parameters = request.POST.copy()
        parameters["iban"] = "an account"
        del parameters["memo"]
        return parameters


@pytest.fixture
def strictly_filtered() -> HttpRequest:
    """Return a request with such a filter."""
    values = {"iban": "DE1", "memo": "x", "number": ["1", "4111-2"]}
    request = RequestFactory().post("/?number=4111-1", values, headers={"X-Internal-Id": "5", "X-Tenant": "a"})
    request.exception_reporter_filter = StrictFilter()  # type: ignore[attr-defined]
    return request


def test_filter_of_post_parameters(strictly_filtered: HttpRequest) -> None:
    """S7: what a filter says of POST as a whole counts, and a name that is marked as harmless is let through."""
    snapshot = snapshot_request(strictly_filtered, post=("iban", "memo", "number"), unmasked=("memo",))
    assert dict(snapshot.post) == {"iban": ["an account"], "memo": ["x"], "number": ["1", "a card"]}
    assert snapshot_request(strictly_filtered, post=("memo",)).post["memo"] == MASK


def test_filter_by_value(strictly_filtered: HttpRequest) -> None:
    """S7: a filter that looks at values sees those of the query, parsed by the view or not."""
    for _ in range(2):
        snapshot = snapshot_request(strictly_filtered)
        assert (snapshot.full_path, snapshot.GET["number"]) == ("/?number=a%20card", "a card")
        assert strictly_filtered.GET["number"] == "4111-1"


def test_filter_by_the_name_of_a_header(strictly_filtered: HttpRequest) -> None:
    """S7: a filter knows headers by their names in `request.META`."""
    names = ("X-Internal-Id", "X-Tenant")
    cleansed = SafeExceptionReporterFilter.cleansed_substitute
    assert dict(snapshot_request(strictly_filtered, headers=names).headers) == dict(
        zip(names, (cleansed, "a"), strict=True)
    )
    assert snapshot_request(strictly_filtered, headers=names, unmasked=names).headers["X-Internal-Id"] == "5"


def test_our_names_inside_of_a_session_value() -> None:
    """Secret names that Django does not know are found inside of a value from the session as well."""
    request = RequestFactory().get("/")
    request.session = {"cart": {"jwt": "hidden", "lines": [{"pin": "1234", "count": 3}]}}  # type: ignore[assignment]
    snapshot = snapshot_request(request, session=("cart",))
    assert snapshot.session["cart"] == {"jwt": MASK, "lines": [{"pin": MASK, "count": 3}]}


def test_secret_inside_of_a_session_value() -> None:
    """A dict from the session is filtered by its keys."""
    request = RequestFactory().get("/")
    request.session = {"cart": {"card_token": "hidden", "total": 3}}  # type: ignore[assignment]
    snapshot = snapshot_request(request, session=("cart",))
    assert snapshot.session["cart"] == {"card_token": SafeExceptionReporterFilter.cleansed_substitute, "total": 3}


def test_short_secret_in_the_path() -> None:
    """A short secret argument masks its own segment of the path, and not every letter like it."""
    snapshot = during(lambda: Client().get("/albums/5/5/"), snapshot_request)
    assert snapshot.full_path == f"/albums/{MASK}/{MASK}/"
    snapshot = during(lambda: Client().get("/albums/5/a/"), snapshot_request)
    assert snapshot.full_path == f"/albums/5/{MASK}/"


def test_encoded_name() -> None:
    """A secret name is recognised however it is encoded."""
    snapshot = snapshot_request(RequestFactory().get("/?api%5Fke%79=hidden&a+b=1"))
    assert snapshot.full_path == f"/?api%5Fke%79={MASK}&a+b=1"
    assert snapshot.GET["api_key"] == MASK
