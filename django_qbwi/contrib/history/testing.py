"""The history in a test: nothing is written there by itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from django.core.exceptions import ImproperlyConfigured

from django_qbwi import hosting
from django_qbwi.contrib.history.archive import Archive
from django_qbwi.contrib.history.store import Store


@contextlib.contextmanager
def written_history() -> Iterator[None]:
    """Write what ends badly, or moves, within a block to the table when the block is left.

    It is written in the caller's thread, by its connection, and so into the transaction of a TestCase. Wait for the
    items within the block. For sync tests.

    Raises:
        ImproperlyConfigured: `django_qbwi.contrib.history` is not in INSTALLED_APPS.
    """
    archive = hosting.history()
    if not isinstance(archive, Archive):
        raise ImproperlyConfigured('written_history() needs "django_qbwi.contrib.history" in INSTALLED_APPS')
    with archive.collecting() as collected:
        yield
    if collected:
        Store().write(collected)
