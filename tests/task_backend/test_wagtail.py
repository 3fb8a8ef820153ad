"""Wagtail's own tasks, run by both of our backends; Wagtail is installed by `tox run -e wagtail`."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("wagtail") is None, reason="Wagtail is not installed: `tox run -e wagtail`"
)


def uses_the_backport() -> bool:
    """Say which framework this Wagtail imports: the backport, or that of Django itself."""
    spec = importlib.util.find_spec("wagtail")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    source = (Path(spec.submodule_search_locations[0]) / "tasks.py").read_text(encoding="utf-8")
    return "from django_tasks" in source


def test_tasks_of_wagtail_run(tmp_path: Path) -> None:
    """Its index of references is kept by work items of this process, each of which succeeds."""
    backend = f"django_qbwi.{'backport' if uses_the_backport() else 'backend'}.WorkItemBackend"
    result = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("wagtail_program.py")), str(tmp_path), backend],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    ended = json.loads(result.stdout.splitlines()[-1])
    assert any(name.startswith("wagtail.tasks.update_reference_index_task ") for name in ended), ended
    assert all(name.endswith(" succeeded") for name in ended), (ended, result.stderr)
