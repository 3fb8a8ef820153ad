"""What looking at a site costs: `python -m benchmarks.inspection`.

Eight processes with 100 items each. `manage.py qbwi` is measured beside a small command of Django's own, which takes
the start of the interpreter, `django.setup()` and the search for the command as well.
"""

from __future__ import annotations

import os
import secrets
import statistics
import subprocess
import sys
import time

PROCESSES = 8
ITEMS = 100
ROUNDS = 15

ENVIRON = {
    **os.environ,
    "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
    "QBWI_BENCHMARK_KEY": secrets.token_hex(),
}
SETUP = """
import os, sys, time
from django.conf import settings
settings.SECRET_KEY = os.environ["QBWI_BENCHMARK_KEY"]
import django
"""
PROCESS = f"""{SETUP}
django.setup()
from django_qbwi import queue_background_work_item

def work(token):
    token.wait()

for _ in range({ITEMS}):
    queue_background_work_item(work)
from django_qbwi import hosting
hosting.this_process().current.reporter.flush(30)
print("ready", flush=True)
time.sleep(600)
"""
AS_COMMAND = f"""{SETUP}
sys.argv = ["manage.py", "qbwi"]
django.setup()
"""
COMMAND = f"""{AS_COMMAND}
import io
from django.core.management import call_command
output = io.StringIO()
call_command(*{{command}}, stdout=output)
assert {{expected}} <= output.getvalue().count("__main__.work")
"""
ASK = f"""{AS_COMMAND}
from django_qbwi.console import operations
spans = []
for _ in range(20):
    start = time.perf_counter()
    found = operations.overview().to_dict()
    spans.append(time.perf_counter() - start)
assert found["answered"] == {PROCESSES}, found["answered"]
print(*spans)
"""


def run(source: str) -> tuple[float, str]:
    """Run a program; return the seconds until its end, and what it printed."""
    start = time.perf_counter()
    result = subprocess.run([sys.executable, "-c", source], env=ENVIRON, check=True, capture_output=True, text=True)
    return time.perf_counter() - start, result.stdout


def main() -> None:
    """Measure, and print a table in milliseconds."""
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS], env=ENVIRON, stdout=subprocess.PIPE, text=True)
        for _ in range(PROCESSES)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        alone = COMMAND.format(command=("check", "--database", "default", "--tag", "urls"), expected=0)
        listing = COMMAND.format(command=("qbwi", "--format=json"), expected=PROCESSES * ITEMS)
        spans: dict[str, list[float]] = {"a command of Django's": [], "manage.py qbwi": []}
        for _ in range(ROUNDS):
            # Interleaved, so that a busy moment of the machine meets both.
            spans["a command of Django's"].append(run(alone)[0])
            spans["manage.py qbwi"].append(run(listing)[0])
        spans["asking, in a process that runs"] = [float(span) for span in run(ASK)[1].split()]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    print(f"{PROCESSES} processes with {ITEMS} items each; milliseconds: median (least - most)")
    for name, values in spans.items():
        least, most, median = min(values), max(values), statistics.median(values)
        print(f"  {name:<32} {median * 1e3:7.1f}  ({least * 1e3:.1f} - {most * 1e3:.1f})")
    both = list(spans.values())
    beyond = statistics.median(second - first for first, second in zip(both[0], both[1], strict=True))
    print(f"  {'beyond the start of Django':<32} {beyond * 1e3:7.1f}  (promised: less than 300)")


if __name__ == "__main__":
    main()
