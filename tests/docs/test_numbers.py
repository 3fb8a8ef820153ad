"""Numbers that code, tests and pages cite are defined in the documentation, once each.

R.. are rules of the runtime, F.. faults, S.. rules of security, G.. what was found by trying.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs import pages

ROOT = pages.DOCS.parent
EXPLANATION = pages.DOCS / "explanation"
DEFINED_ON = {"R": "rules", "F": "faults", "S": "faults", "G": "found"}
FOLDERS = ["benchmarks", "django_qbwi", "docs", "example_project", "tests"]
SUFFIXES = {".cfg", ".css", ".html", ".ini", ".js", ".md", ".py", ".rst", ".toml", ".txt", ".yaml"}

_DEFINITION = re.compile(r"^\.\. _(\w+):\n\n\*\*([RFSG]\d+)\*\* (?=\S)", re.MULTILINE)
# Codes of linters have three digits. What is part of a longer word, a path, a hexadecimal or a key is no number either.
_CITED = re.compile(r"(?<![\w.#&%$\\/+<-])[RFSG][1-9]\d?(?:[/-][RFSG][1-9]\d?)*(?![\w/]|-\w|\.\w)")
_NAMED = re.compile(r"\btest_([rfsg][1-9]\d?)(?:_and_([rfsg][1-9]\d?))?(?:_|\b)")


def definitions() -> Iterator[tuple[str, str, str]]:
    """Return page, target and number of each definition, in their order."""
    for page in dict.fromkeys(DEFINED_ON.values()):
        for found in _DEFINITION.finditer((EXPLANATION / f"{page}.rst").read_text(encoding="utf-8")):
            yield page, found[1], found[2]


def cited(text: str) -> list[str]:
    """Return the numbers that a text cites, also by the names of tests."""
    named = [number.upper() for names in _NAMED.findall(text) for number in names if number]
    return [number for group in _CITED.findall(text) for number in re.split("[/-]", group)] + named


def sources() -> list[Path]:
    """Return every text of the project."""
    found = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*")) if path.suffix in SUFFIXES]
    found += [path for path in sorted(ROOT.iterdir()) if path.suffix in SUFFIXES]
    # This one has examples of what is no number.
    return [path for path in found if path != Path(__file__) and "_build" not in path.parts]


def test_each_number_that_is_cited_is_defined() -> None:
    """Whoever reads a number finds what it means."""
    known = {number for _, _, number in definitions()}
    unknown = {
        f"{path.relative_to(ROOT)}:{line}: {number}"
        for path in sources()
        for line, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        for number in cited(text)
        if number not in known
    }
    assert unknown == set()


def test_each_number_is_defined_once_in_its_place() -> None:
    """On the page of its letter, under a target of its name, counted from one without a gap."""
    found = list(definitions())
    for letter, page in DEFINED_ON.items():
        numbers = [number for _, _, number in found if number[0] == letter]
        assert numbers == [f"{letter}{count}" for count in range(1, len(numbers) + 1)]
        assert {where for where, _, number in found if number[0] == letter} == {page}
    assert [target for _, target, _ in found] == [number.lower() for _, _, number in found]


def test_each_definition_is_one_to_three_sentences() -> None:
    """A number stands for a thought, and no page has another bold number."""
    for page in set(DEFINED_ON.values()):
        text = (EXPLANATION / f"{page}.rst").read_text(encoding="utf-8")
        assert len(re.findall(r"\*\*\w+\*\*", text)) == len(_DEFINITION.findall(text))
        for paragraph in re.findall(r"^\*\*[RFSG]\d+\*\* ((?:.+\n)+)", text, re.MULTILINE):
            assert 20 < len(paragraph) < 600, paragraph
            assert paragraph.rstrip().endswith(".")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("as R1 says", ["R1"]),
        ("(F24, F28)", ["F24", "F28"]),
        ("S3/S14: see G7.", ["S3", "S14", "G7"]),
        ("F1-F4, R21's", ["F1", "F4", "R21"]),
        ("def test_g12_generator() -> None:", ["G12"]),
        ("def test_f31() -> None:", ["F31"]),
        ("def test_f9_and_f10_contained() -> None:", ["F9", "F10"]),
        ('match="R99"', ["R99"]),
        ("# noqa: F401, RUF012, S101, S608", []),
        ("UTF8, 0xF1, #F00, #F5, \\xF1, %F1, s3://S3.example/G1/F2.txt, F5-key, RS1, R0, F1st, Ctrl+F5", []),
        ("test_fork, test_frame1_x, test_s3cret", []),
    ],
)
def test_what_is_a_number(text: str, numbers: list[str]) -> None:
    """Numbers stand alone, or begin the name of a test; codes of linters and parts of words are none."""
    assert sorted(cited(text)) == sorted(numbers)


def test_a_citation_without_a_definition_is_seen() -> None:
    """The scan reads every kind of text, and knows no number beyond the last."""
    known = {number for _, _, number in definitions()}
    assert set(cited("R99 F99 S99 G99")).isdisjoint(known)
    kinds = {path.suffix for path in sources()}
    assert kinds >= {".py", ".rst", ".md", ".html", ".css", ".cfg", ".toml"}
    citing = itertools.chain.from_iterable(cited(path.read_text(encoding="utf-8")) for path in sources())
    assert set(citing) >= {"R1", "F24", "S11", "G44"}
