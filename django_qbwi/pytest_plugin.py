"""The pytest plugin: fixtures for `django_qbwi.testing`, and a drain after each test.

It imports no Django at its top: pytest loads it in every project where the package is installed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from django_qbwi.testing import CapturedWorkItems, Shutdown

_MARKER = "work_items"
_FAILS = "qbwi_fail_on_leftover"
_UNDISTURBED_SECONDS = 0.5
_DRAIN_SECONDS = 5.0


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Wait for the items of a test before its fixtures, and so its database, are torn down."""
    left, ended = _end_items(may_be_left=not _fails_on_leftover(item))
    result = yield
    # Not before the teardown: an error would keep the fixtures from being torn down, and a warning may be one.
    if left is not None:
        pytest.fail(left, pytrace=False)
    if not ended:
        item.warn(
            pytest.PytestWarning(f"work items of this test did not end within {_DRAIN_SECONDS:g} s and were abandoned")
        )
    return result


def _end_items(*, may_be_left: bool) -> tuple[str | None, bool]:
    """End the items of a test; return what to say of those that are left, and whether all have ended."""
    hosting = sys.modules.get("django_qbwi.hosting")
    if hosting is None or not hosting.is_busy():
        return None, True
    from django_qbwi import testing

    scheduler = hosting.scheduler()
    if scheduler.wait_until_empty(_UNDISTURBED_SECONDS):
        return None, True
    left = None if may_be_left else testing.left_after(0.0, waited=_UNDISTURBED_SECONDS)
    # What still runs may wait for its token: that of a fixture which cancels it in its own teardown, for instance.
    for running in scheduler.live_items():
        scheduler.cancel(running, "the test is over")
    return left, testing.drain(_DRAIN_SECONDS - _UNDISTURBED_SECONDS)


def _fails_on_leftover(item: pytest.Item) -> bool:
    return bool(item.config.getini(_FAILS)) or "no_work_items_left" in getattr(item, "fixturenames", ())


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the option of pytest.ini."""
    parser.addini(_FAILS, "Fail each test that leaves work items behind.", type="bool", default=False)


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


@pytest.fixture
def simulate_shutdown() -> Callable[..., Shutdown]:
    """Return `django_qbwi.testing.simulate_shutdown`, to end the items of a test as a deploy does."""
    from django_qbwi import testing

    return testing.simulate_shutdown


@pytest.fixture
def no_work_items_left() -> Callable[..., None]:
    """Fail a test that leaves work items behind; return `django_qbwi.testing.assert_no_work_items_left`."""
    from django_qbwi import testing

    return testing.assert_no_work_items_left
