"""Every Python block of the documentation runs, in the project that its page makes up."""

from __future__ import annotations

import ast
import doctest
import shutil
import subprocess
import sys
from pathlib import Path

import django
import pytest

from tests.docs import pages

DRIVERS = Path(__file__).parent / "drivers"
PATIENCE = 120.0  # seconds
RUNNABLE = {"python", "pycon"}
ELSEWHERE = {"tutorial.rst"}  # tests/docs/test_tutorial.py builds and uses it

PAGES = sorted({block.page for block in pages.all_blocks() if block.language in RUNNABLE} - ELSEWHERE)


def driver_of(page: str) -> Path:
    """Return the tests that use what a page shows: the functions that nobody calls on the page itself."""
    return DRIVERS / (page.removesuffix(".rst").replace("/", "_").replace("-", "_") + ".py")


def build(page: str, directory: Path) -> list[str]:
    """Make the project of a page; return the paths of the files that the page shows."""
    shutil.copytree(pages.SKELETON, directory, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    written = pages.write_files(pages.blocks(page), directory)
    if driver_of(page).exists():
        shutil.copy(driver_of(page), directory / "shop" / "test_page.py")
    if django.VERSION < (6, 0):
        _take_the_backport(directory)
    return written


def _take_the_backport(directory: Path) -> None:
    """Write `django_tasks` for `django.tasks`, as the page on tasks says for a Django without that framework."""
    for path in directory.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("django.tasks", "django_tasks"), encoding="utf-8")


def script(page: str) -> str:
    """Return a program of the page's blocks that are no files: statements as they are, sessions as doctests."""
    parts = ["import django", "django.setup()"]
    for block in pages.blocks(page):
        if block.path is not None or block.language not in RUNNABLE:
            continue
        parts.append(f"# {block.where}")
        parts.append(block.text if block.language == "python" else _asserted(block))
    return "\n".join(parts)


def _asserted(block: pages.Block) -> str:
    lines = []
    for example in doctest.DocTestParser().get_examples(block.text):
        if not example.want:
            lines.append(example.source.rstrip())
        elif "Traceback" in example.want:
            expected = example.want.strip().splitlines()[-1].split(":")[0]
            lines.append(
                f"try:\n    {example.source.rstrip()}\nexcept BaseException as error:\n"
                f"    assert type(error).__name__ == {expected.rsplit('.')[-1]!r}, repr(error)\n"
                f"else:\n    raise AssertionError({example.source!r})"
            )
        else:
            lines.append(f"assert repr({example.source.strip()}) == {example.want.strip()!r}, {example.source!r}")
    return "\n".join(lines)


def run(directory: Path, *arguments: str) -> str:
    """Run Python in the project, with every warning an error; return its output."""
    result = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=directory,
        env=pages.environ(PYTHONDEVMODE="", DJANGO_SETTINGS_MODULE="mysite.settings"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


@pytest.mark.parametrize("page", PAGES)
def test_the_page_runs(page: str, tmp_path: Path) -> None:
    """The files pass Django's checks and can be imported, the loose blocks run, the tests and the driver pass."""
    written = build(page, tmp_path)
    run(tmp_path, "manage.py", "check")
    files = [path for path in written if path.startswith(("shop/", "mysite/")) and path.endswith(".py")]
    modules = [path.removesuffix(".py").replace("/", ".") for path in files]
    imports = "".join(f"import {module}\n" for module in modules if not module.startswith("mysite.test"))
    (tmp_path / "loose_blocks.py").write_text(script(page) + "\n" + imports, encoding="utf-8")
    run(tmp_path, "manage.py", "migrate", "--run-syncdb", "-v0")
    run(tmp_path, "loose_blocks.py")
    tests = [path for path in tmp_path.glob("shop/test*.py") if "def test_" in path.read_text(encoding="utf-8")]
    if tests:
        output = run(tmp_path, "manage.py", "test")
        assert "Ran 0 tests" not in output, output
    if "pytest.ini" in written:
        run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly")


@pytest.mark.parametrize("page", PAGES)
def test_functions_are_used(page: str) -> None:
    """Each function that a page defines in a file is named by the page's own code or by its driver."""
    texts = [block.text for block in pages.blocks(page) if block.language in RUNNABLE]
    driver = driver_of(page).read_text(encoding="utf-8") if driver_of(page).exists() else ""
    used = {
        name
        for node in ast.walk(ast.parse(driver + "\n" + "\n".join(text for text in texts if ">>>" not in text)))
        for name in (getattr(node, "attr", None), getattr(node, "id", None))
    }
    for block in pages.blocks(page):
        if block.language != "python" or block.path is None:
            continue
        for node in ast.parse(block.text).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                is_test = node.name.lower().startswith("test") or node.name.endswith("Tests")
                assert is_test or node.name in used, f"{block.where}: nothing uses {node.name}"
