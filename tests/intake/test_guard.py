"""F47: a request that an item would carry along is refused, naming the variable and the cure."""

import collections
import dataclasses
import functools
import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpRequest, HttpResponse
from django.test import AsyncRequestFactory, Client, RequestFactory, override_settings
from django.utils.functional import SimpleLazyObject
from django.views import View

from django_qbwi import (
    CapturedRequest,
    InvalidWorkItem,
    WorkItemWarning,
    background_work_item,
    copies_request,
    queue_background_work_item,
    queue_on_commit,
)
from django_qbwi.intake import guard
from django_qbwi.testing import captured_work_items
from tests.intake.pages import MIDDLEWARE, during


def use(token: Any, *args: Any, **kwargs: Any) -> None:
    """Take anything."""


def named(token: Any, number: int, visit: Any) -> None:
    """Take something by name."""


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function as decorators do."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


class Page(View):
    """A class-based view, which has its request as `self.request`."""

    def work(self, token: Any) -> None:
        """Run as an item."""

    @background_work_item
    def decorated_work(self, token: Any) -> None:
        """Run as an item."""

    def as_closure(self) -> Any:
        return lambda token: self.work(token)


class Worker:
    """A callable object with a request."""

    def __init__(self, request: Any) -> None:
        self.request = request

    def __call__(self, token: Any) -> None:
        """Run as an item."""


def page(request: HttpRequest) -> Page:
    """Return a view that handles `request`."""
    view = Page()
    view.setup(request)
    return view


class Serializer:
    """Has its request as the serializers of Django REST framework do."""

    def __init__(self, request: Any) -> None:
        self._context = {"request": request}

    def work(self, token: Any) -> None:
        """Run as an item."""


@dataclasses.dataclass(slots=True)
class State:
    """A state object without a `__dict__`."""

    request: Any


LARGE = [[[[float(number) for number in range(32)] for _ in range(32)] for _ in range(32)] for _ in range(8)]


def closure(request: Any, *more: Any) -> Any:
    """Return a function that uses the request of the enclosing one."""
    return lambda token, *args: (request.user, more)


def defaulted(value: Any) -> Any:
    """Return a function with a default."""

    def item(token: Any, visit: Any = value) -> None:
        pass

    return item


def keyword_defaulted(value: Any) -> Any:
    """Return a function with a keyword-only default."""

    def item(token: Any, *, visit: Any = value) -> None:
        pass

    return item


# What is queued with a request, and what the message names.
CAPTURES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "argument": (lambda r: queue_background_work_item(use, r), "argument 1 after the token"),
    "named argument": (lambda r: queue_background_work_item(named, 5, r), "the argument 'visit'"),
    "decorated": (lambda r: background_work_item(named).queue(5, r), "the argument 'visit'"),
    "decorated keyword": (lambda r: background_work_item(named).queue(5, visit=r), "argument 'visit' of the partial"),
    "on commit": (lambda r: queue_on_commit(use, r), "argument 1"),
    "in a list": (lambda r: queue_background_work_item(use, [1, r]), r"argument 1 after the token\[1\]"),
    "in a dict": (lambda r: queue_background_work_item(use, {"request": r}), r"\['request'\]"),
    "closure": (lambda r: queue_background_work_item(closure(r)), "the variable 'request' of the enclosing function"),
    "decorated closure": (lambda r: queue_background_work_item(decorated(closure(r))), "the variable 'request'"),
    "closure in a partial": (lambda r: queue_background_work_item(functools.partial(closure(r))), "'request'"),
    "function as an argument": (lambda r: queue_background_work_item(use, closure(r)), "the variable 'request'"),
    "default": (lambda r: queue_background_work_item(defaulted(r)), "default of item's parameter 'visit'"),
    "keyword default": (lambda r: queue_background_work_item(keyword_defaulted(r)), "item's parameter 'visit'"),
    "partial": (
        lambda r: queue_background_work_item(functools.partial(use, visit=r)),
        "argument 'visit' of the partial",
    ),
    "bound method": (
        lambda r: queue_background_work_item(page(r).work),
        "'self' of the bound method work, .*'request'",
    ),
    "decorated method": (lambda r: page(r).decorated_work.queue(), "'self' of the bound method decorated_work"),
    "self in a closure": (
        lambda r: queue_background_work_item(page(r).as_closure()),
        "the variable 'self' of the enclosing function.*'request'",
    ),
    "view as an argument": (lambda r: queue_background_work_item(use, page(r)), "argument 1 .*'request'"),
    "callable object": (lambda r: queue_background_work_item(Worker(r)), "the work item, as its attribute 'request'"),
    "method of the request": (
        lambda r: queue_background_work_item(use, r.get_host),
        "'self' of the bound method get_host",
    ),
    "environ or scope": (lambda r: queue_background_work_item(use, r.META), "argument 1"),
    "beside a copied one": (
        lambda r: queue_background_work_item(copies_request(lambda token, visit, other: None), r, r),
        "the argument 'other'",
    ),
    "decorated twice, a method": (
        lambda r: queue_background_work_item(decorated(decorated(page(r).work))),
        "'self' of the bound method work.*'request'",
    ),
    "decorated five times": (
        lambda r: queue_background_work_item(decorated(decorated(decorated(decorated(decorated(closure(r))))))),
        "the variable 'request'",
    ),
    "partials of partials": (
        lambda r: queue_background_work_item(
            functools.partial(decorated(functools.partial(decorated(functools.partial(use, r)), 5)), 6)
        ),
        "argument 0 of the partial",
    ),
    "cached function": (
        lambda r: queue_background_work_item(functools.lru_cache(closure(r))),
        "the variable 'request'",
    ),
    "sync_to_async of a method": (
        lambda r: queue_background_work_item(sync_to_async(page(r).work)),
        "'self' of the bound method work.*'request'",
    ),
    "deep in containers": (
        lambda r: queue_background_work_item(use, {"a": [({"b": [[{r}]]},)]}),
        r"argument 1 after the token\['a'\]\[0\]\[0\]\['b'\]",
    ),
    "key of a dict": (lambda r: queue_background_work_item(use, {r: 1}), "a key of argument 1"),
    "in a deque": (
        lambda r: queue_background_work_item(use, collections.deque([r])),
        r"argument 1 after the token\[0\]",
    ),
    "in the values of a dict": (lambda r: queue_background_work_item(use, {"a": r}.values()), r"after the token\[0\]"),
    "method of a container": (lambda r: queue_background_work_item(use, r.META.get), "'self' of the bound method get"),
    "in a slot": (lambda r: queue_background_work_item(use, State(r)), "argument 1 .*, as its attribute 'request'"),
    "in a serializer's context": (
        lambda r: queue_background_work_item(Serializer(r).work),
        r"'self' of the bound method work, as its attribute '_context'\['request'\]",
    ),
    "in what a copied one computes": (
        lambda r: queue_background_work_item(copies_request(tenant=lambda _: str(r))(lambda token, visit: None), r),
        "the variable 'r'",
    ),
    "beside a large argument": (
        lambda r: queue_background_work_item(closure(r, "another"), LARGE),
        "the variable 'request'",
    ),
    "in a copied one's closure": (
        lambda r: queue_background_work_item(copies_request(lambda token, visit: r), r),
        "the variable 'r'",
    ),
}


@pytest.mark.parametrize("factory", [RequestFactory(), AsyncRequestFactory()], ids=["wsgi", "asgi"])
@pytest.mark.parametrize("name", list(CAPTURES))
def test_captured_request(name: str, factory: RequestFactory) -> None:
    """Wherever the request is, the item is refused, and the message says where it is and what to do instead."""
    queue, variable = CAPTURES[name]
    with captured_work_items() as captured, pytest.raises(CapturedRequest, match=variable) as caught:
        queue(factory.get("/"))
    assert "@copies_request" in str(caught.value)
    assert captured == []


def test_captured_request_is_an_invalid_work_item() -> None:
    """It is an InvalidWorkItem, and so a TypeError."""
    assert issubclass(CapturedRequest, InvalidWorkItem)
    assert issubclass(CapturedRequest, TypeError)


def test_real_class_based_view(settings: Any) -> None:
    """In a real view `self` holds the request: the commonest capture of all."""

    class RealPage(View):
        def get(self, request: HttpRequest) -> HttpResponse:
            with pytest.raises(CapturedRequest, match="'self'"):
                queue_background_work_item(lambda token: self.note(token))
            return HttpResponse("done")

        def note(self, token: Any) -> None:
            pass

    during(lambda: Client().get("/page/"), RealPage.as_view())


def test_lazy_user() -> None:
    """`request.user` holds its request, loaded or not; the cure is its primary key."""

    def view(request: HttpRequest) -> None:
        with pytest.raises(CapturedRequest, match=r"lazy object.*request\.user\.pk"):
            queue_background_work_item(use, request.user)

    during(lambda: Client().get("/page/"), view)


def test_auser() -> None:
    """`request.auser` holds its request, too."""

    def view(request: HttpRequest) -> None:
        with pytest.raises(CapturedRequest, match="of the partial"):
            queue_background_work_item(use, request.auser)

    during(lambda: Client().get("/page/"), view)


@pytest.mark.parametrize("pick", [lambda r: r.FILES["photo"], lambda r: r.FILES])
def test_uploaded_file(pick: Any) -> None:
    """A file of the request is closed with it; the cure is to save or to copy it."""
    request = RequestFactory().post("/", {"photo": SimpleUploadedFile("sea.jpg", b"x")})
    with pytest.raises(CapturedRequest, match=r"a file of the request.*files=\(\.\.\.\)"):
        queue_background_work_item(use, pick(request))


def test_scope() -> None:
    """An ASGI scope is the request by another name."""
    with pytest.raises(CapturedRequest, match="an ASGI scope"):
        queue_background_work_item(use, AsyncRequestFactory().get("/").scope)


def test_environ() -> None:
    """A WSGI environ is the request by another name."""
    with pytest.raises(CapturedRequest, match="a WSGI environ"):
        queue_background_work_item(use, RequestFactory().get("/").environ)


class Slotted:
    """An object without a __dict__."""

    __slots__ = ("request",)


def empty_cell() -> Any:
    """Return a function whose free variable was never assigned."""
    if False:
        value = 1  # type: ignore[unreachable]
    return lambda token: value


def recursive() -> Any:
    """Return a function that refers to itself."""

    def item(token: Any) -> Any:
        return item

    return item


@pytest.mark.parametrize(
    "call",
    [
        (use, 1, "text", None, [1, {"a": (2,)}], {"request": "text"}),
        (use, SimpleLazyObject(lambda: pytest.fail("it was evaluated"))),
        (use, {"type": "http", "path": "/"}),
        (use, object(), Slotted(), View, functools),
        (empty_cell(),),
        (recursive(),),
        (defaulted(5),),
        (Worker("not a request"),),
        (Page().work,),
        (functools.partial(use, visit=5),),
    ],
)
def test_harmless(call: tuple[Any, ...]) -> None:
    """What holds no request is queued, and nothing lazy is evaluated."""
    with captured_work_items() as captured:
        queue_background_work_item(*call)
    assert len(captured) == 1


def test_look_is_bounded() -> None:
    """A large argument is looked into only so far: queueing stays cheap."""
    request = RequestFactory().get("/")
    with captured_work_items() as captured:
        queue_background_work_item(use, [[]] * 100 + [request])
        assert len(captured) == 1
        with pytest.raises(CapturedRequest):
            queue_background_work_item(use, [request] + [[]] * 100)


def test_number_of_looks_is_bounded() -> None:
    """However large an argument is, only a hundred of the values in it are looked at."""
    looked_at: list[object] = []
    rows: list[Any] = [[[{} for _ in range(32)] for _ in range(32)] for _ in range(32)]
    with pytest.MonkeyPatch.context() as patch, captured_work_items():
        patch.setattr(guard, "_environment", looked_at.append)
        queue_background_work_item(use, rows, *[{} for _ in range(32)])
    assert 32 <= len(looked_at) <= 100


@pytest.mark.parametrize("base", [list, tuple, set, frozenset, dict, collections.deque])
def test_code_of_a_container_is_not_run(base: Any) -> None:
    """A container of the user's own is looked into without its own methods."""

    class Own(base):
        def __iter__(self) -> Any:
            pytest.fail("it was iterated")

        def items(self) -> Any:
            pytest.fail("it was iterated")

        def __contains__(self, key: object) -> bool:
            pytest.fail("it was searched")

    with captured_work_items() as captured:
        queue_background_work_item(use, Own())
    assert len(captured) == 1


def test_container_that_another_thread_changes() -> None:
    """A set or a dict that changes meanwhile stops nobody from queueing."""
    changing: set[int] = set()
    table: dict[int, list[int]] = {}
    stop = threading.Event()

    def change() -> None:
        for number in itertools.count():
            changing.add(number % 100)
            changing.discard((number + 50) % 100)
            table[number % 100] = []
            table.pop((number + 50) % 100, None)
            if stop.is_set():
                return

    thread = threading.Thread(target=change)
    thread.start()
    try:
        with captured_work_items() as captured:
            for _ in range(2000):
                queue_background_work_item(use, changing, table)
    finally:
        stop.set()
        thread.join()
    assert len(captured) == 2000


def test_warn_instead() -> None:
    """With "warn" the item is queued, and a warning points at the line that queued it."""
    with (
        override_settings(QBWI={"REQUEST_CAPTURE": "warn"}),
        captured_work_items() as captured,
        pytest.warns(WorkItemWarning, match="would carry the request") as caught,
    ):
        background_work_item(use).queue(RequestFactory().get("/"))
    assert (len(captured), caught[0].filename) == (1, __file__)


def test_allow() -> None:
    """With "allow" nothing is looked at."""
    with override_settings(QBWI={"REQUEST_CAPTURE": "allow"}), captured_work_items() as captured:
        queue_background_work_item(use, RequestFactory().get("/"))
    assert len(captured) == 1


def test_user_that_was_assigned() -> None:
    """A user that is no lazy object is an argument like others."""
    assert "django.contrib.auth.middleware.AuthenticationMiddleware" in MIDDLEWARE
    from django.contrib.auth.models import User

    with captured_work_items() as captured:
        queue_background_work_item(use, User(username="ada"))
    assert len(captured) == 1


# G17: the guard runs no code of what it looks at.


def asked(*args: Any) -> Any:
    """Be the code that must not run."""
    raise AssertionError(f"it was asked for {args[1:]}")


def hostile_values(request: Any) -> dict[str, Any]:
    """Return values none of whose own code may run, with a request in some of them."""

    class Meta(type):
        __getattribute__ = asked
        __eq__ = asked
        __hash__ = None  # type: ignore[assignment]
        __instancecheck__ = asked
        __subclasscheck__ = asked

    class OfMeta(metaclass=Meta):
        def __init__(self, request: Any = None) -> None:
            self.request = request

    class Base:
        def __init__(self, request: Any) -> None:
            self.request = request

    class OwnNamespace(Base):
        __dict__ = property(asked)  # type: ignore[assignment]

    class OnlyOwnNamespace:
        __dict__ = property(asked)  # type: ignore[assignment]

        def __init__(self, request: Any) -> None:
            object.__setattr__(self, "request", request)

    class Attributes(Base):
        __getattribute__ = asked

    class Property:
        request = property(asked)

    class Proxy:
        __class__ = property(asked)  # type: ignore[assignment]
        __getattr__ = asked

    class HostilePartial(functools.partial[Any]):
        __getattribute__ = asked

    class Comparing:
        __eq__ = asked
        __hash__ = None  # type: ignore[assignment]

    return {
        "of a metaclass": type.__call__(OfMeta),
        "class of a metaclass": OfMeta,
        "property": Property(),
        "proxy": Proxy(),
        "not an ASGI scope": {"headers": 1, "path": 2, "type": Comparing()},
        "request, of a metaclass": type.__call__(OfMeta, request),
        "request, own namespace": OwnNamespace(request),
        "request, only own namespace": OnlyOwnNamespace(request),
        "request, attributes": Attributes(request),
        "request, partial": HostilePartial(use, request),
    }


@pytest.mark.parametrize("name", list(hostile_values(None)))
def test_g17_no_code_of_a_value_runs(name: str) -> None:
    """G17: whatever a value's class defines, the guard finds a request in it without running any of that."""
    value = hostile_values(RequestFactory().get("/"))[name]
    with captured_work_items() as captured:
        if name.startswith("request"):
            with pytest.raises(CapturedRequest):
                queue_background_work_item(use, value)
        else:
            queue_background_work_item(use, value)
            queue_background_work_item(functools.partial(use, value))
            queue_background_work_item(use, [value], {"key": value})
    assert len(captured) == (0 if name.startswith("request") else 3)


@pytest.mark.parametrize("wrap", [lambda call: call, functools.partial, lambda call: functools.partial(call, 5)])
def test_g17_callables_of_any_kind_are_queued(wrap: Callable[[Any], Any]) -> None:
    """G17: a callable that pretends to be something else is queued, and runs, as what it is."""
    called: list[Any] = []

    class Proxy:
        __class__ = property(asked)  # type: ignore[assignment]
        __getattr__ = asked

        def __call__(self, *args: Any) -> None:
            called.append(args)

    with override_settings(QBWI={}):
        assert queue_background_work_item(wrap(Proxy()), "a").wait(30)
    assert called[0][-1] == "a"
