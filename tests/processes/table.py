"""The documentation's tables of what is guaranteed, written from the rows that the tests play.

`python -m tests.processes.table` writes it anew; a test fails while it is not what the rows say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.processes.matrix import ROWS, Row, Server

TARGET = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "deploy" / "guaranteed.inc"

_HEAD = """\
.. Written by "python -m tests.processes.table" from tests/processes/matrix.py. Change it there.

"""
_COLUMNS = ("event", "tokens are cancelled", "exit is held at most", "requests in flight", "exit status")
_WIDTHS = (25, 25, 25, 15, 10)
# What the tests call it, and what a reader does.
_SHOWN = {
    "tests.processes.site.wsgi": "mysite.wsgi",
    "tests.processes.site.asgi": "mysite.asgi",
    "tests.processes.site.lifespan": "mysite.asgi",
    " --config {site}/gunicorn_hooks.py": "",
    " --home {environment}": "",
    "{port}": "8000",
    "{directory}": ".",
    "{site}": ".",
    "qbwi_touched.py": "a_file.py",
    "manage.py ": "python manage.py ",
    "script.py": "python script.py",
}


def render(rows: Iterable[Row] = ROWS) -> str:
    """Return a section for each server, as reStructuredText."""
    servers: dict[Server, list[Row]] = {}
    for row in rows:
        servers.setdefault(row.server, []).append(row)
    return _HEAD + "\n".join("".join(_section(server, of)) for server, of in servers.items())


def shown_command(server: Server) -> str:
    """Return the command line of a server, for a project called mysite."""
    command = server.command
    for ours, shown in _SHOWN.items():
        command = command.replace(ours, shown)
    return re.sub(r"\s+", " ", command).strip()


def _section(server: Server, rows: list[Row]) -> Iterator[str]:
    # In plain text two hyphens would be shown as a dash.
    title = f"``{server.name}``" if "--" in server.name else server.name
    yield f"{title}\n{'-' * len(title)}\n\n``{shown_command(server)}``\n\n"
    yield f".. list-table::\n   :header-rows: 1\n   :widths: {' '.join(map(str, _WIDTHS))}\n\n"
    for cells in (_COLUMNS, *(_guarantee(row) for row in rows)):
        for number, cell in enumerate(cells):
            yield f"   {' ' if number else '*'} - {cell}\n"
    for row in rows:
        if row.fails is not None:
            yield f"\n{row.event.name}: {row.fails}.\n"


def _guarantee(row: Row) -> tuple[str, ...]:
    if row.fails is not None:
        return (row.event.name, "**items are lost**", "\\-", row.requests, "\\-")
    return (
        row.event.name,
        _cancelled(row),
        row.limit if row.limit[0].isdigit() else _limits(row.limit),
        row.requests if row.in_flight and not row.server.is_command else "\\-",
        _status(row),
    )


def _status(row: Row) -> str:
    if row.event.ends == "worker":
        return "\\-"
    if row.either_status:
        return " or ".join(map(str, row.either_status))
    return "as without" if row.status is None else str(row.status)


def _cancelled(row: Row) -> str:
    if row.cancelled_within is None:
        return "never: items finish undisturbed"
    if row.cancelled_after_requests and row.in_flight:
        return "when the requests are done"
    return f"within {row.sign_after + row.cancelled_within:g} s" if row.sign_after else "at once"


def _limits(limit: str) -> str:
    ours = "``SHUTDOWN_TIMEOUT``"
    return ours if limit == "SHUTDOWN_TIMEOUT" else f"{ours}, ``{limit}``"


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
