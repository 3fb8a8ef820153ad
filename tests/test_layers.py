"""The import rooms of setup.cfg hold, and the linter would see each kind of violation."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import django_qbwi

PACKAGE = Path(django_qbwi.__file__).parent
CHECKOUT = Path(__file__).parent.parent

LINT_IMPORTS = "from importlinter.cli import lint_imports_command; lint_imports_command()"

WITHOUT_DJANGO = """
import sys
sys.modules["django"] = sys.modules["asgiref"] = None
"""

WITHOUT_POSIX = """
import asyncio, logging, os, random, signal, subprocess, threading
for module, names in {
    os: ["fork", "register_at_fork", "getuid", "getppid", "pidfd_open", "eventfd"],
    signal: ["SIGHUP", "SIGQUIT", "SIGUSR1", "SIGTTIN", "pthread_sigmask", "pthread_kill", "setitimer"],
}.items():
    for name in names:
        vars(module).pop(name, None)
"""

IMPORT_ROOMS = """
import importlib, pkgutil, sys
sys.path.insert(0, sys.argv[1])
import django_qbwi
count = 0
for room in ("core", "machine", "executors", "lifecycle", "inspection"):
    package = importlib.import_module(f"django_qbwi.{room}")
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
        count += 1
assert count > 5, count
import django_qbwi.pytest_plugin
"""


@pytest.mark.parametrize(
    "absent",
    [pytest.param(WITHOUT_DJANGO, id="django"), pytest.param(WITHOUT_POSIX, id="posix")],
)
def test_rooms_import_without(absent: str) -> None:
    """Core, lifecycle, the face and the pytest plugin import where Django, or what only POSIX has, is absent."""
    command = [sys.executable, "-I", "-W", "error", "-c", absent + IMPORT_ROOMS, str(PACKAGE.parent)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")


def lint_imports(folder: Path) -> tuple[int, str]:
    """Run import-linter on a copy of the package and return its exit status and its report."""
    command = [sys.executable, "-c", LINT_IMPORTS, "--no-cache"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    return result.returncode, result.stdout + result.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a folder with a copy of the package and of its contracts."""
    pytest.importorskip("importlinter", reason="import-linter is there in `tox run -e layers`")
    shutil.copytree(PACKAGE, tmp_path / "django_qbwi", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "setup.cfg", tmp_path)
    return tmp_path


def test_contracts_hold_in_the_copy(copy: Path) -> None:
    """Without a planted violation the linter is content: what the next test sees is the planted line."""
    status, report = lint_imports(copy)
    assert status == 0, report


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("core/items.py", "import django", "neither Django nor asgiref"),
        ("lifecycle/drain.py", "from asgiref.sync import sync_to_async", "neither Django nor asgiref"),
        ("lifecycle/lifespan.py", "from django.core import asgi", "neither Django nor asgiref"),
        ("inspection/reader.py", "import django", "neither Django nor asgiref"),
        ("inspection/records.py", "from . import subject", "The channel between processes"),
        ("inspection/reader.py", "from . import publisher", "The channel between processes"),
        ("inspection/helpers.py", "", "The channel between processes"),
        ("inspection/reader.py", "from django_qbwi.console import operations", "Each room imports only"),
        ("contrib/shared_registry/store.py", "from . import heartbeat", "The shared registry has floors"),
        ("contrib/shared_registry/helpers.py", "", "The shared registry has floors"),
        ("core/exceptions.py", "from django_qbwi.core import items", "The core has floors"),
        ("executors/threads.py", "from . import loop_thread", "The executors stand side by side"),
        ("lifecycle/drain.py", "from . import servers", "Each way a process ends"),
        ("conf.py", "from . import hosting", "Each room imports only"),
        ("database/connections.py", "from django_qbwi import conf", "Each room imports only"),
        ("core/items.py", "from django_qbwi import conf", "Each room imports only"),
        ("lifecycle/servers/host.py", "from django_qbwi import hosting", "Each room imports only"),
        ("lifecycle/servers/granian.py", "from . import gunicorn", "The servers stand side by side"),
        ("intake/plain.py", "from . import intake", "The intake has floors"),
        ("intake/guard.py", "from django_qbwi import hosting", "Each room imports only"),
        ("checks.py", "from django_qbwi import queue_background_work_item", "Nothing inside imports the face"),
        ("core/items.py", "import django_qbwi", "Nothing inside imports the face"),
        ("helpers.py", "", "Each room imports only"),
        ("core/helpers.py", "", "The core has floors"),
        ("lifecycle/helpers.py", "", "Each way a process ends"),
    ],
)
def test_planted_violation_is_seen(copy: Path, module: str, line: str, contract: str) -> None:
    """A forbidden import, or a module without a floor, breaks the contract that names it."""
    with (copy / "django_qbwi" / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    status, report = lint_imports(copy)
    assert status == 1, report
    broken = [text for text in report.splitlines() if contract in text and "BROKEN" in text]
    assert broken, report
