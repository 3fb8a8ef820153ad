"""Stacks as text: the innermost call last, bounded, without locals."""

import asyncio
import threading
from typing import Any

from django_qbwi.machine.stacks import caller_level, stack_of_task, stack_of_thread
from tests.support.gates import PATIENCE, Gate


def test_stack_of_a_thread_ends_where_it_is() -> None:
    """The last lines of a thread's stack are those of its innermost call; values are not shown."""
    gate = Gate()

    def outer(secret: str) -> None:
        gate(None)  # type: ignore[arg-type]

    thread = threading.Thread(target=outer, args=["hunter2"])
    thread.start()
    gate.await_entered()
    stack = stack_of_thread(thread.ident)
    gate.open()
    thread.join(PATIENCE)
    assert stack.index("in outer") < stack.index("in __call__") < stack.index("in wait")
    assert "hunter2" not in stack


def test_thread_that_is_gone_has_no_stack() -> None:
    """An ident of nobody, and none at all, have no stack."""
    assert stack_of_thread(None) == stack_of_thread(-1) == "  <no stack>\n"


def test_deep_stack_is_bounded() -> None:
    """Of a deep stack the innermost 40 calls are shown."""

    def ping(depth: int) -> str:
        return pong(depth - 1)

    def pong(depth: int) -> str:
        return ping(depth - 1) if depth > 0 else stack_of_thread(threading.get_ident())

    assert ping(100).count("  File ") == 40


def test_caller_level_points_at_the_first_code_that_is_not_ours() -> None:
    """A warning of ours is shown at the line of the user's, however deep we are."""
    ours: dict[str, Any] = {"__name__": "django_qbwi.anything", "caller_level": caller_level}
    exec("def inner(): return caller_level()\ndef outer(): return inner()", ours)
    assert (caller_level(), ours["inner"](), ours["outer"]()) == (1, 2, 3)


async def leaf(future: Any) -> None:
    await future


async def root(future: Any) -> None:
    await leaf(future)


def test_stack_of_a_task_is_its_await_chain() -> None:
    """From the outer coroutine to the inner one."""

    async def main() -> str:
        future = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(root(future))
        await asyncio.sleep(0)
        stack = stack_of_task(task)
        future.set_result(None)
        await task
        return stack

    stack = asyncio.run(main())
    assert stack.index("in root") < stack.index("in leaf")


def test_stack_of_a_deep_task_is_bounded() -> None:
    """A long chain of awaits is cut."""

    async def recurse(depth: int, future: Any) -> None:
        await (recurse(depth - 1, future) if depth else future)

    async def main() -> str:
        future = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(recurse(100, future))
        await asyncio.sleep(0)
        stack = stack_of_task(task)
        future.set_result(None)
        await task
        return stack

    assert asyncio.run(main()).count("in recurse") > 1


def test_ended_task_has_no_stack() -> None:
    """A task that is done waits for nothing."""

    async def main() -> str:
        task = asyncio.create_task(asyncio.sleep(0))
        await task
        return stack_of_task(task)

    assert asyncio.run(main()) == "  <no stack>\n"
