"""The measures that the package keeps: sizes, circles, and what the tools are asked to look at.

Floors and contracts of imports are in `test_layers.py`.
"""

from __future__ import annotations

import ast
import configparser
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import django_qbwi

ROOT = Path(__file__).parent.parent
PACKAGE = Path(django_qbwi.__file__).parent
MAX_MODULE, MAX_FUNCTION, MAX_BRANCHES, MAX_AT_ROOT = 350, 45, 12, 16

Graph = dict[str, set[str]]
"""Modules, and those that they import."""


def sources(package: Path) -> dict[str, str]:
    """Return the source of each module by its dotted name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return found


def long_functions(name: str, source: str) -> Iterator[str]:
    """Tell each function that is too long, without its decorators."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION:
                yield f"{name}.{node.name}: {length}"


def imports(modules: dict[str, str]) -> Graph:
    """Return who imports whom, also for types only, also in functions.

    A name that is no module stands for the package that has it. That a package is imported before its modules, and that
    Python does so by itself, is no import of ours.
    """
    return {name: {*_imported(ast.parse(source), modules)} - {name} for name, source in modules.items()}


def _imported(tree: ast.Module, modules: dict[str, str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module in modules:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules else node.module


def circles(graph: Graph) -> list[list[str]]:
    """Return the groups of modules that import one another, by whatever way."""
    reachable = {name: _reachable(graph, name) for name in graph}
    groups = {
        frozenset(other for other in reachable[name] if name in reachable[other])
        for name in graph
        if name in reachable[name]
    }
    return sorted(sorted(group) for group in groups)


def _reachable(graph: Graph, start: str) -> set[str]:
    found: set[str] = set()
    todo = [*graph[start]]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo.extend(graph[name])
    return found


def test_no_module_is_too_long() -> None:
    """A module is one concept, and is read at once."""
    lengths = {name: len(source.splitlines()) for name, source in sources(PACKAGE).items()}
    assert {name: length for name, length in lengths.items() if length > MAX_MODULE} == {}


def test_no_function_is_too_long() -> None:
    """A function fits on a screen."""
    assert [found for name, source in sources(PACKAGE).items() for found in long_functions(name, source)] == []


def test_few_modules_at_the_root() -> None:
    """What stands outside of a room is what Django, pytest or users look for there."""
    found = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")
    assert len(found) <= MAX_AT_ROOT, found


def test_no_circle() -> None:
    """No two modules need one another, not even for types."""
    assert circles(imports(sources(PACKAGE))) == []


SERVERS = (
    *("gunicorn", "uvicorn", "daphne", "hypercorn", "granian"),
    *("waitress", "cheroot", "uwsgi", "mod_wsgi", "eventlet"),
)
# Threads of ours block signals there, which concerns the machine and is decided before any host can be asked.
MAY_NAME = {("django_qbwi.machine.primitives", "uwsgi")}


def named_servers(name: str, source: str) -> Iterator[tuple[str, str]]:
    """Tell each server that a module's names and strings speak of; docstrings and comments may."""
    tree = ast.parse(source)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            words = node.value
        elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            words = node.name
        else:
            words = getattr(node, "id", None) or getattr(node, "attr", None) or getattr(node, "arg", None) or ""
        yield from ((name, server) for server in SERVERS if server in str(words).lower())


def test_no_server_is_named_outside_of_its_room() -> None:
    """What is to be known of a server stands in lifecycle/servers."""
    found = {
        pair
        for name, source in sources(PACKAGE).items()
        if not name.startswith("django_qbwi.lifecycle.servers")
        for pair in named_servers(name, source)
    }
    assert found == MAY_NAME


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("x = 'uvicorn.server'", 1),
        ("is_uvicorns = 1", 1),
        ("def granian(): pass", 1),
        ("""'granian'""", 0),
        ("# daphne", 0),
    ],
)
def test_a_named_server_is_seen(source: str, count: int) -> None:
    """In a string, in a name; not in prose."""
    assert len([*named_servers("p.a", source)]) == count


def test_no_import_is_ignored() -> None:
    """No contract has an exception."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    contracts = [section for section in config.sections() if section.startswith("importlinter")]
    assert len(contracts) > 1
    assert [section for section in contracts if config.has_option(section, "ignore_imports")] == []


def test_ruff_looks_at_branches_docstrings_and_private_names() -> None:
    """The rules are selected for the package, and nothing in it is let off."""
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
    assert {"C90", "D", "SLF"} <= set(ruff["select"])
    assert ruff["mccabe"]["max-complexity"] == MAX_BRANCHES
    assert [pattern for pattern in ruff["per-file-ignores"] if pattern.startswith("django_qbwi")] == []
    off = [line for source in sources(PACKAGE).values() for line in source.splitlines() if "noqa" in line]
    assert [line for line in off if "C901" in line or "SLF" in line] == []


@pytest.mark.parametrize(
    ("modules", "found"),
    [
        ({"p": "", "p.a": "import p.b", "p.b": "from p import a"}, [["p.a", "p.b"]]),
        ({"p": "", "p.a": "if TYPE_CHECKING:\n    from p.b import B", "p.b": "from p.a import A"}, [["p.a", "p.b"]]),
        (
            {"p": "", "p.a": "def f():\n    import p.b", "p.b": "from p.c import x", "p.c": "from p import a"},
            [["p.a", "p.b", "p.c"]],
        ),
        ({"p": "from p.a import x", "p.a": "from p import y"}, [["p", "p.a"]]),
        ({"p": "from p.a import x", "p.a": "from p import b\nimport os", "p.b": "from p.b import me"}, []),
    ],
)
def test_a_circle_is_seen(modules: dict[str, str], found: list[list[str]]) -> None:
    """Two and more modules, for types, in functions, by a package's own name."""
    assert circles(imports(modules)) == found


@pytest.mark.parametrize(("lines", "count"), [(MAX_FUNCTION - 1, 0), (MAX_FUNCTION, 1)])
@pytest.mark.parametrize("head", ["def f():", "@decorator\nasync def f():", "class C:\n  def f(self):"])
def test_a_long_function_is_seen(head: str, lines: int, count: int) -> None:
    """Functions of both kinds and methods, by the lines from their `def` on."""
    assert len([*long_functions("p.a", head + "\n    pass" * lines)]) == count
