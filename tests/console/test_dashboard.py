"""The page's values: filtered, bounded, printable, whatever the processes answer."""

import datetime
from typing import Any

import pytest

from django_qbwi.console.dashboard import (
    Dashboard,
    Filters,
    ItemRow,
    compose,
    detail,
    narrow,
)
from django_qbwi.console.pools import PoolRow, busy_pools, capacity
from django_qbwi.console.text import long_span, printable_lines
from tests.admin import site
from tests.admin.site import NOW, ago

HOSTILE = "\u202e\x1b[31m\x00evil\u2066"


def page(*processes: dict[str, Any], filters: Filters | None = None, **fields: Any) -> Dashboard:
    """Compose the page of these processes."""
    return compose(site.overview(*processes, **fields), filters or Filters(), NOW)


def names(rows: list[ItemRow]) -> list[str]:
    """Return the names of the rows."""
    return [row.name for row in rows]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (-5, "0 ms"),
        (0.0421, "42 ms"),
        (1.25, "1.2 s"),
        (59.9, "59 s"),
        (192, "3 min 12 s"),
        (3_725, "1 h 02 min"),
        (90_000, "1 d 01 h"),
    ],
)
def test_span(seconds: float | None, text: str) -> None:
    """A span has at most two units."""
    assert long_span(seconds) == text


def test_what_it_waits_for() -> None:
    """When it is due, and until when it may start; a clock that was set back makes no negative span."""
    row = ItemRow.of(site.item(status="queued", due_at=ago(-90), expires_at=ago(-7_200)), NOW)
    assert (row.wait.due_in, row.wait.expires_in) == ("1 min 30 s", "2 h 00 min")
    assert row.wait.notes() == ["due in 1 min 30 s", "expires in 2 h 00 min"]
    assert ItemRow.of(site.item(due_at=ago(5)), NOW).wait.notes() == ["due in 0 ms"]
    assert ItemRow.of(site.item(), NOW).wait.notes() == []


def test_waited_and_ran() -> None:
    """A queued item waits until now, a started one waited until its start and ran until now or its end."""
    queued = ItemRow.of(site.item(status="queued", queued_at=ago(90), started_at=None), NOW)
    assert (queued.waited, queued.ran, queued.is_live) == ("1 min 30 s", "", True)
    running = ItemRow.of(site.item(queued_at=ago(90), started_at=ago(60)), NOW)
    assert (running.waited, running.ran, running.is_live) == ("30 s", "1 min 00 s", True)
    ended = ItemRow.of(site.item(status="succeeded", started_at=ago(8), finished_at=ago(5)), NOW)
    assert (ended.waited, ended.ran, ended.is_live) == ("2.0 s", "3.0 s", False)
    never = ItemRow.of(site.item(status="discarded", queued_at=ago(60), started_at=None, finished_at=ago(30)), NOW)
    assert (never.waited, never.ran) == ("30 s", "")


def test_clock_that_was_set_back() -> None:
    """A start in the future is no negative span."""
    assert ItemRow.of(site.item(queued_at=ago(-30), started_at=ago(-20)), NOW).ran == "0 ms"


def test_texts_are_cleaned() -> None:
    """No text that an item brings keeps a control or a direction character (S14)."""
    row = ItemRow.of(
        site.failure(
            f"{HOSTILE}: {HOSTILE}", name=HOSTILE, origin=HOSTILE, request_id=HOSTILE, thread=HOSTILE, status=HOSTILE
        ),
        NOW,
    )
    texts = (row.name, row.origin, row.request_id, row.thread, row.status, row.error_type, row.error_message)
    for text in (*texts, row.traceback.replace("\n", "")):
        assert text.isprintable()
    assert row.status == "unknown"


def test_texts_are_bounded() -> None:
    """A name of a megabyte, and a traceback of one, are cut: the last lines of a traceback say most."""
    row = ItemRow.of(site.failure(f"Error: {'x' * 1_000_000}", name="n" * 1_000_000), NOW)
    assert len(row.name) <= 200
    assert len(row.error_message) <= 2_001
    assert len(row.traceback) <= 2_001
    assert len(detail(site.failure(f"Error: {'x' * 1_000_000}"), NOW).traceback) <= 20_001
    assert printable_lines("first\r\nlast", 4) == "…last"


def test_processes_and_their_items() -> None:
    """Each process has its items, in the order it gave them; processes are sorted by host and pid."""
    shown = page(
        site.process(site.item(name="b"), site.item(name="a"), pid=7),
        site.process(pid=5, started_at=ago(120), server="uvicorn"),
    )
    idle, busy = shown.processes
    assert (idle.pid, idle.age, idle.server, idle.rows) == ("5", "2 min 00 s", "uvicorn", [])
    assert (busy.pid, names(busy.rows), busy.capacity) == ("7", ["b", "a"], "2/4 sync, 0/100 async")
    assert shown.pids == ["5", "7"]


def test_who_answered() -> None:
    """Stopped processes, and those of another user, were asked too."""
    shown = page(site.process(), unresponsive=[9], refused=[11])
    assert (shown.answered, shown.asked, shown.unresponsive, shown.refused) == (1, 3, ["9"], ["11"])


def test_draining() -> None:
    """A process that drains has a banner, with the seconds that it said are left."""
    shown = page(site.process(state="draining", remaining=12.6), site.process(state="draining"), site.process())
    assert [process.remaining for process in shown.draining] == [13, None]


def test_cards() -> None:
    """The five numbers are those of the processes, not the lengths of the lists."""
    shown = page(
        site.process(running=3, queued=70_000, finished=12, failed=4), site.process(running=1, finished=2, failed=1)
    )
    numbers = {card.key: card.value for card in shown.cards}
    assert numbers == {"processes": 2, "running": 4, "queued": 70_000, "finished": 14, "failed": 5}
    assert [card.of for card in shown.cards if card.key == "running"] == ["4/8 sync, 0/200 async"]


def test_lines_of_the_cards() -> None:
    """The lines come from the times of the items, live and ended."""
    recent = (site.failure(), site.item(status="succeeded", finished_at=ago(1)))
    shown = page(site.process(site.item(), recent=recent))
    most = {card.key: card.spark.most for card in shown.cards if card.spark}
    assert most == {"processes": 1, "running": 1, "queued": 0, "finished": 2, "failed": 1}


def test_lines_begin_where_all_is_remembered() -> None:
    """A process that forgot items shortens the lines, and one that remembers none leaves no line."""
    recent = (site.item(status="succeeded", finished_at=ago(50)),)
    shortened = page(site.process(recent=recent, finished=900))
    lines = {card.key: card.spark for card in shortened.cards}
    assert lines["running"] is not None
    assert len(lines["running"].line.split()) == 3
    assert lines["processes"] is not None
    assert len(lines["processes"].line.split()) == 31
    assert {card.key for card in page(site.process(finished=9)).cards if card.spark} == {"processes"}


def test_recent_are_merged() -> None:
    """Ended items of all processes are in one list, the last one first, bounded."""
    first = site.process(recent=tuple(site.item(name=f"a{n}", finished_at=ago(n)) for n in range(0, 60, 2)))
    second = site.process(recent=tuple(site.item(name=f"b{n}", finished_at=ago(n)) for n in range(1, 60, 2)))
    shown = page(first, second)
    assert names(shown.recent)[:3] == ["a0", "b1", "a2"]
    assert (len(shown.recent), shown.hidden_recent) == (25, 35)


def test_rows_are_bounded() -> None:
    """A process shows a hundred items, and says how many more there are."""
    (process,) = page(site.process(*[site.item()] * 500)).processes
    assert (len(process.rows), process.hidden) == (100, 400)


@pytest.mark.parametrize(
    ("query", "active"),
    [
        ({"status": "running", "kind": "async", "pid": " 7 ", "name": " x "}, ["status", "kind", "name", "pid"]),
        ({"status": "<b>", "kind": "other", "pid": "-1"}, []),
        ({"pid": "٣"}, []),
        ({}, []),
    ],
)
def test_filters_of_a_query(query: dict[str, str], active: list[str]) -> None:
    """What no item can have is no filter."""
    assert list(Filters.of(query).active) == active


def test_filters() -> None:
    """Items pass all filters that are set; processes without such an item are left out."""
    one = site.process(
        site.item(name="Resize", kind="sync"), site.item(name="send", kind="async", status="queued"), pid=1
    )
    two = site.process(recent=(site.failure(name="resize too"),), pid=2)
    assert [names(p.rows) for p in page(one, two, filters=Filters(name="RESIZE")).processes] == [["Resize"]]
    assert names(page(one, two, filters=Filters(name="resize")).recent) == ["resize too"]
    assert [names(p.rows) for p in page(one, two, filters=Filters(kind="async")).processes] == [["send"]]
    assert [names(p.rows) for p in page(one, two, filters=Filters(status="queued")).processes] == [["send"]]
    assert [p.pid for p in page(one, two, filters=Filters(pid="2")).processes] == ["2"]
    assert page(one, two, filters=Filters(pid="2")).cards[0].value == 2


def test_json_is_narrowed() -> None:
    """The JSON keeps its shape, and has only the processes and items that pass."""
    answer = site.overview(site.process(site.item(name="a"), site.item(name="b"), pid=1), site.process(pid=2))
    narrowed = narrow(answer, Filters(name="b", pid="1"))
    assert narrowed.keys() == answer.keys()
    assert [[item["name"] for item in process["items"]] for process in narrowed["processes"]] == [["b"]]
    assert narrow(answer, Filters()) == answer


def test_other_time_zones() -> None:
    """Times are compared as moments, whatever zone they are written in."""
    tokyo = NOW.astimezone(datetime.timezone(datetime.timedelta(hours=9)))
    assert ItemRow.of(site.item(started_at=(tokyo - datetime.timedelta(seconds=30)).isoformat()), NOW).ran == "30 s"


@pytest.mark.parametrize(
    ("running", "of_async", "text"),
    [(21, 17, "4/4 sync, 17/100 async"), (4, 0, "4/4 sync, 0/100 async"), (0, 0, "0/4 sync, 0/100 async")],
)
def test_g41_kinds_have_capacities_of_their_own(running: int, of_async: int, text: str) -> None:
    """Sync items may wait while there is room for a hundred async ones: the two are never added up."""
    process = site.process(running=running, running_async=of_async)
    assert capacity([process]) == text
    shown = page(process)
    assert [card.of for card in shown.cards if card.key == "running"] == [text]
    assert [section.capacity for section in shown.processes] == [text]


def test_g41_capacities_of_processes_are_added_by_kind() -> None:
    """Of two processes the sync ones, and the async ones."""
    shown = capacity([site.process(running=5, running_async=1), site.process(running=2, running_async=2)])
    assert shown == "4/8 sync, 3/200 async"
    assert capacity([site.process(limits={}, running=3, running_async=1)]) == "2 sync, 1 async"


def pool(**fields: int) -> dict[str, int]:
    """What a process says of a pool in which nothing happens."""
    limits = {"max_workers": 2, "max_async_in_flight": 20, "max_queued": 500}
    return {"running": 0, "running_async": 0, "queued": 0, **limits, **fields}


def test_capacity_is_that_of_all_pools() -> None:
    """A process with pools may run as many as all of them together; another one beside it, as its settings say."""
    pools = {"default": pool(max_workers=4, max_async_in_flight=100), "mail": pool(running=3, running_async=1)}
    busy = site.process(running=3, running_async=1, pools=pools)
    assert capacity([busy]) == "2/6 sync, 1/120 async"
    assert capacity([busy, site.process()]) == "2/10 sync, 1/220 async"


def test_pools_in_which_something_happens_are_shown() -> None:
    """Each with its own numbers; a hundred idle ones take no room."""
    pools = {"default": pool(), "mail": pool(running=2), "reports": pool(queued=7), "idle": pool()}
    [section] = page(site.process(pools=pools)).processes
    assert section.pools == [
        PoolRow(name="mail", capacity="2/2 sync, 0/20 async", queued="0/500"),
        PoolRow(name="reports", capacity="0/2 sync, 0/20 async", queued="7/500"),
    ]
    assert busy_pools(site.process()) == []


@pytest.mark.parametrize(
    ("name", "shown"), [("default", ""), ("default mail", "default mail"), (None, ""), ("a\n", "a?")]
)
def test_pool_of_an_item_is_shown_if_it_has_a_name(name: str | None, shown: str) -> None:
    """Another version may not say it."""
    assert ItemRow.of(site.item(pool=name), NOW).pool == shown
