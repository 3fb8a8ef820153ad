"""One helper process, as its parent has it: started, spoken to, ended, and waited for by a thread of its own.

Lock: `_lock` guards the exit status and whether the descriptors are open, so that no pid and no number stands for
something else by the time at which it is used.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import sys
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from django_qbwi.core.exceptions import HelperDied
from django_qbwi.executors.processes import helper
from django_qbwi.executors.processes.frames import Frames, Message, frame_of
from django_qbwi.executors.processes.python import find_python
from django_qbwi.machine.primitives import (
    Alarm,
    holding,
    new_rlock,
    new_selector,
    process_spawner,
    process_waiter,
    start_thread,
)

_READY_SECONDS = 60.0
_STACK_SECONDS = 0.25
_EXIT_SECONDS = 2.0
_HIGH = 64
"""Descriptors from here on are no target of those that a helper gets."""
_UNKNOWN = -1
_DEFAULTS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGABRT", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGALRM")
_SITE = "django_qbwi.hosting.helper_site:HelperSite"


class Setup(NamedTuple):
    """How helpers are set up."""

    settings: str
    """The settings module."""
    nice: int = 10
    python: str | None = None
    """The interpreter, None for that of this process."""
    context: Sequence[str] = ()
    """Dotted paths of the carriers."""
    site: str = _SITE
    """The path `module:name` of what sets up the site there, called with `settings` and `context`."""


class HelperProcess:
    """A helper, owned by the thread that has started it; `tell`, `stack` and the signals may come from any thread.

    Its descriptors are closed when it is gone, and its owner has let go of it.
    """

    def __init__(self, setup: Setup) -> None:
        """Start it; `await_ready` waits until it is set up.

        Raises:
            OSError, RuntimeError: The system starts no process, or no thread, or there is no Python.
        """
        self.items = 0
        """How many it has had."""
        self.is_ended = False
        """Whether a signal of ours ends it."""
        self.status: int | None = None
        """What `os.waitpid` has said, None as long as it lives."""
        self._lock = new_rlock()
        self._gone = Alarm()
        self._waiting: list[Alarm] = []
        self._stack = ""
        self._let_go = False
        self._selector = new_selector() or selectors.DefaultSelector()
        try:
            self.pid: Final = self._start(find_python(setup.python))
        except BaseException:
            self._selector.close()
            raise
        self._frames = Frames(self._from)
        try:
            self._introduce(setup)
        except BaseException:
            self.kill()
            holding(self._lock, self._leave)
            raise

    def __repr__(self) -> str:
        return f"<HelperProcess pid={self.pid} items={self.items} status={self.status}>"

    @property
    def is_alive(self) -> bool:
        """Whether it can be spoken to."""
        return self.status is None and not self.is_ended

    @property
    def reason(self) -> str:
        """How it has ended, in words."""
        status = self.status
        if status is None:
            return "it runs"
        if status == _UNKNOWN:
            return "its exit status is not known, since somebody else has waited for it"
        if os.WIFSIGNALED(status):
            signum = os.WTERMSIG(status)
            name = signal.Signals(signum).name if signum in set(signal.Signals) else "unknown"
            memory = ", as the system does where memory runs out" if signum == signal.SIGKILL else ""
            return f"killed by signal {signum} ({name}{memory})"
        return f"exited with status {os.waitstatus_to_exitcode(status)}"

    def await_ready(self) -> None:
        """Wait until it is set up.

        Raises:
            HelperDied: It could not be, or takes too long; the message says why.
        """
        message = self.receive(_READY_SECONDS)
        if message is not None and message[0] == "ready":
            return
        alive = self.status is None
        self.kill()
        if message is not None and message[0] == "failed":
            raise HelperDied(f"a helper process could not be set up: {message[1]}\n{message[2]}")
        after = f"was not set up within {_READY_SECONDS:g} s" if alive else f"has ended as it began: {self.reason}"
        raise HelperDied(f"a helper process {after}")

    # In its owner's thread.

    def call(self, message: Message) -> None:
        """Have it do something, whatever the size of the message; it waits for none of the others.

        Raises:
            OSError: It is gone.
        """
        self._write(frame_of(message))

    def receive(self, timeout: float | None = None) -> Message | None:
        """Return what it says next, and wait for that; None if it is gone, or the time is over.

        Raises:
            Exception: What it says cannot be unpickled.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            message = self._frames.next()
            if message is not None:
                return message
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return None
            ready = {key.fd for key, _ in self._selector.select(left)}
            if self._from in ready:
                if not self._frames.read():
                    self._lose()
                    return None
            elif ready:
                return None

    def _lose(self) -> None:
        """Wait for the exit of one that has closed its pipe; one that lives on is of no use, and killed."""
        self._selector.unregister(self._from)
        if not self._selector.select(_EXIT_SECONDS):
            holding(self._lock, self._send_signal, signal.SIGKILL)
            self._selector.select()

    def end(self) -> None:
        """Let it end by itself, and let go of it; does not wait."""
        self.tell(("end",))
        holding(self._lock, self._leave)

    def wait(self, timeout: float) -> bool:
        """Wait until it is gone, `timeout` seconds at the most; once."""
        self._gone.wait(timeout)
        return self.status is not None

    def answer(self, stack: str) -> None:
        """Have those get it who wait for its stack."""
        self._stack = stack
        for alarm in holding(self._lock, self._take_waiting):
            alarm.set()

    # In any thread.

    def tell(self, message: Message) -> None:
        """Tell it something small; never blocks. Where it does not listen, it does not hear it."""
        holding(self._lock, self._tell, frame_of(message))

    def stack(self) -> str:
        """Return where it is now; waits for a moment."""
        alarm = Alarm()
        self._stack = ""
        holding(self._lock, self._waiting.append, alarm)
        self.tell(("stack",))
        alarm.wait(_STACK_SECONDS)
        return (
            self._stack or f"  <helper process {self.pid} does not answer: it is in code that holds the interpreter>\n"
        )

    def terminate(self) -> None:
        """Have it die of SIGTERM, which it heeds from us alone; in code that holds the interpreter it does not."""
        self.is_ended = True
        self.tell(("terminate",))

    def kill(self) -> None:
        """Send SIGKILL; also to one that has been told to end, and did not. Any thread."""
        self.is_ended = True
        holding(self._lock, self._send_signal, getattr(signal, "SIGKILL", signal.SIGTERM))

    def forget(self) -> None:
        """Close what a forked child has inherited of it; in the child, where it is not its parent's helper."""
        reinit = getattr(self._lock, "_at_fork_reinit", None)
        if reinit is not None:
            reinit()
        self.status = _UNKNOWN
        self._close()

    def _tell(self, frame: bytes) -> None:
        if self.status is None and not self._let_go:
            with contextlib.suppress(OSError):
                os.write(self._to, frame)

    def _send_signal(self, signum: int) -> None:
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signum)

    def _take_waiting(self) -> list[Alarm]:
        waiting, self._waiting = self._waiting, []
        return waiting

    def _write(self, frame: bytes) -> None:
        view = memoryview(frame)
        while view:
            try:
                view = view[os.write(self._to, view) :]
            except BlockingIOError:
                with new_selector() or selectors.DefaultSelector() as selector:
                    selector.register(self._to, selectors.EVENT_WRITE)
                    selector.register(self._death[0], selectors.EVENT_READ)
                    selector.select()
                if self.status is not None:
                    raise BrokenPipeError from None

    def _leave(self) -> None:
        self._let_go = True
        if self.status is not None:
            self._close()

    # The start and the end.

    def _introduce(self, setup: Setup) -> None:
        os.set_blocking(self._to, False)
        self._selector.register(self._from, selectors.EVENT_READ)
        self._selector.register(self._death[0], selectors.EVENT_READ)
        start = {"path": sys.path, "nice": setup.nice, "site": setup.site}
        start |= {"settings": setup.settings, "context": list(setup.context)}
        with contextlib.suppress(OSError):
            # It may be gone already, which is seen where it is waited for.
            self._write(frame_of(start))  # type: ignore[arg-type]  # the one message that is read without ours

    def _start(self, python: str) -> int:
        pipes = [os.pipe() for _ in range(4)]
        (theirs_in, self._to), (self._from, theirs_out), (theirs_life, self._life), self._death = pipes
        theirs = (theirs_in, theirs_out, theirs_life)
        pid = None
        try:
            pid = _spawn(python, theirs)
            started = pid
            start_thread(lambda: self._wait_for_the_end(started), f"qbwi-helper-{pid}")
        except BaseException:
            self._close_all()
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
                process_waiter()(pid, 0)
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        return pid

    def _wait_for_the_end(self, pid: int) -> None:
        if hasattr(os, "waitid"):
            # It stays a zombie until the lock is held: nobody sends a signal to a pid that was given to another one.
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            holding(self._lock, self._reap, pid)
        else:
            self._reap(pid)
        self._gone.set()
        for alarm in holding(self._lock, self._take_waiting):
            alarm.set()
        holding(self._lock, self._wake_owner)

    def _reap(self, pid: int) -> None:
        try:
            self.status = process_waiter()(pid, 0)[1]
        except ChildProcessError:
            self.status = _UNKNOWN

    def _wake_owner(self) -> None:
        if self._let_go:
            self._close()
        else:
            os.write(self._death[1], b".")

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            self._selector.close()
        self._close_all()

    def _close_all(self) -> None:
        for fd in (self._to, self._from, self._life, *self._death):
            with contextlib.suppress(OSError):
                os.close(fd)


def _spawn(python: str, theirs: tuple[int, ...]) -> int:
    """Start the program of a helper; not by `subprocess`, which gevent has replaced where it has replaced threads."""
    import fcntl  # what only POSIX has

    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _HIGH) for fd in theirs]
    targets = (helper.INBOX, helper.OUTBOX, helper.LIFELINE)
    actions: list[tuple[int, ...]] = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]  # type: ignore[list-item]
    actions += [(os.POSIX_SPAWN_DUP2, fd, target) for fd, target in zip(high, targets, strict=True)]
    defaults = [getattr(signal, name) for name in _DEFAULTS if hasattr(signal, name)]
    # Until it has a handler.
    blocked = {signal.SIGTERM}
    # -P: the folder of the program is no place from where modules are imported.
    argv = [python, "-P", os.path.abspath(helper.__file__)]
    try:
        try:
            return process_spawner()(
                python, argv, os.environ, file_actions=actions, setsid=True, setsigmask=blocked, setsigdef=defaults
            )
        except NotImplementedError:
            # The helper does it by itself.
            return process_spawner()(
                python, argv, os.environ, file_actions=actions, setsigmask=blocked, setsigdef=defaults
            )
    finally:
        for fd in high:
            os.close(fd)
