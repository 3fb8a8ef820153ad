"""A call as it was made: what it shows of itself, and where another process finds its function."""

import functools
import json
from typing import Any

import pytest

from django_qbwi.core.calls import Call, Options
from tests.intake.test_callables import Wrapped
from tests.support.manual import ManualRuntime, noop


class Album:
    """Something with functions in it."""

    @staticmethod
    def ship(token: Any) -> None:
        """Do nothing."""


def decorated(token: Any) -> None:
    """Do nothing."""


undecorated = decorated
decorated = Wrapped(decorated)  # type: ignore[assignment]


def test_call_does_not_show_its_arguments() -> None:
    """They may be secret."""
    assert repr(Call(noop, ("hunter2",))) == "<Call tests.support.manual.noop>"
    assert repr(Call(noop, options=Options("ship"))) == "<Call ship>"


@pytest.mark.parametrize(
    ("function", "path"),
    [
        (noop, "tests.support.manual:noop"),
        (Album.ship, f"{__name__}:Album.ship"),
        (decorated, f"{__name__}:decorated"),
        (undecorated, f"{__name__}:decorated"),
        (lambda token: None, None),
        (functools.partial(noop, 1), None),
        (Album().ship, f"{__name__}:Album.ship"),
        (json.JSONEncoder().encode, None),
        (print, None),
    ],
)
def test_import_path_is_where_the_function_is_found(function: Any, path: str | None) -> None:
    """A function of a module has a path, also behind a decorator of ours; what was made on the spot has none."""
    assert Call(function).import_path == path


def test_item_keeps_what_is_shown_of_its_call(manual: ManualRuntime) -> None:
    """Options and origin stay with the item when the call has gone."""
    call = Call(noop, (1,), False, ("POST /albums/", "r1"), Options("ship", 3.0))
    item = manual.scheduler.make_item(call)
    manual.scheduler.queue(item)
    manual.sync.start()
    manual.sync.finish(item)
    info = item.info()
    assert (info.name, info.timeout, info.origin, info.request_id) == ("ship", 3.0, "POST /albums/", "r1")
