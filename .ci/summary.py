"""Print one line for each tox environment that was skipped or failed, then the counts."""

import json
import sys
from pathlib import Path


def main(paths: list[str]) -> int:
    """Return 1 if an environment failed or a report is missing, else 0."""
    passed, failed, skipped = [], [], []
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
            else:
                failed.append(name)
    for name in skipped:
        print(f"skipped {name}: its Python is not on this machine")
    for name in failed:
        print(f"FAILED {name}")
    print(f"environments: {len(passed)} passed, {len(failed)} failed, {len(skipped)} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
