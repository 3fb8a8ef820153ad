"""What an engine cannot take is refused early: by the system checks, or where it is defined."""

from __future__ import annotations

import pytest

from tests.handoff.real_engines.conftest import Deploy
from tests.handoff.real_engines.deployment import HUEY, TASKS_DB

pytestmark = pytest.mark.processes

_CHECK = """
import django
from django.core import checks
django.setup()
for message in checks.run_checks():
    print(message.id, message.msg)
"""
_DEFINE = """
import django
django.setup()
try:
    from django.tasks import task
except ImportError:
    from django_tasks import task
try:
    @task
    async def later():
        pass
except Exception as error:
    print(type(error).__name__, error)
else:
    print("defined")
"""


def _says(deploy: Deploy, engine: object, program: str, **given: object) -> str:
    deployment = deploy(engine)
    deployment.given.update(given)
    path = deployment.directory / "program.py"
    path.write_text(program)
    return deployment.run(f"python {path}")


@pytest.mark.parametrize("immediate", [True, False])
def test_huey_that_runs_at_the_call_is_refused(immediate: bool, deploy: Deploy) -> None:
    """Under `immediate`, as huey has it by default under DEBUG, nothing would have left the process."""
    said = _says(deploy, HUEY, _CHECK, immediate=immediate)
    assert ("qbwi.E010" in said and "huey is immediate" in said) is immediate, said


def test_coroutine_function_for_huey_is_refused(deploy: Deploy) -> None:
    """It has no async tasks: the definition fails, and not the deploy."""
    said = _says(deploy, HUEY, _DEFINE)
    assert said.startswith("InvalidTask"), said


def test_coroutine_function_for_the_database_is_taken(deploy: Deploy) -> None:
    """It has async tasks."""
    assert _says(deploy, TASKS_DB, _DEFINE).strip() == "defined"
