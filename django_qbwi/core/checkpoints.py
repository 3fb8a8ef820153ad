"""Checkpoints: from where an item can go on elsewhere at the end of its process, or here after it has failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from django_qbwi.core.cancellation import CancellationToken, CancelReason, OperationCancelled
from django_qbwi.core.stop import StopFlag


class CheckpointReached(OperationCancelled):
    """Raised by `CancellationToken.checkpoint` where the rest of the item moves to another engine."""

    def __init__(self, token: CancellationToken, state: dict[str, Any]) -> None:
        super().__init__(token)
        self.state = state
        """The keyword arguments with which the function is called again."""


class CheckpointToken(CancellationToken):
    """The token of an item that can be called again: in its next attempt, or elsewhere if it `moves`."""

    __slots__ = ("_moves", "_of", "_prove", "state")

    def __init__(self, stop: StopFlag, prove: Callable[[dict[str, Any]], object], *, moves: bool = False) -> None:
        """Make it for an item that waits; `prove` raises at a state with which the item could not go on."""
        super().__init__(stop, waits=True)
        self._of = stop
        self._prove = prove
        self._moves = moves
        self.state: dict[str, Any] = {}
        """The arguments of the last checkpoint."""

    def checkpoint(self, **state: Any) -> None:
        """See `CancellationToken.checkpoint`."""
        # Each time, and not only where it is needed: what is wrong with it shows in a test, and not at a deploy.
        self._prove(state)
        self.state = state
        if self._moves and self.reason is CancelReason.SHUTDOWN:
            raise CheckpointReached(self, state)

    def successor(self) -> Self:
        """Return the token of the next attempt."""
        successor = type(self)(self._of, self._prove, moves=self._moves)
        successor.state = self.state
        return successor
