"""The development servers, and the reloaders around them: Django's, or that of werkzeug (runserver_plus).

A reloader is two processes. The one that watches starts the other with a mark in its environment; both set the same
handler for SIGTERM. So the handler tells that a reloader runs, and the mark tells which of the two this is: programs
that the served site starts inherit the mark, and are neither.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from django_qbwi.lifecycle.servers.host import ServerHost

_MARKS = {"django.utils.autoreload": "RUN_MAIN", "werkzeug._reloader": "WERKZEUG_RUN_MAIN"}
# What is known before the command itself runs: items that are queued while the site is loaded come this early.
_COMMANDS = {"runserver": "RUN_MAIN", "runserver_plus": "WERKZEUG_RUN_MAIN"}


class RunserverHost(ServerHost):
    """Django's development server."""

    name = "runserver"
    is_server = True
    exits_by_exception = False


class WerkzeugHost(RunserverHost):
    """The served process of werkzeug's reloader, which sends no signal when a file has changed."""

    def on_reload(self, changed: Callable[[], None]) -> None:
        """Have `changed` called with the reloader's own line about the file, right before it leaves."""
        loop = getattr(sys.modules.get("werkzeug._reloader"), "ReloaderLoop", None)
        if loop is None:
            return
        log_reload = loop.log_reload

        def log_and_tell(self: Any, filename: Any) -> None:
            changed()
            log_reload(self, filename)

        loop.log_reload = log_and_tell


class RunserverParentHost(ServerHost):
    """The process of a reloader that only watches over the one that serves; it runs no items."""

    name = "runserver parent"
    is_server = True
    exits_by_exception = False
    serves = False


def by_command_line(argv: list[str], environ: dict[str, str]) -> ServerHost | None:
    """Tell a development server by the command that is about to run; None if it is another one."""
    mark = _COMMANDS.get(argv[1]) if len(argv) > 1 else None
    if mark is None:
        return None
    is_parent = "--noreload" not in argv and environ.get(mark) != "true"
    return RunserverParentHost() if is_parent else RunserverHost()


def by_handler(handler: Any) -> ServerHost | None:
    """Tell a reloader's process by the handler of SIGTERM, whichever command has started it."""
    while getattr(handler, "is_qbwi_layer", False) is True:
        handler = handler.previous
    module = getattr(handler, "__module__", None)
    mark = _MARKS.get(module) if isinstance(module, str) else None
    if mark is None:
        return None
    if os.environ.get(mark) != "true":
        return RunserverParentHost()
    return RunserverHost() if mark == "RUN_MAIN" else WerkzeugHost()


def tell_the_parent(call: Callable[[], None]) -> None:
    """Have `call()` run in a process that is about to start another one for Django's reloader, and watch over it.

    An own command that ends in runserver is known by nothing else before.
    """
    autoreload = sys.modules.get("django.utils.autoreload")
    restart = getattr(autoreload, "restart_with_reloader", None)
    if restart is None:
        return

    def restart_with_reloader(*args: Any, **kwargs: Any) -> Any:
        call()
        return restart(*args, **kwargs)

    autoreload.restart_with_reloader = restart_with_reloader  # type: ignore[union-attr]
