"""Django's own tests of tasks, with the backend in the places of Django's two.

A task does not run in its caller's thread here, so a backend that waits for it stands in for the immediate one, and one
that holds what was enqueued for the dummy one. Django's tests are no part of its wheel: `tox run -e django-tasks`
fetches those of the Django that is installed.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.scripts import CHECKOUT, unexpected

FOLDER = os.environ.get("QBWI_DJANGO_TESTS", "")
PATIENCE = 120

if not FOLDER:
    pytest.skip(
        "QBWI_DJANGO_TESTS is not set: `tox run -e django-tasks` fetches Django's tests", allow_module_level=True
    )

IMMEDIATE = "tasks.test_immediate_backend.ImmediateBackendTestCase."
DUMMY = "tasks.test_dummy_backend.DummyBackendTestCase."
EXCLUDED = {
    IMMEDIATE + "test_cannot_get_result": "results are kept here",
    IMMEDIATE + "test_cannot_refresh_result": "results are kept here",
    IMMEDIATE + "test_cannot_pass_run_after": "a task can wait for its time here",
    IMMEDIATE + "test_throws_keyboard_interrupt": "the task is in another thread than its caller, and fails alone",
    DUMMY + "test_refresh_result": "it changes the status of a result in the dummy backend's own list",
    DUMMY + "test_refresh_result_async": "it changes the status of a result in the dummy backend's own list",
}
REPLACED = {
    r"django\.tasks\.backends\.(immediate|dummy)\b": "tests.task_backend.django_suite.backends",
    r"\bImmediateBackend\b": "WaitingBackend",
    r"\bDummyBackend\b": "HoldingBackend",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a copy of Django's tests in which our backends stand in for Django's."""
    folder = tmp_path_factory.mktemp("django")
    shutil.copytree(Path(FOLDER, "tasks"), folder / "tasks")
    for path in folder.rglob("test_*.py"):
        text = path.read_text(encoding="utf-8")
        for pattern, name in REPLACED.items():
            text = re.sub(pattern, name, text)
        path.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def outcomes(folder: Path) -> dict[str, str]:
    """Run the tests in a process of their own; return what each has raised, by its name."""
    result = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-m", "tests.task_backend.django_suite", str(folder)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert result.returncode == 0, unexpected(result.stderr)
    found: dict[str, str] = json.loads(result.stdout.splitlines()[-1])
    return found


def test_all_of_them_ran(folder: Path, outcomes: dict[str, str]) -> None:
    """Each test that is written in Django's files has an outcome, and they are as many as one would think."""
    written = {
        f"tasks.{path.stem}.{case.name}.{test.name}"
        for path in (folder / "tasks").glob("test_*.py")
        for case in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(case, ast.ClassDef)
        for test in case.body
        if isinstance(test, ast.FunctionDef | ast.AsyncFunctionDef) and test.name.startswith("test_")
    }
    assert set(outcomes) == written
    assert len(outcomes) > 70


def test_they_pass(outcomes: dict[str, str]) -> None:
    """All but those that cannot apply to a task in the background."""
    failed = {name: raised for name, raised in outcomes.items() if raised and name not in EXCLUDED}
    assert not failed, "\n".join(f"{name}:\n{raised}" for name, raised in failed.items())


@pytest.mark.parametrize(("name", "reason"), EXCLUDED.items())
def test_excluded_one_cannot_apply(outcomes: dict[str, str], name: str, reason: str) -> None:
    """It fails; one that passes is to be excluded no longer."""
    assert outcomes[name], f"it passes, although {reason}"
