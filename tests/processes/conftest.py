"""The plays of a whole session, started ahead of the tests that look at them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.processes.scenario import Theatre, is_installed, lost


@pytest.fixture(scope="session")
def theatre(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Theatre]:
    """Play the rows of all selected tests, a few at a time."""
    with Theatre(tmp_path_factory.mktemp("processes")) as theatre:
        for item in request.session.items:
            callspec = getattr(item, "callspec", None)
            params = {} if callspec is None else callspec.params
            plays = params.get("plays", getattr(getattr(item, "obj", None), "plays", None))
            row = params.get("row")
            if plays is not None and row is not None and is_installed(row):
                theatre.announce((row, how) for how in plays)
        yield theatre
        _ALONE.extend(theatre.alone_for)


_ALONE: list[str] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the rows that were late among others, and were judged alone, and those whose signal was lost."""
    for name in _ALONE:
        terminalreporter.write_line(f"late among others, judged alone: {name}")
    for name in lost:
        terminalreporter.write_line(f"the signal was lost in Python's own code, or in gunicorn's, played again: {name}")


@pytest.fixture(autouse=True)
def nothing_left_behind() -> None:
    """Replace the fixture of the unit tests: plays of other rows go on in threads while a test looks at its own."""


@pytest.fixture(autouse=True)
def _installed(request: pytest.FixtureRequest) -> None:
    callspec = getattr(request.node, "callspec", None)
    row = None if callspec is None else callspec.params.get("row")
    if row is not None and not is_installed(row):
        pytest.skip(f"{row.server.name} is not installed here")
