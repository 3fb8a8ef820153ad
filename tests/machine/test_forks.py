"""How a forked child is told from its parent, with a hook that runs there and without one."""

import os

import pytest

from django_qbwi.machine.forks import OwnProcess


def test_process_is_here() -> None:
    """Where it was made, it is, whether the system is asked or not."""
    own = OwnProcess()
    assert (own.is_here(), own.pid) == (True, os.getpid())
    own.asks = False
    assert own.is_here()


def test_child_is_told_by_its_pid() -> None:
    """Where no hook is certain to run, the system is asked."""
    own = OwnProcess()
    own.pid = -1
    assert not own.is_here()
    assert "is_here=False" in repr(own)


@pytest.mark.parametrize("asks", [False, True])
def test_child_is_told_by_its_hook(asks: bool) -> None:
    """And it stays so, should the pid come again."""
    own = OwnProcess()
    own.asks, own.left = asks, True
    assert not own.is_here()


def test_system_is_not_asked_where_a_hook_runs() -> None:
    """What it would say does not count."""
    own = OwnProcess()
    own.asks, own.pid = False, -1
    assert own.is_here()
