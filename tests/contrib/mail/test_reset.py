"""The mails of others: Django's password reset, and that of django-allauth."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 60


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the program has found, in a process with settings of its own."""
    program = Path(__file__).with_name("reset_program.py")
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "", "PYTHONDEVMODE": ""}
    result = subprocess.run(
        [sys.executable, str(program), str(tmp_path_factory.mktemp("site"))],
        env=environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("who", ["django", "allauth"])
def test_password_reset(who: str, found: Any) -> None:
    """The view answers; its mail, with the link, is sent outside of the request and of its transaction."""
    if who == "allauth" and importlib.util.find_spec("allauth") is None:
        pytest.skip("django-allauth is not installed")
    assert found[who]["status"] == 302
    [mail] = found[who]["sent"]
    assert mail["to"] == ["ann@example.com"]
    assert "http://testserver/" in mail["body"] or "http://example.com/" in mail["body"]
    assert (mail["in_request"], mail["in_transaction"]) == (False, False)
