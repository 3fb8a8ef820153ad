"""The tools for tests under the runners that projects have, each in a process of its own: xdist, asyncio, Django's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_pytest_plugin import CHECKOUT, PLUGIN, SETTINGS

# Each kind of tool once; `{patience}` seconds are never over.
BODY = """
import threading

from django_qbwi import background_work_item, queue_background_work_item, track
from django_qbwi.testing import (
    assert_no_work_items_left, captured_work_items, drain, immediate_work_items, simulate_shutdown
)

PATIENCE = 30
ran = []


@background_work_item
def item(token):
    ran.append(threading.current_thread())


def use_all_tools():
    ran.clear()
    with immediate_work_items():
        item.queue()
    assert ran.pop() is threading.current_thread()
    with captured_work_items() as captured:
        item.queue()
    assert [captured_item.name for captured_item in captured] == [item.__module__ + ".item"]
    item.queue()
    assert drain(PATIENCE)
    assert ran.pop() is not threading.current_thread()
    handle = queue_background_work_item(lambda token: token.wait(PATIENCE))
    assert simulate_shutdown().finished == [handle]
    thread = threading.Thread(target=lambda: None)
    thread.start()
    assert track(thread).wait(PATIENCE)
    assert_no_work_items_left(PATIENCE)
"""


def project(path: Path, tests: dict[str, str], ini: str = "") -> None:
    """Write a small project."""
    (path / "mysettings.py").write_text(SETTINGS, encoding="utf-8")
    (path / "tools.py").write_text(BODY, encoding="utf-8")
    (path / "pytest.ini").write_text(
        f"[pytest]\nDJANGO_SETTINGS_MODULE = mysettings\npythonpath = .\nfilterwarnings = error\n{ini}",
        encoding="utf-8",
    )
    for name, text in tests.items():
        (path / f"{name}.py").write_text(text, encoding="utf-8")


def run(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the project."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "PYTEST_"))}
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, [CHECKOUT, os.environ.get("PYTHONPATH")]))
    environ["DJANGO_SETTINGS_MODULE"] = "mysettings"
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=path,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )


PYTEST = ("-m", "pytest", *PLUGIN, "-p", "no:cacheprovider", "-p", "no:randomly")

PLAIN = """
import pytest
from tools import use_all_tools

@pytest.mark.parametrize("number", range(4))
def test_all(number):
    use_all_tools()
"""


def test_xdist(tmp_path: Path) -> None:
    """`pytest -n 2`: each worker has a scheduler of its own, and what is left is an error of the one test."""
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    leaves = """
from django_qbwi import queue_background_work_item

def test_leaves_an_item_behind():
    queue_background_work_item(lambda token: token.wait(30), name="left behind")
"""
    project(tmp_path, {"test_plain": PLAIN, "test_leaves": leaves}, "qbwi_fail_on_leftover = true\n")
    result = run(tmp_path, *PYTEST, "-p", "no:asyncio", "-n", "2")
    assert result.returncode == 1, result.stdout
    assert "5 passed, 1 error" in result.stdout
    assert "- left behind id=" in result.stdout


def test_xdist_shows_what_cannot_be_pickled(tmp_path: Path) -> None:
    """A failing test that has handles, tokens and OperationCancelled in its hands is reported as anywhere."""
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    fails = """
from django_qbwi import CancellationTokenSource, queue_background_work_item

def test_handle():
    handle = queue_background_work_item(lambda token: None, name="shown")
    assert handle.wait(30)
    assert handle is None

def test_cancelled():
    source = CancellationTokenSource()
    source.cancel(message="enough")
    source.token.raise_if_cancellation_requested()
"""
    project(tmp_path, {"test_fails": fails})
    result = run(tmp_path, *PYTEST, "-p", "no:asyncio", "-n", "2")
    assert result.returncode == 1, result.stdout
    assert "2 failed" in result.stdout
    assert "name=shown status=succeeded" in result.stdout
    assert "OperationCancelled: cancelled (requested): enough" in result.stdout


def test_asyncio(tmp_path: Path) -> None:
    """Under pytest-asyncio: awaited on the test's loop, and the blocking tools in a thread beside it."""
    pytest.importorskip("pytest_asyncio", reason="pytest-asyncio is not installed")
    tests = """
import asyncio
import pytest
from django_qbwi import queue_background_work_item, track
from django_qbwi.testing import assert_no_work_items_left, drain, simulate_shutdown
from tools import item, ran, use_all_tools

pytestmark = pytest.mark.asyncio

async def test_await():
    assert (await item.queue()).status == "succeeded"
    assert_no_work_items_left(0)

async def test_immediate(immediate_work_items):
    assert item.queue().status == "succeeded"

async def test_captured(captured_work_items):
    item.queue()
    [handle] = captured_work_items.run_all()
    assert handle.status == "succeeded"

async def test_in_a_thread():
    await asyncio.to_thread(use_all_tools)

async def test_shutdown_beside_the_loop(simulate_shutdown):
    async def polls(token):
        await token.cancelled()
        token.raise_if_cancellation_requested()
    handle = queue_background_work_item(polls)
    assert (await asyncio.to_thread(simulate_shutdown)).cancelled == [handle]

async def test_task_of_the_loop(no_work_items_left):
    task = asyncio.create_task(asyncio.sleep(0))
    assert (await track(task)).status == "succeeded"

async def test_refused():
    with pytest.raises(RuntimeError, match="asyncio.to_thread"):
        simulate_shutdown()
"""
    project(tmp_path, {"test_async": tests, "test_plain": PLAIN}, "asyncio_default_fixture_loop_scope = function\n")
    result = run(tmp_path, *PYTEST)
    assert result.returncode == 0, result.stdout
    assert "11 passed" in result.stdout


DJANGO = """
from django.contrib.auth.models import Group
from django.test import SimpleTestCase, TestCase, TransactionTestCase
from django_qbwi import queue_background_work_item
from django_qbwi.testing import assert_no_work_items_left, drain, immediate_work_items
from tools import use_all_tools


class {name}(SimpleTestCase):
    def setUp(self):
        self.addCleanup(drain, 0)
        self.addCleanup(assert_no_work_items_left)

    def test_all(self):
        use_all_tools()

    async def test_await(self):
        handle = queue_background_work_item(lambda token: None)
        self.assertEqual((await handle).status, "succeeded")


class {name}InTransaction(TestCase):
    def test_it_sees_the_transaction(self):
        Group.objects.create(name="a")
        seen = []
        with immediate_work_items():
            queue_background_work_item(lambda token: seen.append(Group.objects.count()))
        self.assertEqual(seen, [1])
"""
LEAVES = """
class Leaves(SimpleTestCase):
    def setUp(self):
        self.addCleanup(drain, 0)
        self.addCleanup(assert_no_work_items_left, 0)

    def test_leaves_an_item_behind(self):
        queue_background_work_item(lambda token: token.wait(30), name="left behind")

    def test_after_it(self):
        assert_no_work_items_left(0)
"""


def test_django_s_runner(tmp_path: Path) -> None:
    """`manage.py test`: the same tools, and the items that a test leaves are named."""
    project(tmp_path, {"test_one": DJANGO.format(name="One") + LEAVES})
    result = run(tmp_path, "-W", "error", "-m", "django", "test")
    assert result.returncode == 1, result.stdout
    assert "Ran 5 tests" in result.stdout
    assert "FAILED (failures=1)" in result.stdout, result.stdout
    assert "AssertionError: 1 work item left after 0 s:\n- left behind id=" in result.stdout


def test_django_s_runner_in_parallel(tmp_path: Path) -> None:
    """`manage.py test --parallel`: each process has its own. (For a failure there Django itself needs tblib.)"""
    project(tmp_path, {f"test_{name.lower()}": DJANGO.format(name=name) for name in ("One", "Two", "Three")})
    result = run(tmp_path, "-W", "error", "-m", "django", "test", "--parallel", "2")
    assert result.returncode == 0, result.stdout
    assert "Ran 9 tests" in result.stdout
