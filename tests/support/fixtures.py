"""Schedulers for the tests of the core, by hand and on real threads."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.clock import FakeClock
from tests.support.gates import Gate
from tests.support.manual import ManualRuntime
from tests.support.runtime import Runtime, running


@pytest.fixture
def clock() -> FakeClock:
    """A clock that moves only when told."""
    return FakeClock()


@pytest.fixture
def manual() -> ManualRuntime:
    """A scheduler moved by hand."""
    return ManualRuntime()


@pytest.fixture
def start() -> Iterator[Callable[..., Runtime]]:
    """Make runtimes on real threads, which end with the test."""
    with ExitStack() as stack:

        def make(**options: Any) -> Runtime:
            return stack.enter_context(running(**options))

        yield make


@pytest.fixture
def runtime(start: Callable[..., Runtime]) -> Runtime:
    """A runtime with two workers and a loop."""
    return start()


@pytest.fixture
def gate(start: Callable[..., Runtime]) -> Iterator[Gate]:
    """An item that holds its worker until the test opens it, or ends."""
    gate = Gate()
    yield gate
    gate.open()
