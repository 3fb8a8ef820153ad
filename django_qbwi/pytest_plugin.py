"""The pytest plugin: fixtures for `django_qbwi.testing`, and a drain after each test.

It imports no Django at its top: pytest loads it in every project where the package is installed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from django_qbwi.testing import CapturedWorkItems

_DRAIN_SECONDS = 5.0


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Wait for the items of a test before its fixtures, and so its database, are torn down."""
    hosting = sys.modules.get("django_qbwi.hosting")
    if hosting is None or not hosting.is_busy():
        return
    from django_qbwi.testing import drain

    if not drain(_DRAIN_SECONDS):
        item.warn(
            pytest.PytestWarning(f"work items of this test did not end within {_DRAIN_SECONDS:g} s and were abandoned")
        )


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
