"""The pytest plugin: fixtures for `django_qbwi.testing`, and a drain after each test.

It imports no Django at its top: pytest loads it in every project where the package is installed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from django_qbwi.testing import CapturedWorkItems

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


@pytest.fixture
def immediate_work_items() -> Iterator[None]:
    """Run work items at the call, in the caller's thread."""
    from django_qbwi import testing

    with testing.immediate_work_items():
        yield


@pytest.fixture
def captured_work_items() -> Iterator[CapturedWorkItems]:
    """Collect work items instead of running them; `.run_all()` runs them."""
    from django_qbwi import testing

    with testing.captured_work_items() as captured:
        yield captured


@pytest.fixture
def drain_work_items() -> Callable[..., bool]:
    """Return `django_qbwi.testing.drain`, to wait for what a test has queued."""
    from django_qbwi import testing

    return testing.drain
