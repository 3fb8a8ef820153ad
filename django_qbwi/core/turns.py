"""Turns: items of one key, of which only some may have a worker at a time, and of which only one has to wait.

States of an item with a limit: held, outside of its lane -> it has a place of its key -> in its lane -> RUNNING -> it
gives its place back, whatever becomes of it. One that waits for its time, or for its next attempt, has no place.
Lock: that of the registry. All of it is done in a fixed number of steps, however many items are held.

Three ways in which this could fail, and what stands against each:
- A place is lost, and its key stands still for ever: it is given back wherever an item leaves the queues or the running
  ones, in the same step; giving back twice changes nothing.
- A signal handler raises between two steps of the main thread: each step can be taken again, and is, by whoever brings
  that call to its end, or by the next item of the key that ends.
- A caller is told that an item waits, which runs already, and does not see what the caller has changed: it is looked at
  under the lock under which a worker takes it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection

from django_qbwi.core.items import WorkItem
from django_qbwi.core.keys import Key
from django_qbwi.core.lanes import Lane, drop_ended, insert_by_priority


class _Limited:
    """The items of one key: those that have a place, and those that are held, in the order of their turns."""

    __slots__ = ("held", "key", "placed")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.placed: dict[WorkItem, None] = {}
        self.held: deque[WorkItem] = deque()

    def __repr__(self) -> str:
        return f"<_Limited placed={len(self.placed)} held={len(self.held)}>"


class Turns:
    """Knows the items that have keys, as long as they wait or run.

    - Of a key with a limit no more items are in lanes or run, together, than the limit says: so each key has its turn,
      however many items another one has.
    - Called under the lock of the registry only.
    """

    __slots__ = ("_limited", "_post", "_waiting")

    def __init__(self, post: Callable[[Callable[[], object]], object]) -> None:
        """Make it; `post` has something called soon, in a thread in which nothing is held."""
        self._limited: dict[Key, _Limited] = {}
        self._waiting: dict[Key, WorkItem] = {}
        self._post = post

    def __repr__(self) -> str:
        return f"<Turns limited={len(self._limited)} unique={len(self._waiting)}>"

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known of any item."""
        return not (self._limited or self._waiting)

    def same_as(self, item: WorkItem) -> WorkItem | None:
        """Return the item that `item` would be the same as, as long as it waits; None if there is none.

        One that waits for a further attempt has begun: it may go on behind what has changed.
        """
        keyed = item.options.keyed
        found = None if keyed is None or keyed.unique is None else self._waiting.get(keyed.unique)
        if found is None or not found.waits or (found.last_run is not None and found.last_run.attempt > 1):
            return None
        return found

    def enter(self, item: WorkItem) -> None:
        """Have `item`, which is accepted already, be the one that others are the same as."""
        keyed = item.options.keyed
        if keyed is not None and keyed.unique is not None:
            self._waiting[keyed.unique] = item

    def admit(self, item: WorkItem) -> bool:
        """Return whether `item` may go to its lane now; else it is held until a place of its key is free."""
        keyed = item.options.keyed
        if keyed is None or keyed.limit is None:
            return True
        limited = self._limited.get(keyed.limit)
        if limited is None:
            limited = self._limited[keyed.limit] = _Limited(keyed.limit)
        if item in limited.placed:
            return True
        is_free = len(limited.placed) < keyed.most and not limited.held
        if is_free or (item.options.priority and self._makes_room(limited, item)):
            limited.placed[item] = None
            return True
        _hold(limited, item)
        return False

    def _makes_room(self, limited: _Limited, item: WorkItem) -> bool:
        """Hold an item in the place of `item`, which comes before it; one that is in its lane, and has not begun."""
        if limited.held and limited.held[0].options.priority >= item.options.priority:
            return False
        later = [other for other in limited.placed if other.options.priority < item.options.priority]
        for other in reversed(later):
            # In both for a moment, rather than in none: so it is seen if this is done again.
            if other.waits and (other in other.lane.held or other in other.lane.queue):
                _hold(limited, other, first=True)
                if other in other.lane.queue:
                    other.lane.queue.remove(other)
                del limited.placed[other]
                return True
        return False

    def drop(self, item: WorkItem) -> None:
        """Forget an item that waits or runs no longer, or for its time only, and let the next one have its place."""
        keyed = item.options.keyed
        if keyed is None:
            return
        if keyed.unique is not None and self._waiting.get(keyed.unique) is item:
            del self._waiting[keyed.unique]
        limited = self._limited_of(item)
        if limited is None:
            return
        if item in item.lane.held:
            if item in limited.held:
                limited.held.remove(item)
            item.lane.held.pop(item, None)
        limited.placed.pop(item, None)
        self._fill(limited)

    def drop_ended(self, ended: list[WorkItem]) -> None:
        """Forget items that have ended while they waited, as `drop`; one pass over a key for all of them.

        In a thread that no signal handler's exception reaches.
        """
        held: dict[_Limited, list[WorkItem]] = {}
        for item in ended:
            limited = self._limited_of(item)
            if limited is not None and item in item.lane.held:
                held.setdefault(limited, []).append(item)
        for limited, items in held.items():
            drop_ended(limited.held, items)
            for item in items:
                item.lane.held.pop(item, None)
        for item in ended:
            self.drop(item)

    def has_turn_without(self, stuck: Collection[object], lane: Lane[WorkItem]) -> bool:
        """Return whether one that is held for `lane` gets a place by an item that runs, and is none of `stuck`.

        One that only waits may start, if it is of another pool, which nobody asks for here.
        """
        held, pool = lane.held, lane.pool
        return any(
            any(item not in stuck and (item.runs or item.lane.pool is not pool) for item in limited.placed)
            and any(item in held for item in limited.held)
            for limited in self._limited.values()
        )

    def _limited_of(self, item: WorkItem) -> _Limited | None:
        keyed = item.options.keyed
        return None if keyed is None or keyed.limit is None else self._limited.get(keyed.limit)

    def _fill(self, limited: _Limited) -> None:
        while limited.held:
            item = limited.held[0]
            if item.waits:
                # Placed and held at once: an exception of a signal handler's came between the steps below.
                again = item in limited.placed
                if not again and len(limited.placed) >= _most(item):
                    return
                limited.placed[item] = None
                self._put(item, again)
            item.lane.held.pop(item, None)
            limited.held.popleft()
        if not limited.placed:
            self._limited.pop(limited.key, None)

    def _put(self, item: WorkItem, again: bool) -> None:
        executor = item.lane.executor
        woken = executor.wake()
        if not again or item not in item.lane.queue:
            item.lane.put(item)
        if not woken:
            # It starts a thread, for which no lock is held.
            self._post(executor.grow)


def _hold(limited: _Limited, item: WorkItem, *, first: bool = False) -> None:
    held = item.lane.held
    # The search is for one that was struck in between.
    if item not in held or item not in limited.held:
        held[item] = None
        insert_by_priority(limited.held, item, first=first)


def _most(item: WorkItem) -> int:
    return 1 if item.options.keyed is None else item.options.keyed.most
