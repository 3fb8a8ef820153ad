"""R1, F48: a signal handler that raises in the main thread, again and again within our calls, tears nothing apart."""

import ast
import re
import signal
from pathlib import Path
from types import ModuleType

import pytest

from django_qbwi import core, executors, machine
from tests.support.scripts import run_script

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timers"),
]

STORM = """
import logging, random, signal, sys, threading, time, warnings
from tests.support.observers import RecordingObserver
from tests.support.runtime import Runtime

PATIENCE = 60
WORKERS = 3
# asyncio's debug mode, and our own monitor, remark on the crowd.
logging.disable(logging.WARNING)
# Struck between its making and its storing, a loop is closed by its finalizer, which warns.
warnings.simplefilter("ignore", ResourceWarning)
announces, fresh, wanted = sys.argv[1] == "announces", sys.argv[1] == "start", int(sys.argv[2])


class Storm(Exception):
    pass


def in_the_call(frame):
    # Only inside of the call: this script has promised nothing. Nor has the standard library where it starts a thread
    # (it prints a KeyError out of _bootstrap), makes or drops a loop, or runs a callback whose errors it prints.
    while frame is not None:
        module, name = frame.f_globals["__name__"], frame.f_code.co_name
        if frame.f_code is threading.Thread.start.__code__ or module == "_weakrefset":
            return False
        if name in ("__init__", "__del__") and module.startswith("asyncio."):
            return False
        if frame.f_code is queue.__code__:
            return True
        frame = frame.f_back
    return False


hits = 0


def strike(signum, frame):
    global hits
    if in_the_call(frame):
        hits += 1
        raise Storm


def queue(runtime, work_item, number):
    runtime.queue(work_item, number)


def item(token, number):
    ran.append(number)


async def aitem(token, number):
    ran.append(number)


def new_runtime():
    return Runtime(max_workers=WORKERS, max_queued=10**9, observer=RecordingObserver(announces=announces))


def settle(runtime):
    # Every worker and the loop still work, and nothing is left in the registry.
    barrier = threading.Barrier(WORKERS + 1)
    handles = [runtime.queue(lambda token: barrier.wait(PATIENCE)) for _ in range(WORKERS)]
    barrier.wait(PATIENCE)
    handles += [runtime.queue(aitem, -1) for _ in range(3)]
    assert all(handle.wait(PATIENCE) for handle in handles)
    assert runtime.scheduler.wait_until_empty(PATIENCE), runtime.scheduler
    assert (runtime.scheduler.queued_count, runtime.scheduler.running_count) == (0, 0)
    assert sum(runtime.scheduler.totals.values()) == len(ran) + WORKERS
    assert len(runtime.threads._workers) <= WORKERS
    names = [thread.name for thread in runtime.own_threads()]
    assert names.count("qbwi-loop") == names.count("qbwi-keeper") == 1, names
    runtime.retire()


signal.signal(signal.SIGALRM, strike)
ran, accepted, number = [], set(), 0
runtime = new_runtime()
while hits < wanted:
    number += 1
    before = hits
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 4e-4 if fresh else 4e-5))
        queue(runtime, random.choice([item, aitem]), number)
        accepted.add(number)
    except Storm:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if fresh and hits > before:
        settle(runtime)
        assert accepted <= set(ran)
        ran, accepted, runtime = [], set(), new_runtime()
    elif number % 500 == 0:
        time.sleep(0)
signal.signal(signal.SIGALRM, signal.SIG_IGN)
settle(runtime)
numbers = [number for number in ran if number > 0]
assert len(numbers) == len(set(numbers)), "an item ran twice"
assert accepted <= set(numbers), "an accepted item did not run"
print("survived", hits)
"""


@pytest.mark.parametrize(("how", "hits"), [("plain", 3_000), ("announces", 3_000), ("start", 200)])
def test_r1_exceptions_inside_queueing(how: str, hits: int) -> None:
    """R1: after the storm the counts are exact, each accepted item has run once, and every worker still works."""
    [line] = run_script(STORM, how, str(hits))
    assert line == f"survived {hits}"


CANCELLING = """
import random, signal, sys, threading, time
from django_qbwi.core.records import WorkItemStatus
from django_qbwi.core.scheduler import WorkItemScheduler
from tests.support.runtime import Runtime

PATIENCE = 60
wanted = int(sys.argv[1])
hits = 0


class Storm(BaseException):
    pass


def strike(signum, frame):
    global hits
    while frame is not None and frame.f_code is not WorkItemScheduler.cancel.__code__:
        frame = frame.f_back
    if frame is not None:
        hits += 1
        raise Storm


def item(token):
    pass


def wait_for(handle):
    handle.token.wait()
    handle.wait()


runtime = Runtime(max_workers=1, max_queued=10**9)
held = threading.Event()
runtime.queue(lambda token: held.wait(PATIENCE))
handles, waiting = [], []
signal.signal(signal.SIGALRM, strike)
while hits < wanted:
    handle = runtime.queue(item)
    handles.append(handle)
    if len(handles) % 100 == 0:
        waiting.append(threading.Thread(target=wait_for, args=[handle], daemon=True))
        waiting[-1].start()
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 3e-5))
        handle.cancel()
    except Storm:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
signal.signal(signal.SIGALRM, signal.SIG_IGN)
for handle in handles:
    handle.cancel()  # what was struck at the door
assert all(handle.wait(PATIENCE) for handle in handles)
for thread in waiting:
    thread.join(PATIENCE)
    assert not thread.is_alive()
assert {handle.status for handle in handles} == {WorkItemStatus.CANCELLED}
held.set()
assert runtime.scheduler.wait_until_empty(PATIENCE)
# An item is counted a moment after its waiters were woken.
assert runtime.scheduler.totals[WorkItemStatus.CANCELLED] == len(handles)
assert len(set(runtime.observer.events)) == len(runtime.observer.events), "an end was told of twice"
runtime.retire()
print("survived", hits)
"""


def test_r1_exceptions_inside_cancelling() -> None:
    """R1: after the storm each item is cancelled and counted once, and nobody waits for it any more."""
    [line] = run_script(CANCELLING, "1000")
    assert line == "survived 1000"


LOCKS = """
import contextlib, logging, random, signal, sys, threading, time
from django_qbwi.core.calls import Call
from django_qbwi.machine.daemon_executor import DaemonExecutor
from django_qbwi.machine.primitives import holding, new_rlock
from django_qbwi.machine.service_thread import ServiceThread
from tests.support.runtime import Runtime

PATIENCE = 100
kind, wanted = sys.argv[1], int(sys.argv[2])
hits = 0
logging.disable()


class Storm(BaseException):
    pass


def strike(signum, frame):
    # Not where the standard library starts a thread, which has promised nothing.
    global hits
    inside = False
    while frame is not None:
        if frame.f_code is threading.Thread.start.__code__:
            return
        inside = inside or frame.f_code is call.__code__
        frame = frame.f_back
    if inside:
        hits += 1
        raise Storm


def call():
    # Until it is struck: however slow or busy the machine is, no strike comes too late.
    while True:
        step()


def is_free(lock):
    # Asked by another thread: to this one a re-entrant lock that it holds looks free.
    answers = []

    def ask():
        answers.append(lock.acquire(timeout=5.0))
        if answers[0]:
            lock.release()

    asker = threading.Thread(target=ask)
    asker.start()
    asker.join()
    return answers == [True]


def contend():
    # Waits for the lock are struck as well.
    while not over.is_set():
        with lock:
            pass
        time.sleep(0.01)


def item(token):
    pass


def withdraw():
    handle = runtime.queue(item)
    with handle.token.register(int):
        handle.cancel()
    handle.wait(0)
    handle.id


def read():
    scheduler = runtime.scheduler
    scheduler.totals, scheduler.running_items(), scheduler.finished_items(), scheduler.is_empty
    scheduler.is_stuck, scheduler.nudge(), scheduler.wait_until_empty(0)


def start():
    runtime.scheduler._started = False
    runtime.queue(item).cancel()


def at_once():
    # As under IMMEDIATE, where the thread that queues runs the item.
    scheduler = runtime.scheduler
    work_item = scheduler.make_item(Call(item, (), False))
    try:
        scheduler.run_at_once(work_item)
        scheduler.begin(work_item)
    finally:
        scheduler.conclude(work_item, None)
        scheduler.settle(work_item)


over, free = threading.Event(), threading.Event()
service = ServiceThread("qbwi-chores")
executor = DaemonExecutor(2, "qbwi-executor")
runtime = Runtime(max_workers=1, max_queued=10**9)
runtime.queue(lambda token: free.wait(PATIENCE))
plain = new_rlock()
lock, step = {
    "holding": (plain, lambda: holding(plain, int)),
    "nested": (plain, lambda: holding(plain, holding, plain, int)),
    "service": (service._lock, lambda: (service.start(), service.call_at(time.monotonic() + 60, int).cancel())),
    "executor": (executor._guard, lambda: executor.submit(int) if executor._mailbox.qsize() < 100 else None),
    "cancel": (runtime.scheduler.lock, withdraw),
    "read": (runtime.scheduler.lock, read),
    "start": (runtime.scheduler._starting, start),
    "at_once": (runtime.scheduler.lock, at_once),
}[kind]
threading.Thread(target=contend, daemon=True).start()
signal.signal(signal.SIGALRM, strike)
held = rounds = 0
while hits < wanted and not held:
    with contextlib.suppress(Storm):
        # Again each millisecond, if the first one comes where it is to do nothing.
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 1e-4), 1e-3)
        call()
    signal.setitimer(signal.ITIMER_REAL, 0)
    # A round may take two strikes: the second one comes while the first is on its way out.
    rounds += 1
    if rounds % 500 == 0:
        held += not is_free(lock)
signal.signal(signal.SIGALRM, signal.SIG_IGN)
over.set()
held += not is_free(lock)
if not held:
    free.set()
    service.start()
    assert service.flush(PATIENCE)
    assert executor.submit(int).result(PATIENCE) == 0
    assert runtime.queue(item).wait(PATIENCE)
print("struck", min(hits, wanted), "held", held)
"""


@pytest.mark.parametrize("kind", ["holding", "nested", "service", "executor", "cancel", "read", "start", "at_once"])
def test_g31_no_lock_stays_held(kind: str) -> None:
    """G31: 10,000 exceptions of a signal handler around the taking and the release of a lock: none stays held.

    On Python 3.14 `with lock:` leaves one held after a few of them (python/cpython#148874).
    """
    [line] = run_script(LOCKS, kind, "10000", patience=600)
    assert line == "struck 10000 held 0"


OF_OWN_THREADS = {
    "acceptance.py": {"_come_due"},
    "expiry.py": {"_sweep"},
    "registry.py": {"taken_by"},
    "scheduler.py": {"_mark_overdue"},
    "threads.py": {"_strike_out", "enlist", "give_up_slot", "next_item"},
    "loop_thread.py": {"_forget", "_pump", "adopt_into", "give_up_slot_in"},
}
"""Functions that no thread calls but ours, where no signal handler runs: the keeper, the workers, the loop's."""


@pytest.mark.parametrize("room", [core, executors, machine])
def test_g31_main_thread_takes_no_lock_by_with(room: ModuleType) -> None:
    """G31: `with` takes a lock only in functions that are known to run in threads of ours alone."""
    [folder] = room.__path__
    found: dict[str, set[str]] = {}
    for path in Path(folder).glob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef) and any(map(takes_lock, ast.walk(function))):
                found.setdefault(path.name, set()).add(function.name)
    assert found == {name: names for name, names in OF_OWN_THREADS.items() if (Path(folder) / name).exists()}


def takes_lock(node: ast.AST) -> bool:
    """Return whether a node is a `with` of a lock, as all of ours are called."""
    return isinstance(node, ast.With) and any(
        re.search(r"lock|guard|starting", ast.unparse(with_item.context_expr)) for with_item in node.items
    )
