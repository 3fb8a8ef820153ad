"""What looks secret by its name is masked; Django's filter and `sensitive_post_parameters` are honoured."""

from typing import Any

import pytest
from django.http import HttpRequest
from django.test import Client, RequestFactory
from django.views.debug import SafeExceptionReporterFilter
from django.views.decorators.debug import sensitive_post_parameters

from django_qbwi import snapshot_request
from django_qbwi.snapshots.masking import MASK
from tests.snapshots.pages import during


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
        "Referer": "https://ada:hidden-9@example.org/?access_token=hidden-5&page=1",
    }
    snapshot = during(
        lambda: Client().post("/albums/5/hidden-6/?api_key=hidden-7&page=1", {"a": "hidden-8"}, headers=headers),
        snapshot_request,
    )
    text = everything_in(snapshot).replace(snapshot.path, "")
    assert "hidden" not in text
    assert snapshot.full_path == f"/albums/5/{MASK}/?api_key={MASK}&page=1"
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
    assert (snapshot.GET["shoe_size"], snapshot.post["shoe_size"]) == ("hidden by the project", MASK)


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
