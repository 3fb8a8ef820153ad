"""The fixtures of these tests."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.executors.processes.crew import Crew


@pytest.fixture
def hire() -> Iterator[Callable[..., Crew]]:
    """Make crews, which are gone with the test."""
    with ExitStack() as stack:

        def make(**options: Any) -> Crew:
            crew = Crew(**options)
            stack.callback(crew.retire)
            return crew

        yield make


@pytest.fixture
def crew(hire: Callable[..., Crew]) -> Crew:
    """A crew of one helper."""
    return hire()
