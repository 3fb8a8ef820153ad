"""A test run, which is no server: nothing of it may be seen by others, and nothing may hold its database."""

from __future__ import annotations

import sys

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


def is_set_up() -> bool:
    """Tell whether tests run: pytest in the main thread, or what comes after Django's `setup_test_environment()`."""
    if runs("_pytest"):
        return True
    utils = sys.modules.get("django.test.utils")
    # It is there until `teardown_test_environment()`; nothing public tells.
    return utils is not None and hasattr(utils._TestState, "saved_data")
