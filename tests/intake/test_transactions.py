"""Items and transactions, on SQLite: what is queued on commit, and the warning where it is not."""

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connections, transaction
from django.http import HttpRequest
from django.test import Client, TestCase, override_settings

from django_qbwi import (
    CancellationToken,
    WorkItemWarning,
    background_work_item,
    hosting,
    queue_background_work_item,
    queue_on_commit,
)
from django_qbwi.testing import captured_work_items, immediate_work_items
from tests.intake.pages import during

PATIENCE = 30

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@pytest.fixture(autouse=True)
def nobody_was_warned() -> Iterator[None]:
    """Forget that this process has warned already."""
    hosting.this_process().hints.transaction_warned = False
    yield
    hosting.this_process().hints.transaction_warned = False


def noop(token: CancellationToken) -> None:
    """Do nothing."""


def names(captured: Any) -> list[str]:
    """Return the names of captured items."""
    return [item.name for item in captured]


# On commit.


def test_nested_blocks() -> None:
    """Only the commit of the outermost block queues, in the order of the calls."""
    with captured_work_items() as captured:
        with transaction.atomic():
            queue_on_commit(noop, name="outer")
            with transaction.atomic():
                queue_on_commit(noop, name="inner")
            assert names(captured) == []
        assert names(captured) == ["outer", "inner"]


def test_rollback_of_a_savepoint() -> None:
    """What was queued inside of a savepoint that is rolled back never runs; what is around it does."""
    with captured_work_items() as captured, transaction.atomic():
        queue_on_commit(noop, name="outer")
        with transaction.atomic():
            queue_on_commit(noop, name="inner")
            transaction.set_rollback(True)
    assert names(captured) == ["outer"]


def test_rollback() -> None:
    """F42: an item that was queued on commit never runs after a rollback."""
    with captured_work_items() as captured, transaction.atomic():
        queue_on_commit(noop)
        transaction.set_rollback(True)
    assert names(captured) == []


def test_other_database() -> None:
    """The transaction of the database that `using` names counts, and no other."""
    item = background_work_item(noop).using(name="decorated", using="other")
    with captured_work_items() as captured, transaction.atomic():
        with transaction.atomic(using="other"):
            queue_on_commit(noop, using="other", name="other")
            item.queue_on_commit()
            queue_on_commit(noop, name="default")
            assert names(captured) == []
        assert names(captured) == ["other", "decorated"]
    assert names(captured) == ["other", "decorated", "default"]


@pytest.fixture
def atomic_requests() -> Iterator[None]:
    """Have each request in a transaction."""
    connections.databases["default"]["ATOMIC_REQUESTS"] = True
    yield
    connections.databases["default"]["ATOMIC_REQUESTS"] = False


def test_atomic_requests(atomic_requests: None) -> None:
    """Under ATOMIC_REQUESTS an item is queued when the request has been committed."""

    def view(request: HttpRequest) -> int:
        queue_on_commit(noop)
        return len(captured)

    with captured_work_items() as captured:
        assert during(lambda: Client().get("/page/"), view) == 0
        assert len(captured) == 1


def test_atomic_requests_that_fail(atomic_requests: None) -> None:
    """Under ATOMIC_REQUESTS a view that fails queues nothing: its transaction is rolled back."""

    def view(request: HttpRequest) -> None:
        queue_on_commit(noop)
        raise ZeroDivisionError

    with captured_work_items() as captured, pytest.raises(ZeroDivisionError):
        during(lambda: Client().get("/page/"), view)
    assert names(captured) == []


# The warning.


def test_open_transaction_is_warned_of_once(atomic_requests: None) -> None:
    """Queueing inside an open transaction warns once, names the cure and the setting, and points at the line."""

    def view(request: HttpRequest) -> Any:
        with pytest.warns(WorkItemWarning, match=r"queue_on_commit.*WARN_IN_TRANSACTION") as caught:
            assert queue_background_work_item(noop).wait(PATIENCE)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert background_work_item(noop).queue().wait(PATIENCE)
        return caught[0].filename

    assert during(lambda: Client().get("/page/"), view) == __file__


def test_warning_names_the_database() -> None:
    """A transaction on any database counts."""
    with transaction.atomic(using="other"), pytest.warns(WorkItemWarning, match="'other'"):
        assert background_work_item(noop).queue().wait(PATIENCE)


def test_warning_can_be_silenced() -> None:
    """WARN_IN_TRANSACTION = False silences it."""
    with override_settings(QBWI={"WARN_IN_TRANSACTION": False}), transaction.atomic():
        assert queue_background_work_item(noop).wait(PATIENCE)


def test_on_commit_does_not_warn() -> None:
    """What is queued on commit of one database, inside of a transaction of another, is right."""
    with transaction.atomic(using="other"), transaction.atomic():
        queue_on_commit(noop)


def test_no_transaction_no_warning() -> None:
    """Outside of a transaction nothing is said, though the connection is open."""
    connections["default"].ensure_connection()
    assert queue_background_work_item(noop).wait(PATIENCE)


def test_immediate_items_do_not_warn() -> None:
    """An item that runs at the call sees the transaction: nothing to warn of."""
    with immediate_work_items(), transaction.atomic():
        queue_background_work_item(noop)


@pytest.mark.filterwarnings("error::django_qbwi.WorkItemWarning")
def test_g19_warning_as_an_error_refuses_each_time() -> None:
    """G19: as an error the warning refuses every item, not the first one only: tests do not fail by their order."""
    with captured_work_items():
        pass
    with override_settings(QBWI={}):
        for _ in range(3):
            with transaction.atomic(), pytest.raises(WorkItemWarning, match="inside an open transaction"):
                queue_background_work_item(noop)


def test_g19_warning_is_given_once() -> None:
    """G19: as a warning it is given once, also after it was an error."""
    with override_settings(QBWI={}), transaction.atomic():
        with warnings.catch_warnings(action="error"), pytest.raises(WorkItemWarning):
            queue_background_work_item(noop)
        with pytest.warns(WorkItemWarning) as caught:
            handles = [queue_background_work_item(noop) for _ in range(3)]
        assert all(handle.wait(PATIENCE) for handle in handles)
    assert len(caught) == 1


class InTestCase(TestCase):
    """A TestCase's own transaction does not count: there is another warning for it."""

    databases = {"default"}

    def test_own_transaction(self) -> None:
        """Its own transaction is no transaction of the code under test; a block inside of it is."""
        from django_qbwi.database.connections import open_transaction

        connections["default"].ensure_connection()
        assert open_transaction() is None
        with transaction.atomic():
            assert open_transaction() == "default"

    @override_settings(QBWI={})
    def test_g19_warning_of_the_test_transaction_as_an_error(self) -> None:
        """G19: so it is for the warning of a TestCase's own transaction."""
        here = hosting.this_process()
        self.addCleanup(setattr, here.hints, "test_warned", here.hints.test_warned)
        here.hints.test_warned = False
        connections["default"].ensure_connection()
        for _ in range(3):
            with warnings.catch_warnings(action="error"), pytest.raises(WorkItemWarning, match="TestCase's trans"):
                queue_background_work_item(noop)
