"""A site with sessions, users and languages, and a scheduler for each test."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings
from django.utils import translation

from tests.intake.pages import MIDDLEWARE


@pytest.fixture(autouse=True)
def site() -> Iterator[None]:
    """Install the pages, and a scheduler that ends with the test."""
    with override_settings(
        ROOT_URLCONF="tests.intake.pages",
        MIDDLEWARE=MIDDLEWARE,
        LANGUAGE_CODE="en",
        LANGUAGES=[("en", "English"), ("de", "German")],
        ALLOWED_HOSTS=["testserver", "example.org"],
        QBWI={},
    ):
        yield
        # LocaleMiddleware leaves the language of the last request active in the thread, which here is the tests'.
        translation.deactivate()


@pytest.fixture
def user(transactional_db: None, django_user_model: Any) -> Any:
    """Return a user in the database, committed."""
    return django_user_model.objects.create_user("ada", password="secret")
