"""Programs in a fresh interpreter, for what may kill or stop its process."""

import os
import re
import subprocess
import sys
from pathlib import Path

from django_qbwi.machine.primitives import STARTS_NO_THREADS_LATE

CHECKOUT = Path(__file__).resolve().parents[2]
PATIENCE = 120
_SLOW_STEP = re.compile(r"Executing <[^\n]+> took [\d.]+ seconds\n")
_OLD_PYTHON = re.compile(r"Python 3\.12\.[012] starts no thread once its exit has begun [^\n]+\n")


def unexpected(stderr: str) -> str:
    """Return `stderr` without what any program here may print.

    That is what asyncio says in development mode of a step of 0.1 s, as any may take on a busy machine, and the one
    record of ours at WARNING that Python 3.12.0 to 3.12.2 cause at the first item of a process.
    """
    return _OLD_PYTHON.sub("", _SLOW_STEP.sub("", stderr)) if STARTS_NO_THREADS_LATE else _SLOW_STEP.sub("", stderr)


def run_script(source: str, *arguments: str, status: int = 0, patience: float = PATIENCE) -> list[str]:
    """Run `source` in a new interpreter, expect its exit status and an empty stderr, and return its lines."""
    # Unmeasured: a tracer's own locks do not survive what these programs do to an interpreter.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", source, *arguments],
        env={**environ, "PYTHONPATH": path, "PYTHONDEVMODE": "1", "PYTHONUNBUFFERED": "1"},
        capture_output=True,
        text=True,
        timeout=patience,
    )
    assert unexpected(result.stderr) == ""
    assert result.returncode == status, result.stdout
    return result.stdout.splitlines()
