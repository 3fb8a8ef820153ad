"""An async item starts processes, whatever the event loop policy of the process has to say of its children."""

import asyncio
import asyncio.events
import os
import signal
import sys
import threading
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable
from typing import Any, Never

import pytest

from django_qbwi.core.records import WorkItemStatus
from tests.support.gates import PATIENCE
from tests.support.runtime import Runtime

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a selector loop starts no processes on Windows")

POLICIES = ["usual", "refusing", "inactive", "uvloop"]
ECHO = "import sys; sys.stdout.write(sys.stdin.read().upper()); sys.stderr.write('err'); sys.exit(3)"


class Policy:
    """The policy that was there, but for who watches children."""

    def __init__(self, usual: Any) -> None:
        self._usual = usual

    def __getattr__(self, name: str) -> Any:
        return getattr(self._usual, name)


class RefusingPolicy(Policy):
    """Has nobody, as uvloop's."""

    def get_child_watcher(self) -> Never:
        raise NotImplementedError


class InactivePolicy(Policy):
    """Has one that is attached to no loop, as a `SafeChildWatcher` that somebody has just set."""

    def get_child_watcher(self) -> "InactivePolicy":
        return self

    def __enter__(self) -> "InactivePolicy":
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass

    def is_active(self) -> bool:
        return False


def policy_of(name: str, usual: Any) -> Any:
    """Return a policy by its name in the tests."""
    match name:
        case "refusing":
            return RefusingPolicy(usual)
        case "inactive":
            return InactivePolicy(usual)
        case "uvloop":
            uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed, and its policy is the one tried")
            return uvloop.EventLoopPolicy()
    return usual


@pytest.fixture(params=POLICIES, autouse=True)
def policy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a policy, and the one that was there at the end; asyncio's own function warns since Python 3.14."""
    usual = asyncio.events._event_loop_policy  # type: ignore[attr-defined]
    monkeypatch.setattr(asyncio.events, "_event_loop_policy", policy_of(request.param, usual))


def outcome(runtime: Runtime, step: Callable[[], Awaitable[Any]]) -> Any:
    """Run `step` as an async item, and return what it returns."""
    results: list[Any] = []

    async def item(token: Any) -> None:
        results.append(await step())

    handle = runtime.queue(item)
    assert handle.wait(PATIENCE)
    assert handle.status == WorkItemStatus.SUCCEEDED, handle.info.error
    return results.pop()


async def exit_status(program: str) -> int:
    """Return how a process of Python ends."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-S", "-c", program)
    return await process.wait()


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        pytest.param("", 0, id="success"),
        pytest.param("raise SystemExit(7)", 7, id="failure"),
        pytest.param("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL, id="killed"),
    ],
)
def test_g11_exec_gives_the_exit_status(runtime: Runtime, program: str, expected: int) -> None:
    """G11: the item learns how its process has ended, by itself or by a signal."""
    assert outcome(runtime, lambda: exit_status(program)) == expected


def test_g11_pipes(runtime: Runtime) -> None:
    """G11: the pipes of the process are there, in both directions."""

    async def step() -> Any:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-S", "-c", ECHO, stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        return (*await process.communicate(b"words"), process.returncode)

    assert outcome(runtime, step) == (b"WORDS", b"err", 3)


def test_g11_shell(runtime: Runtime) -> None:
    """G11: a command for the shell, too."""

    async def step() -> Any:
        process = await asyncio.create_subprocess_shell("read word; echo $word again; exit 4", stdin=PIPE, stdout=PIPE)
        return (*await process.communicate(b"once\n"), process.returncode)

    assert outcome(runtime, step) == (b"once again\n", None, 4)


def test_g11_several_at_once(runtime: Runtime) -> None:
    """G11: processes of one item that run beside each other each give their own status."""

    async def step() -> Any:
        return await asyncio.gather(*(exit_status(f"raise SystemExit({number})") for number in range(5)))

    assert outcome(runtime, step) == list(range(5))


def test_g11_several_items(runtime: Runtime) -> None:
    """G11: the process of one item runs while another item starts one, and ends by itself."""
    started, ended = threading.Event(), threading.Event()

    async def waits(token: Any) -> None:
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        started.set()
        await asyncio.to_thread(ended.wait, PATIENCE)
        assert await process.communicate(b"mine") == (b"mine", None)

    handle = runtime.queue(waits)
    assert started.wait(PATIENCE)
    assert outcome(runtime, lambda: exit_status("raise SystemExit(5)")) == 5
    ended.set()
    assert handle.wait(PATIENCE)
    assert handle.status == WorkItemStatus.SUCCEEDED


def test_g11_no_such_program(runtime: Runtime) -> None:
    """G11: what cannot be started raises what it raises in a view, and the next process is started."""

    async def step() -> int:
        with pytest.raises(FileNotFoundError):
            await asyncio.create_subprocess_exec("/no/such/program")
        return await exit_status("raise SystemExit(6)")

    assert outcome(runtime, step) == 6


def test_g11_terminated(runtime: Runtime) -> None:
    """G11: the item ends its process, and is told of it."""

    async def step() -> Any:
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
        process.terminate()
        await process.communicate()
        return process.returncode

    assert outcome(runtime, step) == -signal.SIGTERM


def test_g11_cancelled_while_it_starts(runtime: Runtime) -> None:
    """G11: a process whose start is cancelled has ended when the cancellation comes out."""
    alive, held = os.pipe()
    os.set_blocking(alive, False)

    async def step() -> bytes:
        starting = asyncio.create_task(asyncio.create_subprocess_exec("cat", stdin=PIPE, pass_fds=[held]))
        await asyncio.sleep(0)
        os.close(held)
        with pytest.raises(BlockingIOError):
            os.read(alive, 1)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        # Nobody holds the other end any more.
        return os.read(alive, 1)

    assert outcome(runtime, step) == b""
    os.close(alive)


def test_g11_watcher_is_made_for_the_first_process(runtime: Runtime) -> None:
    """G11: an item that starts no process costs nothing, and all processes of a loop have one watcher."""

    async def step() -> list[Any]:
        loop = asyncio.get_running_loop()
        watchers = [vars(loop).get("_child_watcher")]
        for _ in range(2):
            await exit_status("")
            watchers.append(vars(loop).get("_child_watcher"))
        return watchers

    none, first, second = outcome(runtime, step)
    assert none is None
    assert first is second
    assert (first is None) == (sys.version_info >= (3, 14))


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="asyncio's own choice since Python 3.14")
def test_g11_where_there_are_no_pidfds(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """G11: where the system has none, or refuses them, threads wait for the processes."""
    monkeypatch.setattr(asyncio.unix_events, "can_use_pidfd", lambda: False, raising=False)

    async def step() -> tuple[int, Any]:
        return await exit_status("raise SystemExit(8)"), vars(asyncio.get_running_loop())["_child_watcher"]

    status, watcher = outcome(runtime, step)
    assert (status, type(watcher)) == (8, asyncio.unix_events.ThreadedChildWatcher)
