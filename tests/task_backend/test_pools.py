"""Tasks that run in a pool: that of their alias, or that of their queue."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.test import override_settings

from django_qbwi import hosting, recent_items
from django_qbwi.testing import drain
from tests.support.gates import PATIENCE
from tests.task_backend import functions
from tests.task_backend.conftest import Tasks


@pytest.fixture(autouse=True)
def pools() -> Iterator[None]:
    """Have a pool beside the default one."""
    with override_settings(QBWI={"POOLS": {"mail": {"MAX_WORKERS": 1}}}):
        yield
        assert drain(PATIENCE)


def pool_of(tasks: Tasks, **options: Any) -> str:
    """Run a task, and return the pool that it was in."""
    result = tasks.wait(tasks.of(functions.add, **options).enqueue(1, 2))
    assert str(result.status) == "SUCCESSFUL"
    [pool] = [info.pool for info in recent_items() if info.id == result.id]
    return pool


def test_all_tasks_of_an_alias(tasks: Tasks) -> None:
    """By its name; without the option they are in the default one."""
    with tasks.configured(POOL="mail"):
        assert pool_of(tasks) == "mail"
    with tasks.configured():
        assert pool_of(tasks) == "default"


def test_tasks_by_their_queues(tasks: Tasks) -> None:
    """Each queue has its pool; those that are not named have the default one."""
    with tasks.configured(POOL={"letters": "mail", "other": "default"}):
        assert pool_of(tasks, queue_name="letters") == "mail"
        assert pool_of(tasks, queue_name="other") == "default"
        assert pool_of(tasks) == "default"


@pytest.mark.django_db(transaction=True)
def test_task_on_commit(tasks: Tasks) -> None:
    """It is queued after the commit, into its pool."""
    with tasks.configured(POOL="mail", ON_COMMIT="default"):
        with transaction.atomic():
            result = tasks.of(functions.add).enqueue(1, 2)
            assert hosting.scheduler().is_empty
        tasks.wait(result)
    assert [info.pool for info in recent_items()] == ["mail"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (5, "it is 5: give the name of a pool, or a dict of them by names of queues"),
        ({"letters": None}, "it is {'letters': None}: give the name of a pool"),
        ("mial", "pool is 'mial', which there is not: did you mean 'mail'?"),
        ({"letters": "mial"}, "pool is 'mial', which there is not: did you mean 'mail'?"),
    ],
)
def test_wrong_option(tasks: Tasks, given: Any, message: str) -> None:
    """`manage.py check` names the value and the cure, and `enqueue` refuses."""
    with tasks.configured(POOL=given):
        [found] = tasks.backend.check()
        with pytest.raises(ImproperlyConfigured) as refused:
            tasks.of(functions.add).enqueue(1, 2)
    assert (found.id, message in found.msg) == ("qbwi.E010", True)
    assert message in str(refused.value)
    assert f'TASKS["{tasks.alias}"]["OPTIONS"]["POOL"]' in str(refused.value)


def test_wrong_setting_is_told_of_by_its_own_check(tasks: Tasks) -> None:
    """And not a second time by the alias."""
    with tasks.configured(POOL="mail"), override_settings(QBWI={"POOLS": 5}):
        assert list(tasks.backend.check()) == []


def test_pool_of_a_queue_that_there_is_not(tasks: Tasks) -> None:
    """The alias lists its queues, and the option names another one."""
    options = {"POOL": {"leters": "mail", "letters": "mail"}}
    alias = {"BACKEND": tasks.path, "QUEUES": ["default", "letters"], "OPTIONS": options}
    with override_settings(TASKS={tasks.alias: alias}):
        [found] = tasks.backend.check()
    assert (found.id, found.hint) == ("qbwi.E010", "The queues of the alias are: default, letters.")
    assert "by 'leters'" in found.msg
