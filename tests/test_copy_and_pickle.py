"""G21: public objects can be copied and pickled, or refuse with one clear sentence; exceptions always can."""

import concurrent.futures
import copy
import functools
import inspect
import pickle
from typing import Any

import pytest
from django.test import RequestFactory, override_settings
from django.test.runner import RemoteTestResult

import django_qbwi
from django_qbwi import (
    CancellationToken,
    CancellationTokenSource,
    CancelReason,
    OperationCancelled,
    QBWIError,
    WorkItemHandle,
    background_work_item,
    copies_request,
    queue_background_work_item,
    snapshot_request,
    track,
)
from django_qbwi.testing import captured_work_items

PATIENCE = 30
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


@background_work_item
def ship(token: Any, order: int = 0) -> int:
    """Ship an order."""
    return order


@background_work_item(timeout=5)
@copies_request
def visited(token: Any, visit: Any) -> None:
    """Record a visit."""


@copies_request
def copied(token: Any, visit: Any) -> None:
    """Record a visit."""


class Shop:
    """A method that is an item."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shop) and other.name == self.name

    @background_work_item(name="closing")
    def close(self, token: Any) -> str:
        """Close it."""
        return self.name

    @background_work_item
    @classmethod
    def open_all(cls, token: Any) -> str:
        """Open all."""
        return cls.__name__


def cancelled(message: str | None = None) -> OperationCancelled:
    """Return what a cancelled item raises."""
    source = CancellationTokenSource()
    source.cancel(CancelReason.TIMEOUT, message)
    return OperationCancelled(source.token)


def plain_function(decorated: Any) -> Any:
    """Return the function that was decorated."""
    function = inspect.unwrap(decorated)
    return getattr(function, "__func__", function)


def again(value: Any, protocol: int) -> Any:
    """Send a value through pickle."""
    return pickle.loads(pickle.dumps(value, protocol))


# Exceptions.


EXCEPTIONS = [
    value
    for name in django_qbwi.__all__
    if inspect.isclass(value := getattr(django_qbwi, name)) and issubclass(value, (QBWIError, Warning))
]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", EXCEPTIONS)
def test_g21_exceptions_are_pickled(kind: type[Exception], protocol: int) -> None:
    """G21: each of our exceptions comes back with its message and its notes."""
    error = kind("what happened")
    error.add_note("a note")
    for other in (again(error, protocol), copy.copy(error), copy.deepcopy(error)):
        assert (type(other), other.args, other.__notes__) == (kind, ("what happened",), ["a note"])


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("message", [None, "no longer wanted"])
def test_g21_operation_cancelled_is_pickled(message: str | None, protocol: int) -> None:
    """G21: OperationCancelled comes back with a token that is cancelled for the same reason."""
    error = cancelled(message)
    error.add_note("a note")
    other = again(error, protocol)
    assert (type(other), str(other), other.__notes__) == (OperationCancelled, str(error), ["a note"])
    token = other.token
    assert (token.is_cancellation_requested, token.reason, token.message) == (True, CancelReason.TIMEOUT, message)


class Stopped(OperationCancelled):
    """One of the user's own, which takes something else."""

    def __init__(self, token: CancellationToken, at: int) -> None:
        super().__init__(token)
        self.at = at


def test_g21_subclass_of_operation_cancelled_is_pickled() -> None:
    """G21: so does a subclass, with its attributes."""
    other = again(Stopped(cancelled().token, 7), pickle.DEFAULT_PROTOCOL)
    assert (type(other), other.at, other.token.reason) == (Stopped, 7, CancelReason.TIMEOUT)
    assert copy.copy(other).at == 7


def test_g21_operation_cancelled_of_a_token_that_is_not_cancelled() -> None:
    """G21: one that a test made by hand comes back as it was."""
    other = again(OperationCancelled(CancellationToken.none()), pickle.DEFAULT_PROTOCOL)
    assert (other.token.is_cancellation_requested, str(other)) == (False, "cancelled (None)")


def test_g21_parallel_test_run_takes_it() -> None:
    """G21: what escapes from a test under `manage.py test --parallel` can be sent to the main process."""
    error = cancelled()
    RemoteTestResult()._confirm_picklable((type(error), error))


# What lives in this process only.


def registration() -> Any:
    """Return a registration of a callback."""
    return CancellationToken.none().register(print)


def handle() -> WorkItemHandle:
    """Return the handle of an item that has not run."""
    with captured_work_items():
        return queue_background_work_item(ship, 1)


def tracked() -> WorkItemHandle:
    """Return the handle of what was started elsewhere, and has ended."""
    future: concurrent.futures.Future[None] = concurrent.futures.Future()
    future.set_result(None)
    return track(future)


LOCAL = {
    "token": (CancellationToken.none, "token.is_cancellation_requested"),
    "source": (CancellationTokenSource, "source.token"),
    "registration": (registration, "what its token says"),
    "tracked": (tracked, "handle.id or handle.info"),
    "handle": (handle, "handle.id or handle.info"),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", list(LOCAL))
def test_g21_what_lives_here_is_not_pickled(name: str, protocol: int) -> None:
    """G21: what others of this process change refuses with one sentence, which says what to pass instead."""
    make, cure = LOCAL[name]
    with pytest.raises(
        TypeError, match=rf"^a \w+ cannot be pickled, since it lives in this process only: pass .*{cure}"
    ):
        pickle.dumps(make(), protocol)


@pytest.mark.parametrize("name", list(LOCAL))
def test_g21_a_copy_of_what_lives_here_is_itself(name: str) -> None:
    """G21: a copy hears of the cancellation as the original does, since it is the original."""
    original = LOCAL[name][0]()
    assert copy.copy(original) is original
    assert copy.deepcopy([original])[0] is original


# Decorated items.


VARIANTS = {
    "function": lambda: ship,
    "options": lambda: ship.using(name="again", timeout=7),
    "both decorators": lambda: visited,
    "options of both": lambda: visited.using(name="again"),
    "copier": lambda: copied,
    "copier inside": lambda: visited.function,
    "method": lambda: Shop("sea").close,
    "method with options": lambda: Shop("sea").close.using(timeout=7),
    "method of the class": lambda: Shop.close,
    "class method": lambda: Shop.open_all,
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", list(VARIANTS))
def test_g21_decorated_functions_are_pickled(name: str, protocol: int) -> None:
    """G21: a decorated function is pickled by its name, as a function is, with its options."""
    decorated = VARIANTS[name]()
    other = again(decorated, protocol)
    assert (type(other), repr(other)) == (type(decorated), repr(decorated))
    assert plain_function(other) is plain_function(decorated)
    assert getattr(other, "_timeout", None) == getattr(decorated, "_timeout", None)


def test_g21_decorated_function_comes_back_as_itself() -> None:
    """G21: one that its module has under its name is that one; a method calls its own instance."""
    assert again(ship, pickle.DEFAULT_PROTOCOL) is ship
    assert again(functools.partial(ship, order=5), pickle.DEFAULT_PROTOCOL).func is ship
    assert again(Shop("sea").close, pickle.DEFAULT_PROTOCOL)(CancellationToken.none()) == "sea"


@pytest.mark.parametrize("name", list(VARIANTS))
def test_g21_a_copy_of_a_decorated_function_is_itself(name: str) -> None:
    """G21: nobody can change one, so a copy is the function, as it is for any function."""
    decorated = VARIANTS[name]()
    assert copy.copy(decorated) is decorated
    assert copy.deepcopy({"key": decorated})["key"] is decorated


@pytest.mark.parametrize("decorate", [background_work_item, copies_request, background_work_item(name="mine")])
def test_g21_local_function_is_not_pickled(decorate: Any) -> None:
    """G21: a function inside of a function refuses, decorated or not, with one sentence."""
    with pytest.raises(TypeError, match=r"cannot be pickled: as with any function, decorated or not, its module"):
        pickle.dumps(decorate(lambda token, visit: None))


# Infos and snapshots.


def test_g21_infos_and_snapshots_are_pickled() -> None:
    """G21: plain values can be copied and pickled, also the error of a failed item."""
    with override_settings(QBWI={}):
        failed = queue_background_work_item(lambda token: 1 / 0)
        assert failed.wait(PATIENCE)
        values = [failed.info, failed.info.error, snapshot_request(RequestFactory().get("/?q=sea"))]
    for value in values:
        assert value is not None
        for other in (copy.copy(value), copy.deepcopy(value), *(again(value, protocol) for protocol in PROTOCOLS[2:])):
            assert other == value
