"""Items with `executor="process"`, as a site has them: with Django, requests, carriers, signals and settings."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, transaction
from django.test import RequestFactory, override_settings
from django.utils import translation

from django_qbwi import (
    InvalidWorkItem,
    NotHosted,
    WorkItemHandle,
    WorkItemRejected,
    WorkItemStatus,
    background_work_item,
    hosting,
    queue_background_work_item,
    queue_on_commit,
)
from django_qbwi.hosting import process_lane
from django_qbwi.signals import work_item_finished, work_item_rejected, work_item_started
from django_qbwi.testing import captured_work_items, immediate_work_items
from tests import process_items
from tests.intake.carriers import tenant
from tests.support.gates import PATIENCE
from tests.support.scripts import run_script

S = WorkItemStatus
pytestmark = pytest.mark.skipif(not hasattr(os, "posix_spawn"), reason="helper processes need POSIX")

WITHOUT_A_PROCESS_ITEM = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
import django
django.setup()
from django_qbwi import queue_background_work_item
handle = queue_background_work_item(lambda token: None)
assert handle.wait(30)
print([name for name in sys.modules if name.startswith("django_qbwi.executors.processes")])
"""

WITHOUT_A_SETTINGS_MODULE = """
import django
from django.conf import settings
settings.configure(SECRET_KEY="x", INSTALLED_APPS=["django_qbwi"])
django.setup()
from django.core.exceptions import ImproperlyConfigured
from django_qbwi import queue_background_work_item
from tests.executors.processes.functions import nothing
try:
    queue_background_work_item(nothing, executor="process")
except ImproperlyConfigured as error:
    print(error)
"""


@pytest.fixture
def seen(tmp_path: Path) -> Callable[[WorkItemHandle], dict[str, Any]]:
    """Wait for an item, and return what it has seen."""

    def read(handle: WorkItemHandle) -> dict[str, Any]:
        assert handle.wait(PATIENCE)
        assert handle.status is S.SUCCEEDED, handle.info.error
        facts: dict[str, Any] = json.loads((tmp_path / "seen").read_text())
        return facts

    return read


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where an item writes what it has seen."""
    return str(tmp_path / "seen")


def test_decorated_function_runs_in_a_helper(seen: Callable[..., dict[str, Any]], path: str) -> None:
    """Its arguments cross, also those by keyword, and Django is set up there."""
    facts = seen(process_items.look.queue(path, word="spring"))
    assert facts["main"].endswith(os.path.join("executors", "processes", "helper.py"))
    assert (facts["word"], facts["language"]) == ("spring", "en-us")


def test_executor_of_one_call(seen: Callable[..., dict[str, Any]], path: str) -> None:
    """The queue functions take it, and `using` does, in both directions."""
    assert seen(queue_background_work_item(process_items.look_undecorated, path, executor="process"))["main"].endswith(
        "helper.py"
    )
    assert not seen(process_items.look.using(executor="thread").queue(path))["main"].endswith("helper.py")
    assert not seen(queue_background_work_item(process_items.look, path, executor="thread"))["main"].endswith(
        "helper.py"
    )


def test_snapshot_is_active_there(seen: Callable[..., dict[str, Any]], path: str) -> None:
    """The request is copied here, and its language is that of the item there; origin is known."""
    request = RequestFactory().get("/albums/5/")
    request.LANGUAGE_CODE = "de"  # type: ignore[attr-defined]
    with translation.override("de"):
        handle = process_items.look_at_request.queue(request, path)
    facts = seen(handle)
    assert (facts["word"], facts["language"]) == ("/albums/5/", "de")
    assert handle.info.origin == "GET /albums/5/"


@override_settings(QBWI={"CONTEXT": ["tests.intake.carriers.TenantCarrier"]})
def test_carriers_restore_there(seen: Callable[..., dict[str, Any]], path: str) -> None:
    """What a carrier has captured here is in force there, and in the signals here."""
    reset = tenant.set("acme")
    try:
        handle = process_items.look.queue(path)
    finally:
        tenant.reset(reset)
    assert seen(handle)["tenant"] == "acme"


def test_signals_are_sent_here(path: str) -> None:
    """Once each, in the process that has queued it."""
    told: list[tuple[str, str, int]] = []

    def started(info: Any, **kwargs: Any) -> None:
        told.append(("started", info.id, os.getpid()))

    def finished(info: Any, **kwargs: Any) -> None:
        told.append(("finished", info.id, os.getpid()))

    work_item_started.connect(started)
    work_item_finished.connect(finished)
    try:
        handle = process_items.look.queue(path)
        assert handle.wait(PATIENCE)
    finally:
        work_item_started.disconnect(started)
        work_item_finished.disconnect(finished)
    assert told == [("started", handle.id, os.getpid()), ("finished", handle.id, os.getpid())]


def test_database_is_there() -> None:
    """The item has connections of its own, to what the settings say; this one has no tables."""
    handle = process_items.use_the_database.queue()
    assert handle.wait(PATIENCE)
    assert isinstance(handle.exception(), OperationalError)


def test_helper_queues_nothing(path: str) -> None:
    """Nobody would wait for it there."""
    handle = process_items.queue_another.queue(path)
    assert handle.wait(PATIENCE)
    with pytest.raises(NotHosted, match="this is a helper process"):
        raise handle.exception() or AssertionError


def test_what_cannot_cross_is_refused_at_the_call() -> None:
    """Also where items are captured, or run at the call: a test finds it."""
    for tool in (captured_work_items, immediate_work_items):
        with tool(), pytest.raises(InvalidWorkItem, match="cannot be imported by its name"):
            queue_background_work_item(lambda token: None, executor="process")
    with pytest.raises(InvalidWorkItem, match="cannot be pickled"):
        process_items.leave.queue(lambda: None)


@pytest.mark.django_db
def test_what_cannot_cross_is_refused_before_the_commit() -> None:
    """A hook after the commit could only log it."""
    with transaction.atomic(), pytest.raises(InvalidWorkItem, match="cannot be pickled"):
        queue_on_commit(process_items.look, lambda: None, executor="process")


def test_items_at_the_call_run_here(seen: Callable[..., dict[str, Any]], path: str) -> None:
    """`immediate_work_items()` and IMMEDIATE start no process."""
    with immediate_work_items():
        assert not seen(process_items.look.queue(path))["main"].endswith("helper.py")
    with override_settings(QBWI={"IMMEDIATE": True}):
        assert not seen(process_items.look.queue(path))["main"].endswith("helper.py")


def test_wrong_decorations_are_refused() -> None:
    """Of methods and of async functions, with the cure."""
    with pytest.raises(InvalidWorkItem, match=r"is a method.*Decorate a function"):

        class Album:
            """Has a method."""

            @background_work_item(executor="process")
            def resize(self, token: Any) -> None:
                """Do nothing."""

    with pytest.raises(InvalidWorkItem, match=r"is async.*leave the executor out"):

        @background_work_item(executor="process")
        async def load(token: Any) -> None:
            """Do nothing."""

    with pytest.raises(InvalidWorkItem, match=r'executor is .gpu.: give "thread" or "process"'):
        background_work_item(executor="gpu")(process_items.look_undecorated)  # type: ignore[call-overload]


def test_killer_of_helpers_is_refused_at_the_call() -> None:
    """After three deaths in a row, with the record and the signal of every refusal."""
    rejected: list[str] = []

    def note(info: Any, **kwargs: Any) -> None:
        rejected.append(info.name)

    executor = hosting.this_process().current.processes().executor
    for _ in range(3):
        executor._deaths.died("tests.process_items.leave")
    work_item_rejected.connect(note)
    try:
        with pytest.raises(WorkItemRejected, match="3 helper processes in a row have died"):
            process_items.leave.queue(1)
    finally:
        work_item_rejected.disconnect(note)
    assert rejected == ["tests.process_items.leave"]


def test_item_of_a_thread_imports_nothing_of_it() -> None:
    """A process that has no such item pays nothing."""
    assert run_script(WITHOUT_A_PROCESS_ITEM) == ["[]"]


def test_settings_without_a_module_are_refused() -> None:
    """A helper could not be set up with them."""
    (line,) = run_script(WITHOUT_A_SETTINGS_MODULE)
    assert "name a module in DJANGO_SETTINGS_MODULE" in line


@override_settings(QBWI={"PROCESS_NICE": 20})
def test_wrong_setting_is_named() -> None:
    """At the first item, as with each setting."""
    with pytest.raises(ImproperlyConfigured, match=r'QBWI\["PROCESS_NICE"\] is 20'):
        process_items.look.queue("x")


def test_lane_is_made_once() -> None:
    """However often it is asked for."""
    assembly = hosting.this_process().current
    again = process_lane.process_lane(assembly.scheduler, assembly.settings, assembly.environment)
    assert again.executor is assembly.processes().executor
