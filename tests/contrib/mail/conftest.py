"""A site whose mail goes to the scripted backend."""

from collections.abc import Iterator

import pytest

from tests.contrib.mail import sending


@pytest.fixture(autouse=True)
def afresh() -> Iterator[None]:
    """Nothing is left of other tests."""
    sending.start_afresh()
    yield
    sending.start_afresh()


@pytest.fixture
def site(afresh: None) -> Iterator[None]:
    """Settings for the time of a test; what is queued in it has ended when they are left."""
    with sending.site():
        yield
