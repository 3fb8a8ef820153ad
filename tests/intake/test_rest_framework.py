"""Django REST framework's Request wraps a Django request, and is one here."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import override_settings

from django_qbwi import (
    CapturedRequest,
    RequestSnapshot,
    background_work_item,
    copies_request,
    queue_background_work_item,
    snapshot_request,
)
from django_qbwi.testing import captured_work_items

pytest.importorskip("rest_framework")


@pytest.fixture(autouse=True)
def rest_framework() -> Iterator[None]:
    """Configure it without an app."""
    with override_settings(
        REST_FRAMEWORK={
            "DEFAULT_AUTHENTICATION_CLASSES": [],
            "UNAUTHENTICATED_USER": None,
            "TEST_REQUEST_DEFAULT_FORMAT": "json",
        }
    ):
        yield


class Account:
    """Who is authenticated by a token: no model, no session."""

    pk = "a-1"
    is_authenticated = True

    def get_username(self) -> str:
        """Return a name."""
        return "token holder"


def respond(view: Any, **options: Any) -> Any:
    """Call a function as an API view, in a real request of the framework's own client; return what it returned."""
    from rest_framework.authentication import BaseAuthentication
    from rest_framework.response import Response
    from rest_framework.test import APIRequestFactory
    from rest_framework.views import APIView

    class Tokens(BaseAuthentication):
        def authenticate(self, request: Any) -> Any:
            return Account(), None

    results: list[Any] = []

    class Page(APIView):
        authentication_classes = [Tokens]

        def post(self, request: Any, **kwargs: Any) -> Response:
            results.append(view(self, request))
            return Response({})

    response = Page.as_view()(APIRequestFactory().post("/page/?q=1", **options))
    assert response.status_code == 200, response.data
    return results[0]


def test_request_is_copied() -> None:
    """The wrapped request is copied, with the user that the framework authenticated."""
    snapshot = respond(lambda view, request: snapshot_request(request), data={"a": 1}, format="json")
    assert (snapshot.method, snapshot.path, snapshot.GET["q"]) == ("POST", "/page/", "1")
    assert (snapshot.user_id, snapshot.username, snapshot.is_authenticated) == ("a-1", "token holder", True)


def test_user_that_was_not_authenticated_yet() -> None:
    """A wrapped request whose user nobody asked for is not authenticated for the snapshot."""
    from rest_framework.request import Request
    from rest_framework.test import APIRequestFactory

    snapshot = snapshot_request(Request(APIRequestFactory().get("/page/")))
    assert (snapshot.user_id, snapshot.is_authenticated) == (None, None)


def test_item_gets_a_snapshot() -> None:
    """`copies_request` takes it as it takes Django's own."""

    @background_work_item
    @copies_request(count=lambda request: request.data["count"])
    def item(token: Any, visit: RequestSnapshot) -> None:
        pass

    with captured_work_items() as captured:
        respond(lambda view, request: item.queue(request), data={"count": 3}, format="json")
    assert type(captured[0].args[0]) is RequestSnapshot
    assert captured[0].args[0].count == 3


def test_post_and_files() -> None:
    """Named form values and files are copied after the framework's parsers have read them."""

    def view(page: Any, request: Any) -> Any:
        assert request.data["title"] == "Sea"
        return snapshot_request(request, post=("title",), files=("photo",))

    data = {"title": "Sea", "photo": SimpleUploadedFile("sea.jpg", b"abc")}
    snapshot = respond(view, data=data, format="multipart")
    assert (snapshot.post["title"], snapshot.files["photo"].content) == ("Sea", b"abc")


def test_captured_request() -> None:
    """It is refused as Django's own is, in an argument and as the view's attribute."""

    def view(page: Any, request: Any) -> None:
        with pytest.raises(CapturedRequest, match="argument 1"):
            queue_background_work_item(lambda token, *args: None, request)
        with pytest.raises(CapturedRequest, match="'self' of the bound method"):
            queue_background_work_item(page.check_permissions)

    respond(view, data={}, format="json")


def test_anonymous() -> None:
    """Where the framework is told that nobody is nobody, an anonymous user is None, and known to be."""
    from rest_framework.request import Request
    from rest_framework.test import APIRequestFactory

    request = Request(APIRequestFactory().get("/page/"))
    assert request.user is None
    snapshot = snapshot_request(request)
    assert (snapshot.user_id, snapshot.username, snapshot.is_authenticated) == (None, "", False)
