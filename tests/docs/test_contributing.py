"""What CONTRIBUTING.md, SECURITY.md and the hooks say is so."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest

import django_qbwi
from tests.docs import pages

ROOT = pages.DOCS.parent
PACKAGE = Path(django_qbwi.__file__).parent
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
HOOKS = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
NAMED_ONLY = {"py311-django52", "py314-django61"}
"""The first and the last of a range."""


@pytest.fixture(scope="module")
def tox() -> configparser.ConfigParser:
    """Read tox.ini."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "tox.ini", encoding="utf-8")
    return config


def column(heading: str, number: int) -> list[str]:
    """Return the cells of a column of the table under a heading."""
    part = CONTRIBUTING.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return [line.split("|")[number].strip() for line in part.splitlines() if line.startswith("|")][2:]


def test_each_environment_of_tox_is_named(tox: configparser.ConfigParser) -> None:
    """The table has every environment of tox.ini, and no other."""
    told = {name for cell in column("The checks", 1) for name in re.findall(r"`(.+?)`", cell)}
    there = {section.partition(":")[2] for section in tox.sections() if section.startswith("testenv:")}
    assert told == there | NAMED_ONLY | {"py311-django52-asgiref38"}


def test_each_room_has_a_floor() -> None:
    """The map names each module and folder at the root of the package, and no other."""
    names = {name for cell in column("The rooms", 2) for name in re.findall(r"`([\w./]+?)/?`", cell)}
    there = {path.stem for path in PACKAGE.iterdir() if path.suffix in {"", ".py"} and not path.name.startswith("__")}
    assert {name.partition(".")[0] for name in names} == there
    assert all(any(PACKAGE.joinpath(*name.split(".")).parent.glob(name.split(".")[-1] + "*")) for name in names)


def test_each_path_is_there() -> None:
    """What looks like a file or a folder is one."""
    known = {path for text in re.findall(r"`([\w./-]+/(?:[\w.-]+\.\w+)?)`", CONTRIBUTING) for path in [text]}
    assert {"tests/processes/matrix.py", "docs/how-to/deploy/"} <= known
    missing = [path for path in known if not (ROOT / path).exists() and not (PACKAGE / path).exists()]
    assert missing == []


def test_hooks_have_the_ruff_of_tox(tox: configparser.ConfigParser) -> None:
    """Each hook has the version that `tox run -e lint` has, and what it changes is what that checks."""
    (wanted,) = re.findall(r"ruff\S+", tox["testenv:lint"]["deps"])
    found = re.findall(r'additional_dependencies: \["(.+?)"\]', HOOKS)
    assert found == [wanted] * 2
    commands = re.findall(r"^ruff (\w+)", tox["testenv:lint"]["commands"].strip(), re.MULTILINE)
    assert re.findall(r"entry: ruff (\w+)", HOOKS) == commands


@pytest.mark.parametrize("name", ["contributing", "security"])
def test_the_documentation_has_the_files_of_the_root(name: str) -> None:
    """The page begins with the file, so that nothing is said twice."""
    page = (pages.DOCS / f"{name}.rst").read_text(encoding="utf-8")
    assert f".. include:: ../{name.upper()}.md\n" in page
