"""What the tests have helpers run. Each that does not end at once writes a file when it is where the test wants it."""

import contextlib
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from django_qbwi.core.cancellation import CancellationToken
from django_qbwi.core.items import current_work_item

logger = logging.getLogger("tests.helpers")


class PlainSite:
    """A site without Django."""

    def __init__(self, settings: str, context: list[str]) -> None:
        if settings == "broken":
            raise LookupError("no such settings")
        if settings == "dead":
            os._exit(4)
        logging.getLogger().setLevel(logging.INFO)
        logging.getLogger("tests.alone").propagate = False
        logging.getLogger("tests.alone").addHandler(logging.StreamHandler())

    def before(self) -> None:
        """Do nothing."""

    def after(self) -> None:
        """Do nothing."""

    def thread_ended(self) -> None:
        """Do nothing."""

    def surroundings(self, args: Any, carried: Any) -> Any:
        """Return an empty scope."""
        return contextlib.nullcontext()


class TwoArgumentsError(Exception):
    """Is pickled, and cannot be made again."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one)


def arrive(path: str, text: str = "") -> None:
    """Write a file in one step."""
    Path(f"{path}.part").write_text(text or str(os.getpid()), encoding="utf-8")
    os.replace(f"{path}.part", path)


def nothing(token: CancellationToken) -> None:
    """End at once."""


def add(token: CancellationToken, path: str, one: int, *, other: int = 0) -> None:
    """Write a sum."""
    arrive(path, str(one + other))


def fail(token: CancellationToken, error: BaseException) -> None:
    """Raise what was given."""
    raise error


def fail_with_a_local_class(token: CancellationToken) -> None:
    """Raise what cannot be pickled."""

    class LocalError(Exception):
        """Has no name in its module."""

    raise LocalError("inside")


def fail_with_two_arguments(token: CancellationToken) -> None:
    """Raise what cannot be unpickled."""
    raise TwoArgumentsError("one", "two")


def make_a_generator(token: CancellationToken) -> Any:
    """Return something of which nothing has run."""
    return (number for number in (1, 2))


async def _wait() -> None:
    """Do nothing."""


def make_a_coroutine(token: CancellationToken) -> Any:
    """Return something that nobody awaits here."""
    return _wait()


def leave_with(token: CancellationToken, status: int) -> None:
    """End the process."""
    os._exit(status)


def send_to_itself(token: CancellationToken, signum: int) -> None:
    """Die by a signal."""
    os.kill(os.getpid(), signum)


def close_the_pipe(token: CancellationToken) -> None:
    """Live on, and say nothing any more."""
    os.close(4)
    threading.Event().wait()


def heed(token: CancellationToken, path: str) -> None:
    """Wait for the cancellation, and say why."""
    arrive(path)
    token.wait()
    remaining = token.remaining()
    logger.info("%s %s %s", token.reason, token.message, None if remaining is None else round(remaining))
    token.raise_if_cancellation_requested()


def await_deadline(token: CancellationToken, path: str) -> None:
    """Wait until there is a deadline, without being cancelled."""
    arrive(path)
    while token.remaining() is None:
        threading.Event().wait(0.001)


def ignore(token: CancellationToken, path: str) -> None:
    """Never end."""
    arrive(path)
    threading.Event().wait()


def ignore_all(token: CancellationToken, path: str) -> None:
    """Never end, and ignore SIGTERM too."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ignore(token, path)


def burn(token: CancellationToken, path: str) -> None:
    """Never end, in code of C that holds the interpreter."""
    arrive(path)
    sum(range(10**15))


def describe(token: CancellationToken, path: str) -> None:
    """Write down what this process is."""
    current = current_work_item()
    assert current is not None
    fds = {int(name): os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if _is_open(name)}
    facts = {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "session": os.getsid(0),
        "nice": os.nice(0),
        "stdin": os.readlink("/proc/self/fd/0"),
        "sockets": [target for fd, target in fds.items() if fd > 2 and target.startswith("socket:")],
        "main": str(sys.modules["__main__"].__file__),
        "name": current.name,
        "id": current.id,
        "runs_in_main_thread": threading.current_thread() is threading.main_thread(),
        "blocked": [int(signum) for signum in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
    }
    arrive(path, json.dumps(facts))


def _is_open(name: str) -> bool:
    return os.path.exists(f"/proc/self/fd/{name}") or os.path.islink(f"/proc/self/fd/{name}")


def log(token: CancellationToken) -> None:
    """Write records of each kind."""
    logger.info("plain %s", "text", extra={"lock": threading.Lock(), "album": 5})
    logging.getLogger("tests.alone").warning("alone")
    logger.debug("too fine")
    try:
        raise ValueError("logged")
    except ValueError:
        logger.exception("with frames")


def report(token: CancellationToken, times: int) -> None:
    """Report very often."""
    for done in range(times + 1):
        token.report(done, times, f"step {done}")


def cancel_itself(token: CancellationToken) -> None:
    """Cancel its own item."""
    current = current_work_item()
    assert current is not None
    assert current.cancel("by itself")
    token.raise_if_cancellation_requested()


def fork_and_return(token: CancellationToken) -> None:
    """Let a child return into the helper's own code."""
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)


def die_beside_a_child(token: CancellationToken, path: str) -> None:
    """Die, and leave a child that keeps the pipe open."""
    pid = os.fork()
    if not pid:
        signal.pause()
    arrive(path, str(pid))
    os._exit(7)


def go_on(token: CancellationToken, path: str, cursor: int = 0) -> None:
    """Fail once, behind a checkpoint."""
    if not cursor:
        token.checkpoint(cursor=3)
        raise OSError("not yet")
    arrive(path, str(cursor))


def pass_a_wrong_checkpoint(token: CancellationToken) -> None:
    """Give a checkpoint that has no such parameter."""
    token.checkpoint(nonsense=3)
