"""What can be queued, and what is refused with which cure."""

import asyncio
import builtins
import functools
import inspect
import sys
import types
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock, create_autospec

import pytest
from django.utils.functional import SimpleLazyObject
from django.views import View
from hypothesis import given, settings
from hypothesis import strategies as st

from django_qbwi.core.exceptions import InvalidWorkItem
from django_qbwi.core.names import FunctionWrapper, name_of
from django_qbwi.intake.callables import examine

markcoroutinefunction = getattr(inspect, "markcoroutinefunction", None)


def plain(token: Any, album: Any = None) -> None:
    """Stand for any sync item."""


async def coroutine(token: Any, album: Any = None) -> None:
    """Stand for any async item."""


def generator(token: Any) -> Iterator[int]:
    yield 1


async def async_generator(token: Any) -> AsyncIterator[int]:
    yield 1


class Items:
    """Each kind of method, and a callable object."""

    def method(self, token: Any) -> None: ...

    async def async_method(self, token: Any) -> None: ...

    def generator_method(self, token: Any) -> Iterator[int]:
        yield 1

    @classmethod
    def class_method(cls, token: Any) -> None: ...

    @staticmethod
    def static_method(token: Any) -> None: ...

    def __call__(self, token: Any) -> None: ...


class AsyncItem:
    async def __call__(self, token: Any) -> None: ...


class GeneratorItem:
    def __call__(self, token: Any) -> Iterator[int]:
        yield 1


class AsyncGeneratorItem:
    async def __call__(self, token: Any) -> AsyncIterator[int]:
        yield 1


def two_arguments(token: Any, first: Any, second: Any) -> None: ...


def keyword_only(token: Any, *, album: Any) -> None: ...


def keyword_after_star(*args: Any, album: Any) -> None: ...


def keyword_default(token: Any, *, album: Any = 1) -> None: ...


def positional_only(token: Any, album: Any, /, **rest: Any) -> None: ...


def any_keywords(token: Any, **rest: Any) -> None: ...


def anything(*args: Any, **kwargs: Any) -> None: ...


@functools.wraps(plain)
def wrapper(*args: Any, **kwargs: Any) -> None:
    """Pretend to be `plain`."""


SYNC: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
    (plain, ()),
    (plain, (1,)),
    (lambda token: None, ()),
    (lambda token, *rest: None, (1, 2, 3)),
    (anything, (1, 2)),
    (wrapper, (1,)),
    (keyword_default, ()),
    (two_arguments, (1, 2)),
    (positional_only, (1,)),
    (functools.partial(plain), ()),
    (functools.partial(plain, album=1), ()),
    (functools.partial(keyword_only, album=1), ()),
    (functools.partial(keyword_after_star, album=1), (1, 2)),
    (functools.partial(two_arguments, second=2), (1,)),
    (functools.partial(functools.partial(two_arguments, second=2), first=1), ()),
    (functools.partial(positional_only, album=1), (1,)),
    (functools.partial(anything, 1, key=2), (3,)),
    (functools.partial(lambda first, token: None, "first"), ()),
    (Items().method, ()),
    (Items.class_method, ()),
    (Items.static_method, ()),
    (Items(), ()),
    (functools.partial(Items().method), ()),
    (functools.partial(Items()), ()),
    (types.MethodType(functools.partial(plain), "token in the place of self"), ()),
    (print, (1, 2)),
    ([].append, ()),
    (dict, ()),
    (types.SimpleNamespace, ()),
    (Mock(), (1,)),
    (MagicMock(), (1,)),
]
ASYNC: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
    (coroutine, ()),
    (coroutine, (1,)),
    (functools.partial(coroutine, album=1), ()),
    (functools.partial(functools.partial(coroutine)), (1,)),
    (Items().async_method, ()),
    (AsyncItem(), ()),
    (functools.partial(AsyncItem()), ()),
    (AsyncMock(), (1,)),
]


@pytest.mark.parametrize(("work_item", "args"), SYNC)
def test_sync_kinds_are_accepted(work_item: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Every kind of callable that takes a token and the arguments is a sync item."""
    assert examine(work_item, args) is False


@pytest.mark.parametrize(("work_item", "args"), ASYNC)
def test_async_kinds_are_recognised(work_item: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Every kind of coroutine function, also inside a partial or an object, is an async item."""
    assert examine(work_item, args) is True


@pytest.mark.parametrize("wrap", [lambda function: function, functools.partial])
def test_marked_function_is_async(wrap: Callable[[Any], Any]) -> None:
    """A sync function that is marked as a coroutine function, as Django's decorators do, is async."""

    def marked(token: Any) -> None: ...

    if markcoroutinefunction is not None:
        markcoroutinefunction(marked)
    else:
        marked._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
    assert examine(wrap(marked), ()) is True
    assert examine(wrap(marked), ()) is True


@pytest.mark.parametrize("make", [lambda: functools.partial(plain), Items])
def test_marked_object_is_async(make: Callable[[], Any]) -> None:
    """The mark may stand on a partial or on a callable object as well."""
    work_item = make()
    if markcoroutinefunction is not None:
        markcoroutinefunction(work_item)
    else:
        work_item._is_coroutine = asyncio.coroutines._is_coroutine
    assert examine(work_item, ()) is True


@pytest.mark.parametrize(
    "work_item",
    [
        generator,
        async_generator,
        functools.partial(generator),
        Items().generator_method,
        GeneratorItem(),
        AsyncGeneratorItem(),
        functools.partial(GeneratorItem()),
    ],
)
def test_generator_function_is_refused(work_item: Callable[..., Any]) -> None:
    """Calling a generator function runs nothing: refused, with the reason."""
    with pytest.raises(InvalidWorkItem, match="is a generator function: calling it runs none of its body"):
        examine(work_item, ())


@pytest.mark.parametrize(
    ("work_item", "args", "problem"),
    [
        (lambda: None, (), "at most 0 positional"),
        (plain, (1, 2), "at most 2 positional argument.* would get 3"),
        (two_arguments, (), "no value for first, second"),
        (two_arguments, (1,), "no value for second"),
        (keyword_only, (), "no value for the keyword-only 'album'"),
        (keyword_only, (1,), "at most 1"),
        (functools.partial(plain, token=1), (), "two values for 'token'"),
        (functools.partial(any_keywords, token=1), (), "two values for 'token'"),
        (functools.partial(plain, colour=1), (), "no keyword argument 'colour'"),
        (functools.partial(two_arguments, second=1), (), "no value for 'first'"),
        (functools.partial(positional_only, album=1), (), "no value for 'album'"),
        (functools.partial(plain, 1, 2), (), "at most 2"),
        (Items.method, (), "no value for token"),
        (Items().method, (1,), "at most 2"),
        (Items(), (1,), "at most 2 positional"),
        (AsyncItem(), (1,), "at most 2 positional"),
        (functools.partial(Items(), 1), (), "at most 2 positional"),
    ],
)
def test_wrong_arity_is_refused(work_item: Callable[..., Any], args: tuple[Any, ...], problem: str) -> None:
    """What cannot be called with a token and the arguments is refused, with the parameter and the cure."""
    with pytest.raises(InvalidWorkItem, match=problem) as caught:
        examine(work_item, args)
    assert "first parameter must be the cancellation token" in str(caught.value)


class Wrapped(FunctionWrapper):
    """Stands for an object that calls the function inside with the same arguments."""

    __slots__ = ("inside",)

    def __init__(self, inside: Callable[..., Any]) -> None:
        self.inside = inside

    @property
    def function(self) -> Callable[..., Any]:
        return self.inside

    def __call__(self, *args: Any) -> Any: ...


@pytest.mark.parametrize(("work_item", "is_async"), [(plain, False), (coroutine, True)])
def test_wrapper_is_examined_as_its_function(work_item: Callable[..., Any], is_async: bool) -> None:
    """An object that says what it calls is looked through, also inside a method."""
    assert examine(Wrapped(work_item), ()) is is_async
    assert examine(types.MethodType(Wrapped(work_item), "token in the place of self"), ()) is is_async
    with pytest.raises(InvalidWorkItem, match="at most 2"):
        examine(Wrapped(work_item), (1, 2))


def test_wrapper_has_to_say_its_function() -> None:
    """The base class of such objects knows of none."""
    with pytest.raises(NotImplementedError):
        FunctionWrapper().function  # noqa: B018


def test_coroutine_object_is_refused_and_closed() -> None:
    """A coroutine object is refused with the cure, and Python does not warn that it was never awaited."""
    with pytest.raises(InvalidWorkItem, match=r"coroutine\(\.\.\.\) is a coroutine object: pass the function, do not"):
        examine(coroutine(None), ())


def test_future_is_refused() -> None:
    """Another awaitable is refused too: it belongs to whoever made it."""
    loop = asyncio.new_event_loop()
    with pytest.raises(InvalidWorkItem, match="Future is awaited already somewhere"):
        examine(loop.create_future(), ())
    loop.close()


@pytest.mark.parametrize("value", [None, 7, "send_mail", object(), [plain]])
def test_what_is_not_callable_is_refused(value: object) -> None:
    """Anything else is refused with the name of its type."""
    with pytest.raises(InvalidWorkItem, match=f"which a .*{type(value).__name__} is not: pass the function itself"):
        examine(value, ())


def test_invalid_work_item_is_a_type_error() -> None:
    """Code that expects Python's own error for a wrong call catches ours."""
    with pytest.raises(TypeError):
        examine(7, ())


def test_builtin_without_signature_is_accepted() -> None:
    """A built-in that does not tell its signature is let through: the call will tell."""
    without = [function for function in vars(builtins).values() if callable(function) and not _has_signature(function)]
    assert without
    assert examine(without[0], (1, 2, 3)) is False


def test_callable_without_usable_signature_is_accepted() -> None:
    """An object whose signature is broken is let through as well."""

    class Odd:
        __signature__ = "no signature"

        def __call__(self, token: Any) -> None: ...

    assert examine(Odd(), ()) is False


@pytest.mark.skipif(sys.version_info < (3, 14), reason="functools.Placeholder is new in Python 3.14")
def test_placeholder_takes_the_token() -> None:
    """A partial with a hole is asked by its signature: the token fills the hole."""
    hole = functools.Placeholder  # type: ignore[attr-defined]
    assert examine(functools.partial(two_arguments, hole, 1, 2), ()) is False
    with pytest.raises(InvalidWorkItem, match="no value for second"):
        examine(functools.partial(two_arguments, hole, 1), ())


def test_placeholder_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A partial with a hole takes the slow way, which knows them."""
    hole = object()
    monkeypatch.setattr(functools, "Placeholder", hole, raising=False)
    assert examine(functools.partial(anything, hole), ()) is False
    assert examine(functools.partial(anything, 1), ()) is False


def _has_signature(function: Any) -> bool:
    try:
        inspect.signature(function)
    except (ValueError, TypeError):
        return False
    return True


# Compared with the standard library.

_NAMES = ["a", "b", "c", "d"]


@st.composite
def _functions(draw: st.DrawFn) -> Callable[..., Any]:
    """A function with up to four parameters of any kinds, defaults and stars."""
    names = iter(_NAMES)
    positional_only = [next(names) for _ in range(draw(st.integers(0, 2)))]
    positional = [next(names) for _ in range(draw(st.integers(0, 2)))]
    keyword_names = draw(st.lists(st.sampled_from(["k", "m"]), unique=True))
    defaults = draw(st.integers(0, len(positional_only) + len(positional)))
    first_default = len(positional_only) + len(positional) - defaults
    parts = []
    for index, name in enumerate([*positional_only, *positional]):
        parts.append(f"{name}=0" if index >= first_default else name)
        if index + 1 == len(positional_only):
            parts.append("/")
    stars = draw(st.booleans())
    if stars or keyword_names:
        parts.append("*args" if stars else "*")
    parts += [name + ("=0" if draw(st.booleans()) else "") for name in keyword_names]
    if draw(st.booleans()):
        parts.append("**kwargs")
    namespace: dict[str, Any] = {}
    exec(f"def function({', '.join(parts)}): pass", namespace)
    function: Callable[..., Any] = namespace["function"]
    return function


@st.composite
def _callables(draw: st.DrawFn) -> Callable[..., Any]:
    """Such a function, or a method or partials of it."""
    work_item: Any = draw(_functions())
    for _ in range(draw(st.integers(0, 2))):
        if draw(st.booleans()):
            work_item = functools.partial(
                work_item,
                *draw(st.lists(st.integers(), max_size=2)),
                **draw(st.dictionaries(st.sampled_from([*_NAMES, "k", "m", "x"]), st.integers(), max_size=2)),
            )
        else:
            work_item = types.MethodType(work_item, "self")
    return work_item  # type: ignore[no-any-return]


@settings(max_examples=300)
@given(work_item=_callables(), args=st.lists(st.integers(), max_size=4))
def test_verdict_is_that_of_the_call(work_item: Callable[..., Any], args: list[int]) -> None:
    """`examine` accepts exactly what can be called so: the functions do nothing, so they are called."""
    try:
        work_item(None, *args)
    except TypeError:
        with pytest.raises(InvalidWorkItem):
            examine(work_item, tuple(args))
    else:
        assert examine(work_item, tuple(args)) is False


@given(work_item=_functions(), args=st.lists(st.integers(), max_size=4))
def test_verdict_is_that_of_inspect(work_item: Callable[..., Any], args: list[int]) -> None:
    """For functions `examine` and `inspect.signature().bind` agree."""
    try:
        inspect.signature(work_item).bind(None, *args)
    except TypeError:
        with pytest.raises(InvalidWorkItem):
            examine(work_item, tuple(args))
    else:
        assert examine(work_item, tuple(args)) is False


# G15: what an object says that it wraps is not what it takes.


class Decorated:
    """A decorator object that adds an argument in front, and looks like its function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.inside = function

    def __call__(self, token: Any, *args: Any) -> None:
        self.inside(token, "added", *args)


class SignedDecorated(Decorated):
    """The same, with the signature of its function as well."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self.__signature__ = inspect.signature(function)


class DecoratedClass:
    """A class that claims to be a function."""

    def __init__(self, token: Any) -> None: ...


class StaticCall:
    @staticmethod
    def __call__(token: Any, album: Any) -> None: ...


class Made:
    """A class whose `__new__` takes the arguments."""

    def __new__(cls, token: Any, album: Any) -> "Made":
        return super().__new__(cls)


class Meta(type):
    def __call__(cls, token: Any, album: Any) -> None: ...


class ByMeta(metaclass=Meta):
    """A class whose call is that of its metaclass."""

    def __init__(self, nothing: Any, of: Any, this: Any) -> None: ...


def wraps_two(*args: Any) -> None: ...


functools.update_wrapper(wraps_two, two_arguments)
functools.update_wrapper(DecoratedClass, two_arguments, updated=())


@pytest.mark.parametrize(
    ("work_item", "args"),
    [
        (Decorated(two_arguments), (1,)),
        (SignedDecorated(two_arguments), (1,)),
        (functools.partial(Decorated(two_arguments)), (1,)),
        (Decorated(two_arguments).__call__, (1,)),
        (Decorated(generator), ()),
        (wraps_two, (1,)),
        (DecoratedClass, ()),
        (StaticCall(), (1,)),
        (Made, (1,)),
        (ByMeta, (1,)),
    ],
)
def test_g15_only_a_call_of_the_object_counts(work_item: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """G15: an object is asked what its own call takes, never what the function that it wraps does."""
    assert examine(work_item, args) is False


@pytest.mark.parametrize(
    ("work_item", "args"),
    [
        (Decorated.__call__, ()),
        (DecoratedClass, (1,)),
        (StaticCall(), ()),
        (Made, ()),
        (ByMeta, (1, 2, 3)),
        (functools.lru_cache(two_arguments), ()),
        (len, (1,)),
        (Items, ()),
    ],
)
def test_g15_wrong_calls_of_objects_are_refused(work_item: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """G15: what such a call cannot take is refused."""
    with pytest.raises(InvalidWorkItem, match="cannot be called as"):
        examine(work_item, args)


# G16: a double is no function, whatever class it claims to have.


class Mailer:
    def send(self, token: Any, address: str) -> None: ...

    async def asend(self, token: Any, address: str) -> None: ...


@pytest.mark.parametrize(
    ("work_item", "is_async"),
    [
        (create_autospec(Mailer).send, False),
        (create_autospec(Mailer, instance=True).send, False),
        (create_autospec(Mailer, instance=True).asend, True),
        (create_autospec(plain), False),
        (create_autospec(coroutine), True),
        (create_autospec(AsyncItem, instance=True), False),
        (Mock(spec=plain), False),
        (MagicMock(spec=plain), False),
        (Mock(spec=generator), False),
        (Mock(spec=Items().method), False),
        (AsyncMock(spec=coroutine), True),
        (AsyncMock(), True),
    ],
)
@pytest.mark.parametrize("wrap", [lambda work_item: work_item, functools.partial])
def test_g16_doubles_are_accepted(work_item: Any, is_async: bool, wrap: Callable[[Any], Any]) -> None:
    """G16: doubles of unittest.mock can be queued, and partials of them."""
    assert examine(wrap(work_item), ("a@example.org",)) is is_async


# G17: no code of the callable runs.


def asked(*args: Any) -> Any:
    """Be the code that must not run."""
    raise AssertionError(f"it was asked for {args[1:]}")


def hostile_callables() -> dict[str, Any]:
    """Return callables none of whose own code may run; pytest would run it for what stands in a module."""

    class Hostile:
        __getattribute__ = asked

        def __call__(self, token: Any) -> None: ...

    class HostileAttributes:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

        def __call__(self, token: Any) -> None: ...

    class HostilePartial(functools.partial[Any]):
        __getattribute__ = asked

    class Proxy:
        __class__ = property(asked)  # type: ignore[assignment]
        __getattr__ = asked

        def __call__(self, token: Any) -> None: ...

    class HostileMeta(type):
        __getattribute__ = asked
        __eq__ = asked
        __hash__ = None  # type: ignore[assignment]

    class HostileClass(metaclass=HostileMeta):
        def __init__(self, token: Any) -> None: ...

        def __call__(self, token: Any) -> None: ...

    class NamedByProperty:
        __dict__ = property(asked)  # type: ignore[assignment]

        def __call__(self, token: Any) -> None: ...

    return {
        "object": Hostile(),
        "attributes": HostileAttributes(),
        "partial": HostilePartial(plain),
        "proxy": Proxy(),
        "class": HostileClass,
        "instance": type.__call__(HostileClass, None),
        "namespace": NamedByProperty(),
    }


@pytest.mark.parametrize("kind", list(hostile_callables()))
@pytest.mark.parametrize("wrap", [lambda work_item: work_item, functools.partial], ids=["itself", "partial"])
def test_g17_no_code_of_the_callable_runs(kind: str, wrap: Callable[[Any], Any]) -> None:
    """G17: neither the look at a callable nor its name asks the object for anything."""
    work_item = wrap(hostile_callables()[kind])
    assert examine(work_item, ()) is False
    assert name_of(work_item).startswith(f"{__name__}.")
    with pytest.raises(InvalidWorkItem, match="cannot be called as"):
        examine(work_item, (1, 2, 3))


def test_g17_lazy_proxy_is_not_evaluated() -> None:
    """G17: a lazy object that cannot be called is refused as what it is."""
    with pytest.raises(InvalidWorkItem, match=r"which a .*SimpleLazyObject is not"):
        examine(SimpleLazyObject(lambda: pytest.fail("it was evaluated")), ())


# G24: what was passed, and what to do.


class Page(View):
    """A view."""


def task_library(name: str) -> Any:
    """Return a task as the library of that name has it."""

    class Task:
        def delay(self, *args: Any, **kwargs: Any) -> None: ...

        def apply_async(self, args: Any = None, kwargs: Any = None) -> None: ...

        async def aenqueue(self, *args: Any, **kwargs: Any) -> None: ...

        def enqueue(self, *args: Any, **kwargs: Any) -> None: ...

    for function in vars(Task).values():
        if isinstance(function, types.FunctionType):
            function.__module__ = name
    Task.__module__ = name
    return Task()


class Queue:
    """A class of the user's own, with methods that are called as those of tasks."""

    def delay(self, token: Any) -> None: ...

    def enqueue(self, *args: Any) -> None: ...


@pytest.mark.parametrize(
    ("work_item", "message"),
    [
        (Page, r"test_callables\.Page is a view: it answers a request.*Queue the function that does the work"),
        (Page.as_view(), r"test_callables\.Page is a view"),
        (functools.partial(Page.as_view(), slug="a"), r"test_callables\.Page is a view"),
        (task_library("celery.app.task").delay, r"Task\.delay sends a task of another library.*call it here"),
        (task_library("celery.app.task").apply_async, r"Task\.apply_async sends a task"),
        (functools.partial(task_library("django_tasks.base").enqueue, 5), r"Task\.enqueue sends a task"),
        (task_library("django.tasks.base").aenqueue, r"Task\.aenqueue sends a task"),
        (task_library("django.tasks.base"), r"a django.tasks.base.*Task is a task of another library: send it"),
        (Decorated, "It is a class, whose call makes an instance: queue a function, or a bound method"),
    ],
)
def test_g24_refused_with_what_was_passed(work_item: Any, message: str) -> None:
    """G24: a view and the method that sends a task are refused as what they are, with what to do instead."""
    with pytest.raises(InvalidWorkItem, match=message):
        examine(work_item, () if work_item is not Decorated else (1,))


@pytest.mark.parametrize("work_item", [Queue().delay, Queue().enqueue, Page().dispatch])
def test_g24_own_methods_of_such_names_are_accepted(work_item: Any) -> None:
    """G24: a method of the user's own may have any name."""
    assert examine(work_item, ()) is False
