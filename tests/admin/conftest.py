"""A site to look at, real and pretended; each test of the page leaves no thread of ours behind."""

import threading
from collections.abc import Iterator
from unittest import mock

import pytest
from django.test import Client, override_settings

from django_qbwi import CancellationToken, WorkItemHandle, queue_background_work_item
from django_qbwi.console import operations
from tests.admin.site import FakeSite, user


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


@pytest.fixture
def operator() -> Client:
    """Return the client of somebody who may see and cancel."""
    return user("view_workitem", "cancel_workitem", name="ada")


@pytest.fixture
def fake() -> Iterator[FakeSite]:
    """Put a fake in the place of the processes."""
    fake = FakeSite()
    with mock.patch.multiple(operations, overview=fake.overview, find=fake.find, cancel=fake.cancel):
        yield fake


@pytest.fixture
def running() -> Iterator[WorkItemHandle]:
    """Queue a real item that runs until it is cancelled, and wait until it runs."""
    started, release = threading.Event(), threading.Event()

    def resize(token: CancellationToken) -> None:
        started.set()
        with token.register(release.set):
            release.wait(30)
        token.raise_if_cancellation_requested()

    with override_settings(QBWI={"MAX_WORKERS": 1}):
        handle = queue_background_work_item(resize, name="resize")
        assert started.wait(30)
        yield handle
        release.set()
        assert handle.wait(30)
