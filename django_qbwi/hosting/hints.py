"""What a person is told who queues at a wrong place, or in a way that may surprise; each thing once."""

from __future__ import annotations

import sys
import warnings
from types import FrameType

from django.apps import AppConfig, apps

from django_qbwi.core.exceptions import InvalidWorkItem, WorkItemWarning
from django_qbwi.core.items import WorkItem
from django_qbwi.database.connections import in_test_transaction, open_transaction
from django_qbwi.hosting.immediate import executor_of_sync_code
from django_qbwi.machine.running_loop import on_running_loop
from django_qbwi.machine.stacks import caller_level
from django_qbwi.signals import scheduler_logger

_APP = "django_qbwi"
_MOST_NAMES = 1000
_CURES = (
    'Run items at the call with QBWI = {"IMMEDIATE": True} in the test settings or '
    "django_qbwi.testing.immediate_work_items()"
)


class Hints:
    """What this process has told already: each thing is told once."""

    def __init__(self) -> None:
        self.test_warned = False
        self.transaction_warned = False
        self._kept_here: set[str] = set()

    def __repr__(self) -> str:
        return f"<Hints test_warned={self.test_warned} transaction_warned={self.transaction_warned}>"

    def warn_of_test_transaction(self, item: WorkItem) -> None:
        """Warn once if a test queues from inside the transaction that hides its data from other threads."""
        if _in_test_transaction():
            warnings.warn(
                f"{item.name} was queued inside a TestCase's transaction: it runs in another thread, which does not "
                f"see the test's data, and may find a table locked. {_CURES}, or use TransactionTestCase (pytest: "
                "django_db(transaction=True)).",
                WorkItemWarning,
                stacklevel=caller_level(),
            )
            # Not before: as an error the warning refuses the item, and so it shall refuse the next one.
            self.test_warned = True

    def warn_of_transaction(self, item: WorkItem, cure: str = "Use queue_on_commit") -> None:
        """Warn, once, of an item that is queued inside an open transaction, which may be rolled back."""
        alias = None if self.transaction_warned else open_transaction()
        if alias is None:
            return
        warnings.warn(
            f"{item.name} was queued inside an open transaction (database {alias!r}): it may run before the commit and "
            f"runs after a rollback too. {cure}. If the item has nothing to do with the database, silence "
            'this with QBWI = {"WARN_IN_TRANSACTION": False}.',
            WorkItemWarning,
            stacklevel=caller_level(),
        )
        # As above.
        self.transaction_warned = True

    def warn_of_engine(self, item: WorkItem, why: InvalidWorkItem) -> None:
        """Say, once for each name, that an item runs here, though QBWI["ENGINE"] should run it."""
        if item.name in self._kept_here or len(self._kept_here) >= _MOST_NAMES:
            return
        self._kept_here.add(item.name)
        scheduler_logger.warning('%s runs in this process, and not by QBWI["ENGINE"]: %s', item.name, why)

    def hint_at_locks(self, alias: str) -> None:
        """Say once that a test shares its in-memory SQLite database with a thread of ours; called in that thread."""
        if not self.test_warned:
            self.test_warned = True
            scheduler_logger.warning(
                "A work item uses the in-memory SQLite database %r of the tests in a thread of its own: what the test "
                'and the item do there at the same time can fail with "database table is locked". %s, call '
                'django_qbwi.testing.drain() before the test goes on, or keep the test database in a file: "TEST": '
                '{"NAME": ...}',
                alias,
                _CURES,
            )


def reason_not_ready() -> str:
    """Say why this process has no scheduler yet, and what to do."""
    if not apps.apps_ready:
        return (
            "There is no scheduler in this process: django.setup() has not run. Servers and manage.py call it; a "
            "script calls it before it queues, and the module of an app queues nothing when it is imported"
        )
    if not any(config.name == _APP for config in apps.get_app_configs()):
        return f'There is no scheduler in this process: add "{_APP}" to INSTALLED_APPS'
    if apps.ready:
        return (
            f"There is no scheduler in this process: {_APP} is in INSTALLED_APPS, but its ready() was not called; a "
            "subclass of its app config has to call super().ready()"
        )
    app = _app_being_ready()
    if app is None:
        return (
            "There is no scheduler in this process yet: this was queued while the apps are loaded, at the import of a "
            "module. Queue from ready(), or later"
        )
    return (
        f"There is no scheduler in this process yet: ready() of {app!r} queues, and {app!r} stands above {_APP!r} in "
        f"INSTALLED_APPS. Move {_APP!r} above it"
    )


def _app_being_ready() -> str | None:
    frame: FrameType | None = sys._getframe(1)
    found = None
    while frame is not None:
        config = frame.f_locals.get("self") if frame.f_code.co_name == "ready" else None
        if isinstance(config, AppConfig):
            found = config.name
        frame = frame.f_back
    return found


def _in_test_transaction() -> bool:
    if in_test_transaction():
        return True
    if not on_running_loop():
        return False
    # The connections of an async view are in the thread of its sync code. It is asked with a limit, since it may be
    # waiting for this loop.
    try:
        answer = executor_of_sync_code().submit(in_test_transaction)
        return answer.result(1.0)
    except (TimeoutError, RuntimeError):
        return False
