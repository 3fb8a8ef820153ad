"""The user costs nothing that the view did not pay for."""

import asyncio
from fractions import Fraction
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import alogin, login, logout
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.test import AsyncClient, Client, RequestFactory
from django.utils.functional import SimpleLazyObject
from django.utils.safestring import SafeString

from django_qbwi import UserNotRead, snapshot_request
from tests.intake.pages import MIDDLEWARE, aduring, during


def fields(snapshot: Any) -> tuple[Any, Any, Any]:
    """Return the three fields of the user."""
    return snapshot.user_id, snapshot.username, snapshot.is_authenticated


@pytest.fixture
def client(user: Any) -> Client:
    """Return a client that is logged in."""
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def async_client(user: Any) -> AsyncClient:
    """Return an async client that is logged in."""
    client = AsyncClient()
    client.force_login(user)
    return client


@pytest.fixture
def count_queries(django_assert_num_queries: Any) -> Any:
    """Count queries inside of a view."""
    return django_assert_num_queries


def test_loaded_user(client: Client, user: Any, count_queries: Any) -> None:
    """A user that the view has loaded is known, without a query."""

    def view(request: HttpRequest) -> Any:
        assert request.user.is_authenticated
        with count_queries(0):
            return snapshot_request(request)

    assert fields(during(lambda: client.get("/page/"), view)) == (user.pk, "ada", True)


def test_loaded_session(client: Client, user: Any, count_queries: Any) -> None:
    """With a loaded session the id is known, without a query; whether it still is a user is not."""

    def view(request: HttpRequest) -> Any:
        request.session.get("anything")
        with count_queries(0):
            return snapshot_request(request)

    assert fields(during(lambda: client.get("/page/"), view)) == (user.pk, None, None)


def test_nothing_loaded(client: Client, user: Any, count_queries: Any) -> None:
    """With nothing loaded, sync code reads the session: one query, and the response varies by the cookie."""
    responses: list[Any] = []

    def view(request: HttpRequest) -> Any:
        with count_queries(1):
            return snapshot_request(request)

    def send() -> Any:
        responses.append(client.get("/page/"))
        return responses[0]

    assert fields(during(send, view)) == (user.pk, None, None)
    assert "Cookie" in responses[0]["Vary"]


def test_anonymous_visitor(transactional_db: None, count_queries: Any) -> None:
    """A visitor without a session is anonymous, without a query."""

    def view(request: HttpRequest) -> Any:
        with count_queries(0):
            return snapshot_request(request)

    assert fields(during(lambda: Client().get("/page/"), view)) == (None, "", False)


def test_without_the_middleware(settings: Any) -> None:
    """Where nobody knows of users, nothing is known of one."""
    settings.MIDDLEWARE = [name for name in MIDDLEWARE if "auth" not in name and "session" not in name]
    assert fields(during(lambda: Client().get("/page/"), snapshot_request)) == (None, None, None)


def test_login_and_logout_in_the_view(user: Any) -> None:
    """A user who logged in or out in this very view is the one, though another was loaded before."""

    def view(request: HttpRequest) -> Any:
        assert not request.user.is_authenticated
        login(request, user)
        inside = snapshot_request(request)
        logout(request)
        return inside, snapshot_request(request)

    inside, outside = during(lambda: Client().get("/page/"), view)
    assert fields(inside) == (user.pk, "ada", True)
    assert fields(outside) == (None, "", False)


def test_async_nothing_loaded(async_client: AsyncClient, user: Any, count_queries: Any) -> None:
    """On a running event loop nothing is read; reading the user's fields later says what to await."""

    async def view(request: HttpRequest) -> Any:
        return snapshot_request(request)

    snapshot = asyncio.run(aduring(lambda: async_client.get("/async/"), view))
    for name in ("user_id", "username", "is_authenticated"):
        with pytest.raises(UserNotRead, match=r"`await request\.auser\(\)` first"):
            getattr(snapshot, name)
    assert "user_id" not in repr(snapshot)


def test_async_loaded_user(async_client: AsyncClient, user: Any) -> None:
    """After `await request.auser()` the user is known."""

    async def view(request: HttpRequest) -> Any:
        await request.auser()
        return snapshot_request(request)

    assert fields(asyncio.run(aduring(lambda: async_client.get("/async/"), view))) == (user.pk, "ada", True)


def test_async_loaded_session(async_client: AsyncClient, user: Any) -> None:
    """A session that was loaded on the loop gives the id."""

    async def view(request: HttpRequest) -> Any:
        await request.session.aget("anything")
        return snapshot_request(request)

    assert fields(asyncio.run(aduring(lambda: async_client.get("/async/"), view))) == (user.pk, None, None)


def test_async_login_in_the_view(user: Any) -> None:
    """A user who logged in on the loop in this very view is the one."""

    async def view(request: HttpRequest) -> Any:
        await request.auser()
        await alogin(request, user)
        return snapshot_request(request)

    assert fields(asyncio.run(aduring(lambda: AsyncClient().get("/async/"), view))) == (user.pk, "ada", True)


def test_async_view_that_copies_in_a_thread(async_client: AsyncClient, user: Any) -> None:
    """In `sync_to_async` there is no running loop: the session is read."""

    async def view(request: HttpRequest) -> Any:
        return await sync_to_async(snapshot_request)(request)

    assert fields(asyncio.run(aduring(lambda: async_client.get("/async/"), view))) == (user.pk, None, None)


def test_lazy_user_of_somebody_else() -> None:
    """A lazy user of another middleware is used if it was loaded, and never loaded for the snapshot."""
    calls: list[int] = []

    class Account:
        """A user that is no model."""

        pk = "a-1"
        is_authenticated = True

    request = RequestFactory().get("/")
    request.user = SimpleLazyObject(lambda: calls.append(1) or Account())  # type: ignore[assignment, func-returns-value]
    assert fields(snapshot_request(request)) == (None, None, None)
    assert calls == []
    assert request.user.is_authenticated
    assert fields(snapshot_request(request)) == ("a-1", None, True)


def test_lazy_user_of_somebody_else_beside_a_session(transactional_db: None) -> None:
    """Where a middleware has put a lazy user of its own, an empty session does not say that nobody is logged in."""

    def view(request: HttpRequest) -> Any:
        request.user = SimpleLazyObject(lambda: pytest.fail("it was loaded"))  # type: ignore[assignment]
        return snapshot_request(request)

    assert fields(during(lambda: Client().get("/page/"), view)) == (None, None, None)


def test_session_of_another_user_model(client: Client) -> None:
    """A session that names no user of this site's model stops nobody: nothing is known of the user."""

    def view(request: HttpRequest) -> Any:
        request.session["_auth_user_id"] = "5f1e2b1c-0000-4000-8000-000000000000"
        return snapshot_request(request)

    assert fields(during(lambda: client.get("/page/"), view)) == (None, None, None)


@pytest.mark.parametrize(("pk", "kept"), [(SafeString("a-1"), "a-1"), (Fraction(1, 2), "1/2")])
def test_primary_key_of_a_type_of_its_own(pk: Any, kept: str) -> None:
    """A primary key is kept as a plain value."""

    class Account:
        is_authenticated = True

        def get_username(self) -> str:
            return SafeString("ada")

    request = RequestFactory().get("/")
    request.user = Account()  # type: ignore[assignment]
    Account.pk = pk  # type: ignore[attr-defined]
    snapshot = snapshot_request(request)
    assert fields(snapshot) == (kept, "ada", True)
    assert type(snapshot.user_id) is type(snapshot.username) is str


def test_get_user_fetches_afresh(client: Client, user: Any, count_queries: Any) -> None:
    """`get_user` asks the database at each call; a user who is gone or inactive is anonymous, as in a request."""
    snapshot = during(lambda: client.get("/page/"), snapshot_request)
    with count_queries(2):
        assert snapshot.get_user() == snapshot.get_user() == user
    user.is_active = False
    user.save()
    assert snapshot.get_user() == AnonymousUser()
    user.delete()
    assert snapshot.get_user() == AnonymousUser()


def test_aget_user(client: Client, user: Any) -> None:
    """`aget_user` does it for async items."""
    snapshot = during(lambda: client.get("/page/"), snapshot_request)
    assert asyncio.run(snapshot.aget_user()) == user


def test_get_user_of_an_anonymous_visitor(transactional_db: None, count_queries: Any) -> None:
    """An anonymous visitor's user is an AnonymousUser, without a query."""
    snapshot = during(lambda: Client().get("/page/"), snapshot_request)
    with count_queries(0):
        assert snapshot.get_user() == AnonymousUser()
