"""Checkpoints: where an item that can go on elsewhere leaves its code, at the end of its process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django_qbwi.core.cancellation import CancellationToken, CancelReason, OperationCancelled
from django_qbwi.core.stop import StopFlag


class CheckpointReached(OperationCancelled):
    """Raised by `CancellationToken.checkpoint` where the rest of the item moves to another engine."""

    def __init__(self, token: CancellationToken, state: dict[str, Any]) -> None:
        super().__init__(token)
        self.state = state
        """The keyword arguments with which the function is called again."""


class MovableToken(CancellationToken):
    """The token of an item that can go on elsewhere."""

    __slots__ = ("_prove",)

    def __init__(self, stop: StopFlag, prove: Callable[[dict[str, Any]], object]) -> None:
        """Make it for an item that waits; `prove` raises at a state with which the item could not go on."""
        super().__init__(stop, waits=True)
        self._prove = prove

    def checkpoint(self, **state: Any) -> None:
        """See `CancellationToken.checkpoint`."""
        # Each time, and not only where it moves: what is wrong with it shows in a test, and not at a deploy.
        self._prove(state)
        if self.reason is CancelReason.SHUTDOWN:
            raise CheckpointReached(self, state)
