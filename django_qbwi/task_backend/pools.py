"""The pool of a task: the one of its alias, or the one that its queue has there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from django_qbwi import hosting
from django_qbwi.core.exceptions import InvalidWorkItem
from django_qbwi.intake.options import check_pool


def pool_of(alias: str, options: dict[str, Any], queue_name: str) -> str | None:
    """Return the pool of a task of an alias and a queue, None for the default one.

    Raises:
        ImproperlyConfigured: The option is wrong.
    """
    given = options.get("POOL")
    if given is None:
        return None
    try:
        refuse_wrong_pool(given, hosting.this_process().current.settings.pools)
    except InvalidWorkItem as error:
        raise ImproperlyConfigured(f'TASKS["{alias}"]["OPTIONS"]["POOL"]: {error}') from error
    pool: str | None = given.get(queue_name) if isinstance(given, dict) else given
    return pool


def refuse_wrong_pool(given: Any, pools: Iterable[str]) -> None:
    """Look at what an alias says of the pool of its tasks.

    Args:
        given: None, the name of a pool, or a dict of names by those of queues.
        pools: Those of QBWI["POOLS"].

    Raises:
        InvalidWorkItem: It is neither, or there is no such pool.
    """
    for pool in given.values() if isinstance(given, dict) else [given]:
        if not isinstance(pool, str | None) or (pool is None and isinstance(given, dict)):
            raise InvalidWorkItem(f"it is {given!r}: give the name of a pool, or a dict of them by names of queues")
        check_pool(pool, pools)
