"""Print what each tox environment came to, what of the suite the unit rows ran, then the counts."""

import json
import os
import sys
from pathlib import Path
from typing import Any

ALLOWED = {"py315-django61"}
"""Rows that may fail, as `ignore_outcome` in tox.ini says: a Python too new for a promise."""


def extent(environment: dict[str, Any]) -> str:
    """Say whether a row ran all unit tests."""
    commands = [word for test in environment.get("test", ()) for word in test["command"]]
    if "--ignore" not in commands:
        return "the whole suite"
    return "the rooms that know Django" if "tests/core" in commands else "the rooms that know Python"


def main(paths: list[str]) -> int:
    """Return 1 if an environment failed or a report is missing, else 0."""
    passed, failed, skipped, allowed = [], [], [], []
    for path in map(Path, paths):
        if not path.exists():
            failed.append(f"{path.stem} (tox wrote no report)")
            continue
        for name, environment in json.loads(path.read_text(encoding="utf-8"))["testenvs"].items():
            result = environment.get("result")
            if result is None:  # the environment that builds the wheel
                continue
            if result["skipped"]:
                skipped.append(name)
            elif result["success"]:
                passed.append(name)
            elif name in ALLOWED:
                allowed.append(name)
            else:
                failed.append(name)
            if name.startswith("py") and not result["skipped"]:
                print(f"{name}: ran {extent(environment)}")
    for name in os.environ.get("LEFT_OUT", "").split():
        print(f"skipped {name}: left to `tox run`")
    for name in skipped:
        print(f"skipped {name}: its Python is not on this machine")
    for name in allowed:
        print(f"failed {name}, which is allowed")
    for name in failed:
        print(f"FAILED {name}")
    print(
        f"environments: {len(passed)} passed, {len(failed)} failed, {len(allowed)} failed and allowed, "
        f"{len(skipped)} skipped"
    )
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
