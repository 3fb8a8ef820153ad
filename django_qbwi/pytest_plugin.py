"""The pytest plugin: fixtures for `django_qbwi.testing`, and a drain after each test.

It imports no Django at its top: pytest loads it in every project where the package is installed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from django_qbwi.testing import CapturedWorkItems

_MARKER = "work_items"
_UNDISTURBED_SECONDS = 0.5
_DRAIN_SECONDS = 5.0


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Wait for the items of a test before its fixtures, and so its database, are torn down."""
    ended = _end_items()
    result = yield
    if not ended:
        # Not before the teardown: where warnings are errors, this one would keep the fixtures from being torn down.
        item.warn(
            pytest.PytestWarning(f"work items of this test did not end within {_DRAIN_SECONDS:g} s and were abandoned")
        )
    return result


def _end_items() -> bool:
    hosting = sys.modules.get("django_qbwi.hosting")
    if hosting is None or not hosting.is_busy():
        return True
    from django_qbwi.testing import drain

    scheduler = hosting.scheduler()
    if scheduler.wait_until_empty(_UNDISTURBED_SECONDS):
        return True
    # What still runs may wait for its token: that of a fixture which cancels it in its own teardown, for instance.
    for running in scheduler.live_items():
        scheduler.cancel(running, "the test is over")
    return drain(_DRAIN_SECONDS - _UNDISTURBED_SECONDS)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, for projects with strict ones."""
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(on_commit=False, waits='real'): options of the fixtures immediate_work_items and "
        "captured_work_items",
    )


@pytest.fixture
def immediate_work_items(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run work items at the call, in the caller's thread; options by `@pytest.mark.work_items(...)`."""
    from django_qbwi import testing

    with testing.immediate_work_items(**_options(request)):
        yield


@pytest.fixture
def captured_work_items(request: pytest.FixtureRequest) -> Iterator[CapturedWorkItems]:
    """Collect work items instead of running them; `.run_all()` runs them."""
    from django_qbwi import testing

    options = _options(request)
    options.pop("on_commit", None)
    with testing.captured_work_items(**options) as captured:
        yield captured


def _options(request: pytest.FixtureRequest) -> dict[str, Any]:
    # The nearest one wins, name by name.
    options: dict[str, Any] = {}
    for marker in request.node.iter_markers(_MARKER):
        options = marker.kwargs | options
    return options


@pytest.fixture
def drain_work_items() -> Callable[..., bool]:
    """Return `django_qbwi.testing.drain`, to wait for what a test has queued."""
    from django_qbwi import testing

    return testing.drain
