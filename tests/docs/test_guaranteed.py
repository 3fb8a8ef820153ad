"""The table of what is guaranteed says what the tests with real servers test, and each server has its page."""

from __future__ import annotations

import re

import pytest

from tests.docs import pages
from tests.processes.matrix import ROWS
from tests.processes.table import TARGET, render

DEPLOY = pages.DOCS / "how-to" / "deploy"
PAGES = {"management": "management-commands", "script": "management-commands"}


def test_the_table_is_that_of_the_tests() -> None:
    """It is written anew by `python -m tests.processes.table` whenever a row changes."""
    assert TARGET.read_text(encoding="utf-8") == render(), "stale: run python -m tests.processes.table"


def test_each_row_is_in_the_table() -> None:
    """Rows of expected failures say so, with their reason, the others what is promised."""
    sections = dict(re.findall(r"^`*(.+?)`*\n-+\n\n((?:.|\n(?!.+\n-+\n\n))*)", render(), re.MULTILINE))
    assert list(sections) == list(dict.fromkeys(row.server.name for row in ROWS))
    for name, text in sections.items():
        of = [row for row in ROWS if row.server.name == name]
        assert re.findall(r"^   \* - (.+)$", text, re.MULTILINE) == ["event", *(row.event.name for row in of)]
        for row in of:
            assert (f"   * - {row.event.name}\n     - **items are lost**\n" in text) == (row.fails is not None), row.id
            assert row.fails is None or row.fails in text, row.id


@pytest.mark.parametrize("name", sorted({row.server.name.split()[0].strip(",") for row in ROWS}))
def test_each_server_has_a_page(name: str) -> None:
    """A server that is tested has a page that says what to write, reachable from the index."""
    page = PAGES.get(name, name.lower())
    assert (DEPLOY / f"{page}.rst").exists()
    assert f"   {page}\n" in (DEPLOY / "index.rst").read_text(encoding="utf-8")
