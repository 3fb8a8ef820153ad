"""The end of a process that nobody serves: what signal handlers meet there, each in a fresh interpreter."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from django_qbwi.lifecycle import interpreter
from tests.test_fresh_interpreter import run

LOGGED = {"LOGGING_CONFIG": None, "QBWI": {"SHUTDOWN_TIMEOUT": 0.5}}


def test_users_handler_wakes_a_main_thread_that_waits_for_a_lock() -> None:
    """A handler of the user's with ours before it runs at once, though the main thread waits without a limit."""
    lines = run(
        """
        import os, signal, threading

        handled, lock = threading.Event(), threading.Lock()
        signal.signal(signal.SIGTERM, lambda signum, frame: (handled.set(), lock.release()))
        queue_background_work_item(lambda token: None)
        lock.acquire()

        def send():
            # Nothing tells that the main thread is inside the call; if it is not yet, there is nothing to wake.
            threading.Event().wait(0.2)
            os.kill(os.getpid(), signal.SIGTERM)
            if not handled.wait(10):
                print("The handler did not run.")
                lock.release()

        threading.Thread(target=send).start()
        lock.acquire()
        print("woken")
        """,
        site=True,
    )
    assert lines == ["woken"]


def test_ctrl_c_and_what_the_master_makes_of_it_meet_in_one_handler() -> None:
    """gunicorn's gthread worker holds a lock in it, which a second signal would wait for: that one comes behind it.

    A worker that stands for gunicorn's: on the real one the moment cannot be forced.
    """
    lines = run(
        """
        import signal, sys, threading

        calls, lock = [], threading.Lock()

        class ThreadWorker:
            def handle_quit(self, signum, frame):
                if not lock.acquire(timeout=10):
                    print("It waits for itself.")
                calls.append(signal.Signals(signum).name)
                if signum == signal.SIGINT:
                    for _ in range(2):
                        signal.raise_signal(signal.SIGQUIT)
                lock.release()
                sys.exit(7)

        ThreadWorker.__module__ = "gunicorn.workers.gthread"
        worker = ThreadWorker()
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(signum, worker.handle_quit)
        assert queue_background_work_item(lambda token: None).wait(30)
        for signum in (signal.SIGINT, signal.SIGQUIT):
            assert signal.getsignal(signum).is_qbwi_layer
        try:
            signal.raise_signal(signal.SIGINT)
        except SystemExit as end:
            print(*calls, end.code)
        """,
        site=True,
    )
    assert lines == ["SIGINT SIGQUIT 7"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_forked_child_that_queues_is_drained() -> None:
    """SIGTERM finds a handler of the child's own there, and not only that of the parent, which would kill it."""
    lines = run(
        """
        import os, signal, sys, threading, warnings
        from django_qbwi import hosting

        def item(token):
            begun.set()
            token.wait(30)
            os.write(1, b"drained\\n")

        queue_background_work_item(lambda token: None).wait(30)
        # Python 3.12.1 is warned of at the first item: a fork while that is written leaves stderr locked in the child.
        assert hosting.this_process().current.reporter.flush(30)
        warnings.simplefilter("ignore")
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            begun = threading.Event()
            queue_background_work_item(item)
            begun.wait(30)
            os.write(write, b".")
            while True:
                threading.Event().wait(30)
        os.read(read, 1)
        os.kill(pid, signal.SIGTERM)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        """,
        site=True,
    )
    assert lines == ["drained", "143"]


def test_sigterm_does_not_cut_off_the_last_records() -> None:
    """One that comes when everything has been given up leaves the process its last words: it ends by itself."""
    lines = run(
        """
        import logging, os, signal, sys, threading

        class Terminating(logging.Handler):
            def emit(self, record):
                if "status=abandoned" in record.getMessage():
                    os.kill(os.getpid(), signal.SIGTERM)

        logging.basicConfig(stream=sys.stdout, level="INFO", format="%(message)s")
        logging.getLogger().addHandler(Terminating())
        queue_background_work_item(lambda token: threading.Event().wait(), name="endless")
        """,
        site=True,
        **LOGGED,
    )
    text = "\n".join(lines)
    assert "name=endless status=abandoned" in text
    assert "Drained" in text


@pytest.mark.parametrize("exception", ["SystemExit", "KeyboardInterrupt"])
def test_signal_before_the_wait_does_not_end_it(exception: str) -> None:
    """An exception out of a signal handler, in any line of the exit's hook, is no reason to let go of the items."""
    lines = run(
        f"""
        import os
        from django_qbwi import hosting

        here = hosting.this_process()
        sign = here.end.sign

        def interrupted(*args):
            here.end.sign = sign
            raise {exception}

        here.end.sign = interrupted
        queue_background_work_item(lambda token: os.write(1, f"{{token.wait(0.2)}}\\n".encode()))
        """,
        site=True,
    )
    assert lines == ["False"]


@pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="there is no list of open files")
def test_queueing_without_handlers_opens_no_files() -> None:
    """With HANDLE_SIGNALS = False the server is looked for once, and the files of its worker are not opened again."""
    lines = run(
        """
        import os, signal, sys, tempfile, types

        module = types.ModuleType("gunicorn.workers.base")
        sys.modules[module.__name__] = module
        exec('''class Worker:
            alive = True
            cfg = __import__("types").SimpleNamespace(graceful_timeout=30, timeout=30, set=lambda *args: None,
                                                      worker_exit=lambda *args: None)
            def handle(self, signum, frame): pass
        ''', module.__dict__)
        worker = module.Worker()
        worker.tmp = tempfile.TemporaryFile()
        signal.signal(signal.SIGTERM, worker.handle)
        counts = []
        for number in range(50):
            assert queue_background_work_item(lambda token: None).wait(30)
            counts.append(len(os.listdir("/dev/fd")))
        print(counts[-1] - counts[0])
        worker.tmp.close()
        """,
        site=True,
        QBWI={"HANDLE_SIGNALS": False},
        LOGGING_CONFIG=None,
        stderr=r"(gunicorn kills [^\n]+\n)?",
    )
    assert lines == ["0"]


@pytest.mark.parametrize(
    ("last", "signum", "code"),
    [
        (None, None, 0),
        (RuntimeError(), None, 1),
        (KeyboardInterrupt(), None, 128 + signal.SIGINT),
        (KeyboardInterrupt(), signal.SIGTERM, 128 + signal.SIGTERM),
    ],
)
def test_exit_code(monkeypatch: pytest.MonkeyPatch, last: BaseException | None, signum: int | None, code: int) -> None:
    """The last resort leaves with what a shell would tell of the process."""
    monkeypatch.setattr(sys, "last_exc", last, raising=False)
    monkeypatch.setattr(sys, "last_type", None if last is None else type(last), raising=False)
    assert interpreter.exit_code(signum) == code


def test_interactive_shell_did_not_end_by_what_it_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that was interrupted in a shell, long before its normal end, cancels nothing there."""
    monkeypatch.setattr(sys, "last_exc", KeyboardInterrupt(), raising=False)
    monkeypatch.setattr(sys, "last_type", KeyboardInterrupt, raising=False)
    assert interpreter.ended_by_interrupt()
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    assert not interpreter.ended_by_interrupt()
    assert interpreter.exit_code(None) == 0
