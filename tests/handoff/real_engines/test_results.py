"""The result of a task that has moved, asked for by the id that it has had here."""

from __future__ import annotations

import json

import pytest

from tests.handoff.real_engines.conftest import Deploy
from tests.handoff.real_engines.deployment import GTHREAD, TASKS_DB, accepted, end, handed_off

pytestmark = pytest.mark.processes

_ASK = """
import json, sys
import django
django.setup()
try:
    from django.tasks import default_task_backend
except ImportError:
    from django_tasks import default_task_backend
found = [default_task_backend.get_result(known) for known in sys.argv[1:]]
print(json.dumps([[str(result.status), result.return_value if str(result.status) == "SUCCESSFUL" else None]
                  for result in found]))
"""


def test_results_are_found_under_their_first_ids(deploy: Deploy) -> None:
    """A fresh process finds the engine's result: waiting before its worker has run, its value afterwards."""
    deployment = deploy(TASKS_DB, seconds=1.0)
    program = deployment.directory / "ask.py"
    program.write_text(_ASK)
    with deployment.site("web", GTHREAD) as web:
        web.serving()
        ids = accepted(web.get("queue?first=0&last=12&sorts=plain"))
        end(web)
        moved = {number: known for number, known in ids.items() if known in handed_off(web)}
    assert moved
    command = f"python {program} {' '.join(moved.values())}"
    assert json.loads(deployment.run(command)) == [["READY", None]] * len(moved)
    with deployment.worker() as worker:
        deployment.wait_until_done(worker, set(ids))
    assert json.loads(deployment.run(command)) == [["SUCCESSFUL", number * 2] for number in moved]
