"""From the first item that the engine has accepted on, nothing that can move begins here any more."""

import pytest

from django_qbwi.core.items import handle_of
from django_qbwi.core.records import WorkItemStatus
from tests.handoff.listed import Down
from tests.handoff.test_mover import MovingDrain

S = WorkItemStatus


@pytest.fixture
def drain() -> MovingDrain:
    """A process with a limit of 90 seconds, whose mover begins nine before the deadline of 88."""
    return MovingDrain()


def test_nothing_begins_while_the_others_move(drain: MovingDrain) -> None:
    """A worker that looks for an item between the first and the last of a slow engine finds none."""
    items = [drain.queue_movable() for _ in range(3)]
    waiting: list[list[bool]] = []
    drain.call.before = lambda: waiting.append([item in item.lane.queue for item in items])
    drain.coordinator.sign("a test")
    drain.advance(79.1)
    assert waiting == [[False, True, True], [False, False, False], [False, False, False]]
    assert {item.status for item in items} == {S.HANDED_OFF}
    assert [known for known, _, _ in drain.call.sent] == [item.id for item in items]


def test_others_may_begin_where_the_engine_is_down(drain: MovingDrain) -> None:
    """It has accepted none: what waits may still run here."""

    def down() -> None:
        raise Down

    items = [drain.queue_movable() for _ in range(3)]
    drain.call.before = down
    drain.coordinator.sign("a test")
    drain.advance(79.1)
    assert drain.sync.start() is items[1]


def test_cancelled_among_those_that_move(drain: MovingDrain) -> None:
    """It was taken out of its queue, and no engine has it: it does not move."""
    first, second = drain.queue_movable(), drain.queue_movable()
    drain.call.behind = lambda: handle_of(second).cancel()
    drain.coordinator.sign("a test")
    drain.advance(79.1)
    assert (first.status, second.status) == (S.HANDED_OFF, S.CANCELLED)
    assert [known for known, _, _ in drain.call.sent] == [first.id]
    assert drain.ends(second) == ["finished"]
