"""Programs in a fresh interpreter, for what may kill or stop its process."""

import os
import re
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PATIENCE = 120
SLOW_STEP = re.compile(r"Executing <[^\n]+> took [\d.]+ seconds\n")
"""What asyncio says in development mode of a step of 0.1 s, as any may take on a busy machine."""


def run_script(source: str, *arguments: str, status: int = 0) -> list[str]:
    """Run `source` in a new interpreter, expect its exit status and an empty stderr, and return its lines."""
    # Unmeasured: a tracer's own locks do not survive what these programs do to an interpreter.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", source, *arguments],
        env={**environ, "PYTHONPATH": path, "PYTHONDEVMODE": "1", "PYTHONUNBUFFERED": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert SLOW_STEP.sub("", result.stderr) == ""
    assert result.returncode == status, result.stdout
    return result.stdout.splitlines()
