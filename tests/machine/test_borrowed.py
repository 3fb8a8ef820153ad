"""The private names of others that the package uses: all are listed, and each is there."""

import ast
import importlib
import importlib.metadata
import importlib.util
import inspect
import operator
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import django_qbwi
from django_qbwi.machine.borrowed import BORROWED, Borrowed

_PRIVATE = re.compile(r"_[A-Za-z]\w*\Z")
_PACKAGES = {"django": "Django", "asgiref": "asgiref"}
_TREES = {
    path: ast.parse(path.read_text())
    for path in Path(django_qbwi.__file__).parent.rglob("*.py")
    if path.name != "borrowed.py"
}


def version_of(borrowed: Borrowed) -> tuple[int, ...]:
    """Return the version of whatever a name is taken from."""
    package = _PACKAGES.get(borrowed.module.split(".")[0])
    if package is None:
        return tuple(sys.version_info[:3])
    return tuple(map(int, re.findall(r"\d+", importlib.metadata.version(package))[:2]))


def is_here(borrowed: Borrowed) -> bool:
    """Return whether this version, and this system, is to have a name."""
    version = version_of(borrowed)
    late = bool(borrowed.until) and version >= borrowed.until
    installed = importlib.util.find_spec(borrowed.module.split(".")[0]) is not None
    return installed and version >= borrowed.since and not late and borrowed.platform in ("", os.name)


HERE = [borrowed for borrowed in BORROWED if is_here(borrowed)]


@pytest.mark.parametrize("borrowed", HERE, ids=lambda borrowed: f"{borrowed.module}:{borrowed.name}")
def test_borrowed_name_is_there(borrowed: Borrowed) -> None:
    """On the day when one is gone, this fails, and says what it was for."""
    module = importlib.import_module(borrowed.module)
    if not borrowed.name:
        return
    try:
        operator.attrgetter(borrowed.name)(module)
    except AttributeError:
        owner = borrowed.name.rpartition(".")[0]
        # Set on instances only: it stands in the code of the class, or of what that inherits from.
        sources = [inspect.getsource(part) for part in owners(module, owner)]
        name = borrowed.name.rpartition(".")[2]
        assert any(re.search(rf"\b{name}\b", source) for source in sources), borrowed.why


def owners(module: Any, owner: str) -> list[Any]:
    """Return the classes, or the module, that may set an attribute of instances."""
    if not owner:
        return [module]
    return [base for base in operator.attrgetter(owner)(module).__mro__ if base.__module__ != "builtins"]


def names_of_ours() -> set[str]:
    """Return the private names that the package itself defines."""
    ours: set[str] = set()
    for tree in _TREES.values():
        for node in ast.walk(tree):
            match node:
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                    ours.add(node.name)
                case ast.Name(ctx=ast.Store()):
                    ours.add(node.id)
                case ast.Attribute(value=ast.Name(id="self" | "cls"), ctx=ast.Store()):
                    ours.add(node.attr)
                case ast.arg():
                    ours.add(node.arg)
    return ours


def private_names(tree: ast.AST) -> Iterator[str]:
    """Yield the private names that a module mentions: attributes, imports, and strings that are asked for by name."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute():
                yield node.attr
            case ast.Constant(value=str()):
                yield node.value
            case ast.Import():
                for alias in node.names:
                    yield from alias.name.split(".")
            case ast.ImportFrom(level=0) if node.module is not None:
                yield from (*node.module.split("."), *(alias.name for alias in node.names))


def test_no_other_private_name_is_used() -> None:
    """Whoever needs one more lists it first, with the versions and the reason."""
    listed = {part for borrowed in BORROWED for part in (*borrowed.module.split("."), *borrowed.name.split("."))}
    ours = names_of_ours()
    used = {
        (path.name, name)
        for path, tree in _TREES.items()
        for name in private_names(tree)
        if _PRIVATE.match(name) and name not in ours and name not in listed
    }
    assert used == set()


def test_no_listed_name_is_unused() -> None:
    """A name that nobody needs any more is taken off the list."""
    mentioned = {part for tree in _TREES.values() for name in private_names(tree) for part in name.split(".")}
    unused = [borrowed for borrowed in BORROWED if (borrowed.name or borrowed.module).split(".")[-1] not in mentioned]
    assert unused == []


def test_scan_sees_what_it_is_to_see() -> None:
    """An attribute, an import, a name in a string."""
    planted = "import _planted\nfrom x import _taken\ny._touched\ngetattr(y, '_asked')"
    assert {"_planted", "_taken", "_touched", "_asked"} <= set(private_names(ast.parse(planted)))
