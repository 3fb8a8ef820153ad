"""`copies_request`: the request is copied at the call, whatever stands around the function."""

import asyncio
import functools
import inspect
import threading
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction
from django.db import transaction
from django.http import HttpRequest
from django.test import AsyncClient, Client, RequestFactory

from django_qbwi import (
    CancellationToken,
    InvalidWorkItem,
    RequestSnapshot,
    WorkItemStatus,
    background_work_item,
    copies_request,
    queue_background_work_item,
    queue_on_commit,
    snapshot_request,
)
from django_qbwi.testing import captured_work_items, immediate_work_items
from tests.intake.pages import aduring, during

PATIENCE = 30

seen: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    """Forget what items of other tests saw."""
    seen.clear()


@copies_request
def plain(token: Any, visit: RequestSnapshot, campaign: str = "none") -> str:
    """Record a visit."""
    seen.append((visit, campaign))
    return campaign


@background_work_item(name="visit")
@copies_request(tenant=lambda request: 7)
def below(token: Any, visit: RequestSnapshot, campaign: str = "none") -> None:
    seen.append((visit, campaign))


@copies_request(tenant=lambda request: 7)
@background_work_item(name="visit", timeout=60)
def above(token: Any, visit: RequestSnapshot, campaign: str = "none") -> None:
    seen.append((visit, campaign))


@background_work_item
@copies_request
async def on_loop(token: Any, visit: RequestSnapshot, campaign: str = "none") -> None:
    seen.append((visit, campaign))


def logged(function: Any) -> Any:
    """Wrap a function as decorators do."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@background_work_item
@logged
@logged
@copies_request
def between(token: Any, visit: RequestSnapshot, campaign: str = "none") -> None:
    seen.append((visit, campaign))


class Shop:
    """Methods that are work items."""

    @background_work_item
    @copies_request
    def record(self, token: Any, visit: RequestSnapshot, campaign: str = "none") -> None:
        """Record a visit of this shop."""
        seen.append((visit, campaign))

    @copies_request
    def plain(self, token: Any, visit: RequestSnapshot, campaign: str = "none") -> None:
        """Record a visit of this shop."""
        seen.append((visit, campaign))


class Callable:
    """An object that is a work item."""

    def __call__(self, token: Any, visit: RequestSnapshot, campaign: str = "none") -> None:
        """Record a visit."""
        seen.append((visit, campaign))


WAYS = {
    "function": lambda request: queue_background_work_item(plain, request, "spring"),
    "decorated function": lambda request: queue_background_work_item(below, request, "spring"),
    "below": lambda request: below.queue(request, "spring"),
    "above": lambda request: above.queue(request, "spring"),
    "using": lambda request: above.using(name="again").queue(request, "spring"),
    "keyword": lambda request: below.queue(request, campaign="spring"),
    "request by keyword": lambda request: below.queue(visit=request, campaign="spring"),
    "another decorator between": lambda request: between.queue(request, "spring"),
    "another decorator between, by keyword": lambda request: between.queue(visit=request, campaign="spring"),
    "async": lambda request: on_loop.queue(request, "spring"),
    "partial around": lambda request: queue_background_work_item(functools.partial(plain, campaign="spring"), request),
    "partial inside": lambda request: queue_background_work_item(
        copies_request(functools.partial(plain.function, campaign="spring")), request
    ),
    "partial with the request": lambda request: queue_background_work_item(
        functools.partial(plain, visit=request, campaign="spring")
    ),
    "partial of a decorated one": lambda request: queue_background_work_item(
        functools.partial(below, campaign="spring"), request
    ),
    "partial of a method": lambda request: queue_background_work_item(
        functools.partial(Shop.plain, Shop()), request, "spring"
    ),
    "partial of a method with the request": lambda request: queue_background_work_item(
        functools.partial(Shop.plain, Shop(), visit=request, campaign="spring")
    ),
    "method": lambda request: Shop().record.queue(request, "spring"),
    "undecorated method": lambda request: queue_background_work_item(Shop().plain, request, "spring"),
    "object": lambda request: queue_background_work_item(copies_request(Callable()), request, "spring"),
    "lambda": lambda request: queue_background_work_item(
        copies_request(lambda token, visit: seen.append((visit, "spring"))), request
    ),
}


@pytest.mark.parametrize("way", list(WAYS))
def test_ways_to_queue(way: str) -> None:
    """In every combination the item gets a snapshot of the request, and its other arguments."""
    handle = during(lambda: Client().get("/page/?q=sea"), WAYS[way])
    assert handle.wait(PATIENCE)
    assert handle.status is WorkItemStatus.SUCCEEDED, handle.info
    [(visit, campaign)] = seen
    assert type(visit) is RequestSnapshot
    assert (visit.GET["q"], campaign) == ("sea", "spring")


@pytest.mark.parametrize("way", ["below", "async", "partial with the request"])
def test_ways_from_an_async_view(way: str) -> None:
    """From an async view it is the same."""
    handle = asyncio.run(aduring(lambda: AsyncClient().get("/async/?q=sea"), WAYS[way]))
    assert handle.wait(PATIENCE)
    assert [(visit.GET["q"], campaign) for visit, campaign in seen] == [("sea", "spring")]


def test_options_of_both_decorators_hold() -> None:
    """Name, timeout and what is copied are kept in both orders."""
    request = RequestFactory().get("/")
    with captured_work_items() as captured:
        assert (below.queue(request).name, above.queue(request).info.timeout) == ("visit", 60)
        assert above.using(name="again").queue(request).name == "again"
    assert [item.args[0].tenant for item in captured] == [7, 7, 7]


def test_name_is_that_of_the_function() -> None:
    """Logs and lists show the function's name, not the wrapper's."""
    with captured_work_items():
        handle = queue_background_work_item(functools.partial(plain, campaign="x"), RequestFactory().get("/"))
    assert handle.name == "tests.intake.test_copier.plain"


def test_metadata_is_that_of_the_function() -> None:
    """Name, docstring and signature are the function's, and an async one is seen as such."""
    assert (plain.__name__, plain.__doc__) == ("plain", "Record a visit.")
    assert list(inspect.signature(plain).parameters) == ["token", "visit", "campaign"]
    assert iscoroutinefunction(copies_request(on_loop.function.function))
    assert not iscoroutinefunction(plain)
    assert repr(plain) == "<RequestCopier tests.intake.test_copier.plain>"


def test_copied_in_the_callers_thread() -> None:
    """Computed values are computed at the call, in the caller's thread."""
    idents: list[int] = []

    @copies_request(ident=lambda request: idents.append(threading.get_ident()))
    def item(token: Any, visit: RequestSnapshot) -> None:
        pass

    handle = queue_background_work_item(item, RequestFactory().get("/"))
    assert idents == [threading.get_ident()]
    assert handle.wait(PATIENCE)


@pytest.mark.parametrize(
    "queue",
    [lambda request: below.queue_on_commit(request), lambda request: queue_on_commit(plain, request)],
)
def test_on_commit_copies_at_the_call(queue: Any, transactional_db: None) -> None:
    """The request is copied before the commit; what is changed of it afterwards is not seen."""
    request = RequestFactory().get("/?q=before")
    with captured_work_items() as captured, transaction.atomic():
        queue(request)
        request.GET = request.GET.copy()  # type: ignore[misc]
        request.GET["q"] = "after"
        assert captured == []
    assert captured[0].args[0].GET["q"] == "before"


def test_on_commit_refuses_at_the_call(transactional_db: None) -> None:
    """What is no request is refused at the call, not after the commit."""
    with transaction.atomic(), pytest.raises(InvalidWorkItem, match="must be a request"):
        below.queue_on_commit("no request")


def test_plain_call_copies() -> None:
    """A plain call copies the request, and returns what the function returns."""
    assert plain(CancellationToken.none(), RequestFactory().get("/?q=sea"), "x") == "x"
    assert seen[0][0].GET["q"] == "sea"


def test_plain_call_of_an_async_function() -> None:
    """A plain call of an async item is awaited, in a test of the user's."""
    asyncio.run(on_loop(CancellationToken.none(), RequestFactory().get("/?q=sea")))
    assert seen[0][0].GET["q"] == "sea"


def test_snapshot_is_passed_through() -> None:
    """A snapshot stands for a request: it is not copied again."""
    snapshot = snapshot_request(RequestFactory().get("/"))
    plain(CancellationToken.none(), snapshot)
    with captured_work_items() as captured:
        below.queue(snapshot)
    assert seen[0][0] is captured[0].args[0] is snapshot


@pytest.mark.parametrize("given", [None, "text", 5, RequestFactory()])
def test_what_is_no_request(given: Any) -> None:
    """Anything else is refused at the call, naming the function and what is wanted."""
    with pytest.raises(InvalidWorkItem, match=r"test_copier\.plain .*must be a request or a RequestSnapshot"):
        queue_background_work_item(plain, given)
    with pytest.raises(InvalidWorkItem, match="must be a request"):
        plain(CancellationToken.none(), given)


def test_nothing_to_copy() -> None:
    """Without a request it is refused, as any missing argument is."""
    with pytest.raises(InvalidWorkItem, match="no value for visit"):
        below.queue()
    everything_optional = copies_request(lambda token, visit=None: None)
    with pytest.raises(InvalidWorkItem, match="got no request"):
        queue_background_work_item(everything_optional)


@pytest.mark.parametrize(
    "queue",
    [
        lambda: queue_background_work_item(plain),
        lambda: below.queue(),
        lambda: above.queue(),
        lambda: queue_on_commit(plain),
        lambda: queue_background_work_item(functools.partial(plain, campaign="x")),
        lambda: Shop().record.queue(),
    ],
)
def test_g24_without_a_request(queue: Any) -> None:
    """G24: the message says that the function copies a request, and how it is given one."""
    with pytest.raises(InvalidWorkItem, match="decorated with copies_request: give the request as the first argument"):
        queue()


@pytest.mark.parametrize("function", [plain, copies_request(Callable())])
def test_g24_call_without_a_token(function: Any) -> None:
    """G24: a plain call that begins with the request lacks its token, and the message says so."""
    with pytest.raises(InvalidWorkItem, match=r"got a request in the place of its token: queue it, or call it as a"):
        function(RequestFactory().get("/"), "spring")
    assert seen == []


def test_what_is_no_function() -> None:
    """Only functions are decorated."""
    with pytest.raises(InvalidWorkItem, match="decorates functions"):
        copies_request(5)  # type: ignore[call-overload]


@pytest.mark.parametrize("queue", [WAYS["below"], WAYS["partial with the request"]])
def test_origin_is_that_of_the_request(queue: Any) -> None:
    """The info of an item names the request that queued it, without its query, and its id."""
    request = RequestFactory().post("/albums/?token=x", headers={"X-Request-Id": "r-1"})
    handle = queue(request)
    assert (handle.info.origin, handle.info.request_id) == ("POST /albums/", "r-1")
    assert handle.wait(PATIENCE)
    assert handle.info.to_dict()["origin"] == "POST /albums/"


def test_origin_after_a_commit(transactional_db: None) -> None:
    """An item that was queued on commit knows its origin too, and so does one that was captured."""
    with captured_work_items() as captured, transaction.atomic():
        below.queue_on_commit(RequestFactory().get("/albums/"))
    assert captured[0].handle.info.origin == "GET /albums/"


def test_origin_is_unknown_without_a_snapshot() -> None:
    """An item that knows of no request has no origin."""
    with immediate_work_items():
        assert queue_background_work_item(lambda token: None).info.origin is None


def test_snapshot_for_an_undecorated_function() -> None:
    """A snapshot that was taken by hand is an argument like others, and tells the origin."""

    def item(token: Any, visit: RequestSnapshot) -> None:
        seen.append(visit)

    snapshot = snapshot_request(RequestFactory().get("/albums/"))
    with captured_work_items() as captured:
        handle = queue_background_work_item(item, snapshot)
        assert (captured[0].work_item, captured[0].args) == (item, (snapshot,))
        captured.run_all()
    assert (handle.info.origin, handle.name.rpartition(".")[2], seen) == ("GET /albums/", "item", [snapshot])


def test_function_that_wraps_itself() -> None:
    """Looking for the copier ends, whatever a function says that it wraps."""

    def item(token: Any, visit: Any) -> None:
        seen.append(visit)

    item.__wrapped__ = item  # type: ignore[attr-defined]
    with captured_work_items() as captured:
        queue_background_work_item(item, [1])
    assert len(captured) == 1


def test_request_is_not_kept() -> None:
    """The item keeps nothing of the request alive."""
    import gc
    import weakref

    request: HttpRequest | None = RequestFactory().get("/")
    reference = weakref.ref(request)
    with captured_work_items() as captured:
        below.queue(request)
        request = None
        gc.collect()
        assert reference() is None
        assert len(captured) == 1
