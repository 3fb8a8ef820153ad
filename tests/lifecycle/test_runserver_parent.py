"""The parent of runserver's autoreloader at a Ctrl-C."""

from __future__ import annotations

import subprocess
import sys

PARENT = """
import signal, subprocess, sys
from django_qbwi.lifecycle.runserver_parent import swallow_first_interrupt
swallow_first_interrupt()
for _ in range(int(sys.argv[1])):
    signal.raise_signal(signal.SIGINT)
try:
    subprocess.call([sys.executable, "-c", ""])
except KeyboardInterrupt:
    print("leaves", signal.getitimer(signal.ITIMER_REAL)[0])
"""


def test_parent_leaves_without_an_alarm_when_its_child_is_gone() -> None:
    """After one Ctrl-C and after two: an alarm that is left would kill it late in its exit, and be its status."""
    for interrupts in ("1", "2"):
        command = [sys.executable, "-c", PARENT, interrupts]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (result.stdout, result.stderr, result.returncode) == ("leaves 0.0\n", "", 0)
