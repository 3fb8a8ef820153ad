"""`copies_request` and `snapshot_request`: the one line that replaces a request by a copy."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from django.http import HttpRequest

from django_qbwi.core.cancellation import CancellationToken
from django_qbwi.core.exceptions import InvalidWorkItem
from django_qbwi.core.names import is_partial, layers_of, name_of, parts_of_partial
from django_qbwi.intake.activation import SurroundedAwaitable, active
from django_qbwi.intake.decorated import DecoratedFunction
from django_qbwi.intake.reading import http_request_of
from django_qbwi.intake.selection import NOTHING_MORE, Selection, select
from django_qbwi.intake.snapshot import RequestSnapshot

P = ParamSpec("P")
Options = ParamSpec("Options")
R = TypeVar("R")
Q = TypeVar("Q", covariant=True)

Computed = Callable[[Any], Any]

_MAX_WRAPPERS = 100  # a function may be its own `__wrapped__`


class Queueable(Protocol[Q]):
    """What `background_work_item` makes of a function, seen from here: it can put a copier around its function."""

    def copying_request(self, copy: Callable[[Callable[..., Any]], Callable[..., Any]], /) -> Q:
        """Return it with `copy(function)` in the place of its function."""


class RequestCopier(DecoratedFunction, Generic[P, R]):
    """A function whose first argument after the token is a request, and becomes a `RequestSnapshot`.

    - Queued: the request is copied in the caller's thread, at the call.
    - Called: the request is copied at once, as a unit test does it.
    - While the function runs, the snapshot's language, time zone, script prefix and URLconf are active.
    """

    cure = "It is decorated with copies_request: give the request as the first argument after the token"

    def __init__(
        self, function: Callable[Concatenate[CancellationToken, RequestSnapshot, P], R], selection: Selection
    ) -> None:
        super().__init__(function)
        self._selection = selection

    if TYPE_CHECKING:

        def __call__(
            self, token: CancellationToken, request: HttpRequest | RequestSnapshot, /, *args: P.args, **kwargs: P.kwargs
        ) -> R:
            """Run the function here and now."""

    else:

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            """Run the function here and now; the request may be given by its keyword."""
            return self._run(args, kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> RequestCopier[P, R]:
        """Bind it as a method."""
        if instance is None:
            return self
        return RequestCopier(self._function.__get__(instance, owner), self._selection)

    @property
    def computed(self) -> Mapping[str, Computed]:
        """The functions of the values that it computes, by name."""
        return self._selection.computed

    def copy(self, given: Any) -> RequestSnapshot:
        """Return the snapshot for what stands after the token.

        Raises:
            InvalidWorkItem: It is neither a request nor a snapshot, or a value cannot be copied.
        """
        if type(given) is RequestSnapshot:
            return given
        if not _is_request(given):
            raise InvalidWorkItem(
                f"{name_of(self._function)} is decorated with copies_request: its argument after the token must be a "
                f"request or a RequestSnapshot, not a {name_of(type(given))}"
            )
        return self._selection.snapshot(given)

    def parameter(self, position: int) -> str | None:
        """Return the name of the parameter at `position`, counted from 0."""
        names = [
            parameter.name
            for parameter in inspect.signature(self._function).parameters.values()
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        ]
        return names[position] if position < len(names) else None

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # A partial may have put something in front of the token: functools.partial(Class.method, instance).
        position = 1 + next((at for at, value in enumerate(args) if isinstance(value, CancellationToken)), 0)
        if position == 1 and args and _is_request(args[0]):
            raise InvalidWorkItem(
                f"{name_of(self._function)} got a request in the place of its token: queue it, or call it as a unit "
                "test does, with CancellationToken.none() in front"
            )
        if position < len(args):
            snapshot = self.copy(args[position])
            args = (*args[:position], snapshot, *args[position + 1 :])
        else:
            name = self.parameter(position)
            snapshot = self.copy(kwargs.get(name or ""))
            kwargs = {**kwargs, str(name): snapshot}
        function: Callable[..., Any] = self._function
        if self._is_async:
            return _run_async(function, snapshot, args, kwargs)
        with active(snapshot):
            result = function(*args, **kwargs)
        return SurroundedAwaitable(result, lambda: active(snapshot)) if inspect.isawaitable(result) else result


@overload
def copies_request(function: Queueable[Q], /) -> Q: ...


@overload
def copies_request(
    function: Callable[Concatenate[CancellationToken, RequestSnapshot, P], R], /
) -> RequestCopier[P, R]: ...


@overload
def copies_request(
    *,
    headers: Iterable[str] = (),
    post: Iterable[str] = (),
    session: Iterable[str] = (),
    files: Iterable[str] = (),
    unmasked: Iterable[str] = (),
    max_file_bytes: int | None = None,
    **computed: Computed,
) -> Decorator: ...


def copies_request(function: Any = None, /, **options: Any) -> Any:
    """Have a function's request, its first argument after the token, copied when it is queued or called.

    With or without parentheses, above or below `background_work_item`. A RequestSnapshot is passed through.

    Args:
        function: Takes the token and a `RequestSnapshot` first; sync or async.
        headers: Names of headers to copy as well.
        post: Names of POST values.
        session: Keys of session values.
        files: Names of uploaded files, which are read into memory.
        unmasked: Names whose values are copied as they are, though they look secret.
        max_file_bytes: The largest file that is read, default: FILE_UPLOAD_MAX_MEMORY_SIZE of the settings.
        computed: Functions of the request, called in the caller's thread; their plain results are in `extra` and
            attributes of the snapshot.

    Raises:
        InvalidWorkItem: An option is wrong, or it is no function.
    """
    selection = select(**options)

    def decorate(decorated: Any) -> Any:
        if hasattr(decorated, "copying_request"):
            return decorated.copying_request(lambda inner: RequestCopier(inner, selection))
        if not callable(decorated):
            raise InvalidWorkItem(f"copies_request decorates functions, not {decorated!r}")
        return RequestCopier(decorated, selection)

    return decorate if function is None else decorate(function)


def _with_options_of(
    _: Callable[Options, Selection],
) -> Callable[[Callable[..., R]], Callable[Concatenate[Any, Options], R]]:
    return lambda function: function


@_with_options_of(select)
def snapshot_request(request: Any, /, **options: Any) -> RequestSnapshot:
    """Copy a request here and now; the options are those of `copies_request`.

    Raises:
        InvalidWorkItem: It is no request, an option is wrong, or a value cannot be copied.
    """
    return (select(**options) if options else NOTHING_MORE).snapshot(request)


class Decorator(Protocol):
    """What `copies_request(...)` with options returns."""

    @overload
    def __call__(self, function: Queueable[Q], /) -> Q: ...

    @overload
    def __call__(
        self, function: Callable[Concatenate[CancellationToken, RequestSnapshot, P], R], /
    ) -> RequestCopier[P, R]: ...


def with_snapshot(work_item: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return a call with its request copied, if `copies_request` asks for it; in the caller's thread.

    Raises:
        InvalidWorkItem: There is no request to copy, or a value of it cannot be copied.
    """
    copier, before_token = find_copier(work_item)
    if copier is None:
        return work_item, args
    if args:
        return work_item, (copier.copy(args[0]), *args[1:])
    name = copier.parameter(before_token + 1)
    if name is not None and isinstance(work_item, functools.partial) and name in work_item.keywords:
        keywords = {**work_item.keywords, name: copier.copy(work_item.keywords[name])}
        return functools.partial(work_item.func, *work_item.args, **keywords), args
    raise InvalidWorkItem(
        f"{name_of(work_item)} is decorated with copies_request, and got no request: queue it with the request as the "
        "first argument"
    )


def snapshot_of(work_item: Any, args: tuple[Any, ...]) -> RequestSnapshot | None:
    """Return the snapshot that a call carries, after `with_snapshot`."""
    if args:
        return args[0] if type(args[0]) is RequestSnapshot else None
    for layer in layers_of(work_item):
        if type(layer) is functools.partial:
            return next((value for value in layer.keywords.values() if type(value) is RequestSnapshot), None)
    return None


def find_copier(work_item: Any) -> tuple[RequestCopier[..., Any] | None, int]:
    """Return the copier inside of a callable, and how many arguments stand before its token; None if there is none."""
    before_token = 0
    for _ in range(_MAX_WRAPPERS):
        for layer in layers_of(work_item):
            if issubclass(type(layer), RequestCopier):
                return layer, before_token
            if is_partial(type(layer)):
                before_token += len(parts_of_partial(layer)[1])
        if type(layer) is not types.FunctionType or "__wrapped__" not in layer.__dict__:
            break
        # Another decorator between ours, which passes the arguments on.
        work_item = layer.__dict__["__wrapped__"]
    return None, 0


def _is_request(given: Any) -> bool:
    return type(given) is RequestSnapshot or http_request_of(given) is not None


async def _run_async(
    function: Callable[..., Awaitable[Any]], snapshot: RequestSnapshot, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    with active(snapshot):
        return await function(*args, **kwargs)
