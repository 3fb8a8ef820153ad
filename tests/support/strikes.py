"""Exceptions that strike a thread from outside, as libraries that limit the time of any code throw them."""

import ctypes
import threading
from collections.abc import Callable
from typing import Any

from django_qbwi.machine.supervised import SupervisedThread
from tests.support.gates import PATIENCE


class Deadly(BaseException):
    """An exception that ends a thread of ours, since what would catch it is struck as well."""


def strike(thread: threading.Thread, error: type[BaseException]) -> None:
    """Have `error` raised in another thread, at its next step in Python."""
    assert thread.ident is not None
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(error)) == 1


def kill(supervised: SupervisedThread, thread: threading.Thread, wake: Callable[..., object], *args: Any) -> None:
    """End `thread` of `supervised` without a successor: its second and its third net are struck too.

    `wake(*args)` has it leave its wait, for its next step.
    """

    def struck(*args: object) -> None:
        raise Deadly

    supervised._struck = supervised._succeed = struck  # type: ignore[method-assign, assignment]
    strike(thread, Deadly)
    wake(*args)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    del supervised._struck, supervised._succeed
