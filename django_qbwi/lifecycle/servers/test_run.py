"""A test run, which is no server: nothing of it may be seen by others, and nothing may hold its database."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from django_qbwi.lifecycle.servers.host import ServerHost
from django_qbwi.lifecycle.servers.running import runs


class TestHost(ServerHost):
    """A process that runs tests, whatever they start in it: a live server, a lifespan, a command.

    The processes of a parallel run are one site, and would see each other's items. A test database can only be dropped,
    and its tables only be flushed, when nobody else is connected.
    """

    __test__ = False  # pytest shall not collect it

    name = "tests"
    is_final = True
    opens_channel = False
    keeps_connections = False
    hints_at_tests = True
    holds_at_exit = False


def test_run(argv: Sequence[str]) -> ServerHost | None:
    """Tell a test run: by `manage.py test`, by pytest in the main thread, or by `setup_test_environment()`."""
    return TestHost() if argv[1:2] == ["test"] or runs("_pytest") or _is_set_up() else None


def _is_set_up() -> bool:
    # Between Django's setup_test_environment and teardown_test_environment, which say so nowhere else.
    utils = sys.modules.get("django.test.utils")
    return utils is not None and hasattr(utils._TestState, "saved_data")
