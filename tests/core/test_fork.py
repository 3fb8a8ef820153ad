"""R13, F38: an item that forks and lets the child return: the child does nothing more, and nothing runs twice."""

import os

import pytest

from tests.support.scripts import run_script

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

FORK = """
import asyncio, os, sys, threading, warnings
from tests.support.runtime import Runtime

warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of any fork beside threads
PATIENCE = 60
parent = os.getpid()
runtime = Runtime(max_workers=1)


def in_child():
    runtime.scheduler.after_fork_in_child()
    runtime.loop.stop_in_child()


os.register_at_fork(after_in_child=in_child)


def say(text):
    os.write(1, f"{text} in {'parent' if os.getpid() == parent else 'child'}\\n".encode())


def fork():
    child = os.fork()
    if child:
        children.append(child)
    return child


def sync(token):
    gate.wait(PATIENCE)
    say("forked" if fork() else "returned")


async def asynchronous(token):
    gate.wait(PATIENCE)
    say("forked" if fork() else "returned")


async def later(token):
    gate.wait(PATIENCE)
    await asyncio.sleep(0)
    child = fork()
    await asyncio.sleep(0)
    say("forked" if child else "went on")


async def in_thread(token):
    gate.wait(PATIENCE)
    say("forked" if await asyncio.to_thread(fork) else "went on")


def adopted(token):
    return later(token)


async def child_task(token):
    await asyncio.create_task(later(token))


async def in_callback(token):
    gate.wait(PATIENCE)
    done = asyncio.get_running_loop().create_future()

    def call():
        say("forked" if fork() else "returned")
        done.set_result(None)

    asyncio.get_running_loop().call_soon(call)
    await done


async def araising(token):
    gate.wait(PATIENCE)
    if not fork():
        raise ValueError("in the child")
    say("forked")


async def own_loop(token):
    gate.wait(PATIENCE)
    child = fork()
    if not child:
        # As the target of a multiprocessing.Process would.
        asyncio.run(asyncio.sleep(0))
    say("forked" if child else "returned")


def raising(token):
    gate.wait(PATIENCE)
    if not fork():
        raise ValueError("in the child")
    say("forked")


def callback(token):
    token.register(lambda: say("forked" if fork() else "returned"))
    registered.set()
    gate.wait(PATIENCE)
    token.wait(PATIENCE)


def charge(token, number):
    say(f"charged {number}")


async def acharge(token, number):
    await asyncio.sleep(0)
    say(f"charged {number}")


gate, registered = threading.Event(), threading.Event()
children = []
handles = [runtime.queue(globals()[sys.argv[1]])]
handles += [runtime.queue(charge if number % 2 else acharge, number) for number in range(6)]
gate.set()
if sys.argv[1] == "callback":
    assert registered.wait(PATIENCE)
    runtime.keeper.post(handles[0].cancel)
assert all(handle.wait(PATIENCE) for handle in handles)
assert runtime.keeper.flush(PATIENCE)
[child] = children
_, status = os.waitpid(child, 0)
assert runtime.run(charge, 6) == runtime.run(acharge, 7) == "succeeded"
runtime.retire()
say(f"child ended with {status}, items {sorted({str(handle.status) for handle in handles})}")
"""

CHARGED = [f"charged {number} in parent" for number in range(8)]


def check(kind: str) -> None:
    """Run an item that forks, and check who did what."""
    *lines, last = run_script(FORK, kind)
    assert last == "child ended with 0, items ['succeeded'] in parent"
    assert [line for line in sorted(lines) if line.startswith("charged")] == CHARGED
    others = [line for line in sorted(lines) if not line.startswith("charged")]
    assert others in (["forked in parent"], ["forked in parent", "returned in child"])


@pytest.mark.parametrize("kind", ["sync", "in_thread", "raising", "callback"])
def test_f38_item_that_forks_and_returns(kind: str) -> None:
    """F38: the parent's items run once, all in the parent; the child ends with the call that forked, or its wait."""
    check(kind)


@pytest.mark.parametrize(
    "kind", ["asynchronous", "later", "adopted", "child_task", "in_callback", "araising", "own_loop"]
)
def test_g30_async_item_that_forks(kind: str) -> None:
    """G30: Python 3.14 lets no step end whose loop is not the running one; the child ends without a word all the same.

    In the child no loop runs, so that code there may run one of its own.
    """
    check(kind)
