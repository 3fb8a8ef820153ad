"""granian, whose workers end by a limit of its command line."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence

from django_qbwi.lifecycle.servers.host import ServerHost

_WORKER = "granian-worker"
_OPTION = "--workers-kill-timeout"
_VARIABLE = "GRANIAN_WORKERS_KILL_TIMEOUT"
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?")
_SECONDS = (86_400, 3_600, 60, 1)


class GranianHost(ServerHost):
    """A worker process of granian, which waits for its workers without a limit unless it is given one."""

    name = "granian"
    is_server = True
    exits_by_exception = False

    def __init__(self, kill_timeout: float | None) -> None:
        self._kill_timeout = kill_timeout

    def limit(self, signum: int | None) -> float | None:
        """--workers-kill-timeout, None without it."""
        return self._kill_timeout

    def warnings(self, shutdown_timeout: float) -> list[str]:
        """Say when granian gives less time than the settings ask for."""
        if self._kill_timeout is None or self._kill_timeout >= shutdown_timeout:
            return []
        return [
            (
                f"granian kills its workers {self._kill_timeout:g} s after a stop signal, before "
                f'QBWI["SHUTDOWN_TIMEOUT"] ({shutdown_timeout:g} s) is over; start it with --workers-kill-timeout '
                f"{shutdown_timeout:g} or lower the setting"
            )
        ]


def spawned_worker(argv: Sequence[str], environ: Mapping[str, str]) -> GranianHost | None:
    """Tell a worker by its name, and its limit by the command line, which a spawned process has from its parent.

    From Python 3.14 on (granian 2.8, server/mp.py) workers are spawned, and have no handler of their master's that
    would show the limit. Where somebody's own program starts granian, there is no such command line, and no limit.
    """
    multiprocessing = sys.modules.get("multiprocessing.process")
    if multiprocessing is None or multiprocessing.current_process().name != _WORKER:
        return None
    return GranianHost(_seconds(_given(argv) or environ.get(_VARIABLE, "")))


def _given(argv: Sequence[str]) -> str | None:
    """Return the value of the option, the last one where it is given twice."""
    found = None
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = argument.partition("=")
        if name == _OPTION:
            found = value if equals else following
    return found


def _seconds(text: str) -> float | None:
    """Read what granian takes for a duration: "90", "90s", "1m30s"; None for anything else, which it refuses."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        return None
    return float(sum(int(count or 0) * unit for count, unit in zip(match.groups(), _SECONDS, strict=True)))
