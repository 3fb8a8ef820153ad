"""The way of an item that the contributing page tells is the one that items go."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import django_qbwi
from tests.docs import pages
from tests.docs.journey import YOURS
from tests.support.scripts import run_script

PACKAGE = Path(django_qbwi.__file__).parent
PAGE = (pages.DOCS / "contributing.rst").read_text(encoding="utf-8")

MAX_FILES, MAX_LINES = 8, 1_800
"""Of the files that hand an item on."""
MAX_TOUCHED = {"sync": (14, 3_100), "async": (15, 3_420)}
"""Files and lines with those that only answer: what holds today, to be made less."""

Stops = list[tuple[str, str]]
Way = list[tuple[str, str, str]]

_STOP = re.compile(r"^#\. ``(.+?)``", re.MULTILINE)


def told(kind: str) -> dict[str, Stops]:
    """Return the stops of a kind of item, as the page has them, by the thread that passes them."""
    part = PAGE.partition(f"**{'An' if kind == 'async' else 'A'} {kind} item**\n")[2]
    part = re.split(r"^(?:\*\*|.*\n---)", part, maxsplit=1, flags=re.MULTILINE)[0]
    _, caller, runner = re.split(r"^(?:In|On) the .*:$", part, flags=re.MULTILINE)
    split = {"caller": caller, "runner": runner}
    return {name: [as_stop(text) for text in _STOP.findall(lines)] for name, lines in split.items()}


def as_stop(text: str) -> tuple[str, str]:
    """Read `file:function`."""
    name, _, function = text.partition(":")
    return name, function


@pytest.fixture(scope="module")
def ways() -> dict[str, dict[str, Way]]:
    """Follow a real item of each kind."""
    (line,) = run_script("from tests.docs.journey import main; main()")
    found = json.loads(line)
    return {
        kind: {name: [(*call,) for call in calls] for name, calls in parts.items()} for kind, parts in found.items()
    }


@pytest.fixture(scope="module")
def traced(ways: dict[str, dict[str, Way]]) -> dict[str, dict[str, Stops]]:
    """Return the functions that it passes."""
    return {kind: {name: [call[:2] for call in calls] for name, calls in parts.items()} for kind, parts in ways.items()}


def missing(stops: Stops, calls: Stops) -> Stops:
    """Return the stops that are not among the calls in this order, from the first such on."""
    position = 0
    for number, stop in enumerate(stops):
        if stop not in calls[position:]:
            return stops[number:]
        position = calls.index(stop, position) + 1
    return []


def until_yours(stops: Stops) -> Stops:
    """Return what comes before the user's function."""
    return stops[: stops.index((YOURS, ""))]


def to_yours(parts: dict[str, Way]) -> Way:
    """Return each call from the view to the user's function, that one included."""
    runner = parts["runner"]
    return [*parts["caller"], *runner[: [name for name, _, _ in runner].index(YOURS) + 1]]


def handing_on(way: Way) -> set[str]:
    """Return the files out of which another file, or the user's function, is called: to follow an item, read these."""
    return {by for name, _, by in way if by not in {"", name}}


def lengths(names: set[str]) -> dict[str, int]:
    """Return the number of lines of each file."""
    return {name: len((PACKAGE / name).read_text(encoding="utf-8").splitlines()) for name in sorted(names)}


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("thread", ["caller", "runner"])
def test_stops_are_passed_in_this_order(traced: dict[str, dict[str, Stops]], kind: str, thread: str) -> None:
    """Each stop is a function of the package, and a real item passes them as they are told."""
    stops = told(kind)[thread]
    assert len(stops) >= 3
    assert missing(stops, traced[kind][thread]) == []


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_no_file_is_left_out(traced: dict[str, dict[str, Stops]], kind: str) -> None:
    """From the view to the user's function, each file that an item really passes has a stop."""
    stops, calls = told(kind), traced[kind]
    named = {name for name, _ in [*stops["caller"], *until_yours(stops["runner"])]}
    passed = {name for name, _ in [*calls["caller"], *until_yours(calls["runner"])]}
    assert passed - named == set()
    assert all((PACKAGE / name).is_file() for name in named)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_the_way_is_short(ways: dict[str, dict[str, Way]], kind: str) -> None:
    """From the view to the user's function at most eight files hand an item on, which are read in one sitting."""
    lines = lengths(handing_on(to_yours(ways[kind])))
    assert {"work_items.py", "core/scheduler.py"} <= lines.keys()
    assert len(lines) <= MAX_FILES, lines
    assert sum(lines.values()) <= MAX_LINES, lines


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_few_files_answer_on_the_way(ways: dict[str, dict[str, Way]], kind: str) -> None:
    """With those that are called and call nobody further, it does not become more."""
    lines = lengths({name for name, _, _ in to_yours(ways[kind]) if name != YOURS})
    most_files, most_lines = MAX_TOUCHED[kind]
    assert len(lines) <= most_files, lines
    assert sum(lines.values()) <= most_lines, lines


def test_who_hands_on_is_told(ways: dict[str, dict[str, Way]]) -> None:
    """The page marks the files that are worth opening, and no other."""
    marked = set(re.findall(r"^#\. ``([\w/]+\.py):.*; hands on", PAGE, re.MULTILINE))
    assert marked == {name for parts in ways.values() for name in handing_on(to_yours(parts))}


def test_who_hands_on_is_seen() -> None:
    """A file counts that calls another one, or the user's function; not one that answers, or that calls itself."""
    way = [("a", "f", ""), ("b", "g", "a"), ("b", "h", "b"), ("c", "i", "b"), (YOURS, "", "d")]
    assert handing_on(way) == {"a", "b", "d"}


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_the_way_has_both_ends(kind: str) -> None:
    """It begins at the public function, passes the user's once, and ends behind the terminal record."""
    stops = told(kind)
    assert stops["caller"][0] == ("work_items.py", "queue_background_work_item")
    assert stops["runner"].count((YOURS, "")) == 1
    after = stops["runner"][stops["runner"].index((YOURS, "")) :]
    assert ("signals.py", "SignalsAndRecords.finished") in after


def test_a_wrong_order_is_seen(traced: dict[str, dict[str, Stops]]) -> None:
    """Stops that are turned around, renamed or invented are found."""
    stops, calls = told("sync")["runner"], traced["sync"]["runner"]
    assert missing(stops[::-1], calls) != []
    assert missing([*stops, ("core/scheduler.py", "gone")], calls) == [("core/scheduler.py", "gone")]
