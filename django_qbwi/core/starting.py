"""The threads of a scheduler: started for the first item, those of a pool for its own first one, and ended together.

Lock: `_starting` is held while threads are started, never together with that of the registry.
"""

from __future__ import annotations

from collections.abc import Callable

from django_qbwi.core.admission import Bounds, SchedulerState
from django_qbwi.core.adoption import Adoption
from django_qbwi.core.exceptions import WorkItemRejected
from django_qbwi.core.items import WorkItem
from django_qbwi.core.lanes import Lane
from django_qbwi.core.statistics import Statistics
from django_qbwi.core.stop import StopFlag
from django_qbwi.core.turns import Turns
from django_qbwi.machine.primitives import STARTS_NO_THREADS_LATE, holding, new_rlock


class Starting(Adoption):
    """A registry that starts what runs its items.

    - An item is accepted only where somebody is there to run it.
    - A pool that nobody uses costs no thread.
    """

    def __init__(
        self,
        stop: StopFlag,
        clock: Callable[[], float],
        history_size: int,
        turns: Turns,
        bounds: Bounds,
        statistics: Statistics,
        start: Callable[[], None],
    ) -> None:
        """Make it; `start` is called once, with the first item."""
        super().__init__(stop, clock, history_size, turns, bounds, statistics)
        self._start = start
        self._started = False
        # Held while the first threads are started, which happens once, also when many threads queue at once.
        self._starting = new_rlock()

    @property
    def started(self) -> bool:
        """True once a first item was accepted, and threads run."""
        return self._started

    def start_threads(self, item: WorkItem) -> None:
        """Start what runs items and ends the process, once, and what `item` needs of its pool; blocks for the starts.

        Raises:
            WorkItemRejected: It is closed, or no thread could be started.
        """
        if self._closed:
            refused = self._refusal(item)
            assert refused is not None
            self._reject(item, refused)
        try:
            holding(self._starting, self._start_once, item.lane)
        except (RuntimeError, OSError) as error:
            # No thread, no file descriptor for the loop: what has started stays, and the next item tries again.
            refusal = WorkItemRejected(f"{item.name} was not queued: no thread could be started ({error})")
            self.observer.rejected(item, refusal)
            raise refusal from error

    def _start_once(self, wanted: Lane[WorkItem]) -> None:
        if not self._started:
            # Those of a named pool come when it is used, but where it would be too late at the end of the process.
            for lane in self.lanes.values() if STARTS_NO_THREADS_LATE else self._bounds.pool.lanes:
                _prepare(lane)
            self._start()
            self._started = True
        if not wanted.is_prepared:
            _prepare(wanted)
        if self.state is SchedulerState.CLOSED:
            # Meanwhile, by somebody who saw no threads and waited for none.
            self.retire()

    def retire(self) -> None:
        """Let the threads of the executors end."""
        for lane in self.lanes.values():
            lane.executor.retire()

    def after_fork_in_child(self) -> None:
        """Free the lock in a forked child, where the thread that may have held it does not exist; stop what runs."""
        self.process.left = True
        reinit = getattr(self.lock, "_at_fork_reinit", None)
        if reinit is not None:
            reinit()
        for lane in self.lanes.values():
            lane.executor.stop_in_child()


def _prepare(lane: Lane[WorkItem]) -> None:
    lane.executor.prepare()
    lane.is_prepared = True
