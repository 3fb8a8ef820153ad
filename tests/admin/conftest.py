"""Each test of the page leaves no thread of ours behind."""

import threading
from collections.abc import Iterator

import pytest


def ours() -> set[threading.Thread]:
    """Return the threads of the package."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("qbwi-")}


@pytest.fixture(autouse=True)
def no_threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """Join what a test has started; a browser's class keeps its scheduler from test to test."""
    before = ours()
    yield
    if request.cls is None or not hasattr(request.cls, "live_server_url"):
        for thread in ours() - before:
            thread.join(10)
            assert not thread.is_alive(), thread


@pytest.fixture(autouse=True, scope="module")
def no_threads_of_a_module() -> Iterator[None]:
    """The same at the end of a module."""
    before = ours()
    yield
    for thread in ours() - before:
        thread.join(10)
        assert not thread.is_alive(), thread
