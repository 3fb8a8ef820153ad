"""A listener and those who ask it: honest ones, impatient ones and hostile ones."""

import _socket
import contextlib
import errno
import functools
import itertools
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from django_qbwi.core.exceptions import ProcessUnreachable
from django_qbwi.inspection import channel, places, publisher
from django_qbwi.inspection.channel import Site
from django_qbwi.inspection.places import AbstractPlace, Address, DirectoryPlace, Place
from django_qbwi.inspection.publisher import MAX_CONNECTIONS, MAX_STRANGERS, Publisher
from django_qbwi.inspection.question import Peer, Question
from django_qbwi.inspection.reader import Answers, ask
from tests.inspection.conftest import PATIENCE, SITE, Inspection

OVERVIEW = {"operation": "overview"}
OLD = Site.of(secrets.token_bytes(), "tests", "inspection")


@pytest.fixture(params=["abstract", "directory"])
def place(request: pytest.FixtureRequest, short_path: Path) -> Place:
    """Return each kind of place."""
    return AbstractPlace() if request.param == "abstract" else DirectoryPlace(str(short_path))


@contextlib.contextmanager
def mute(place: Place, site: Site = SITE, pid: int = 4711) -> Iterator[Address]:
    """Listen as a stopped process does: the kernel takes the connection, and nobody answers."""
    listener, address = place.listen(site.name, pid)
    with contextlib.closing(listener):
        yield address
        place.forget(address)


def question(request: Any = OVERVIEW, **options: Any) -> Answers:
    """Ask with much patience, unless the test is about impatience."""
    options.setdefault("seconds", PATIENCE)
    return ask(AbstractPlace(), options.pop("sites", [SITE]), request, **options)


@contextlib.contextmanager
def connected(listener: Publisher) -> Iterator[_socket.socket]:
    """Connect by hand."""
    assert listener.address is not None
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    with contextlib.closing(connection):
        connection.settimeout(None)  # with a timeout a full queue of connections is an error at once
        connection.connect(listener.address.path)
        connection.settimeout(PATIENCE)
        yield connection


def until_end(connection: _socket.socket) -> bytes:
    """Return all that comes until the other side closes."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(65_536):
            received += chunk
    return received


# Honest clients.


def test_process_answers(inspection: Inspection, place: Place) -> None:
    """One request, one answer, whatever the place."""
    inspection.listen(place)
    (handle,) = inspection.queue_held()
    found = ask(place, [SITE], OVERVIEW, seconds=PATIENCE)
    assert [(pid, answer["items"][0]["id"]) for pid, answer in found.answers] == [(os.getpid(), handle.id)]
    assert (found.unresponsive, found.refused) == ([], [])


def test_item_is_cancelled_from_outside(inspection: Inspection, listener: Publisher) -> None:
    """The token says who it was, with the uid and the pid that the kernel vouches for."""
    (handle,) = inspection.queue_held()
    found = question({"operation": "cancel", "ids": [handle.id, "x"], "by": "me"})
    assert [answer for _, answer in found.answers] == [{handle.id: True}]
    assert handle.token.message == f"cancelled by me (uid {os.getuid()}, pid {os.getpid()})"


def test_connections_of_the_answering_thread_are_closed(inspection: Inspection, listener: Publisher) -> None:
    """What receivers of signals open there, while an item is cancelled, does not stay open."""
    question({"operation": "cancel", "ids": [], "by": "me"})
    assert inspection.left.wait(PATIENCE)
    assert inspection.connections_closed == 1


def test_item_is_shown_from_outside(inspection: Inspection, listener: Publisher) -> None:
    """With its stack, or not at all."""
    (handle,) = inspection.queue_held()
    ((_, found),) = question({"operation": "find", "id": handle.id}).answers
    ((_, missing),) = question({"operation": "find", "id": "x"}).answers
    assert ("self.gate.wait" in found["stack"], missing) == (True, None)


def test_stacks_are_shown_from_outside(inspection: Inspection, listener: Publisher) -> None:
    """Those of all running items."""
    inspection.queue_held()
    ((_, found),) = question({"operation": "stacks"}).answers
    assert len(found) == 1


def test_process_is_drained_from_outside(inspection: Inspection, listener: Publisher) -> None:
    """It answers at once, and drains meanwhile."""
    (handle,) = inspection.queue_held()
    ((_, found),) = question({"operation": "drain", "by": "me"}).answers
    assert handle.token.wait(PATIENCE)
    assert found["state"] == "draining"


def test_limit_is_that_of_the_reader(inspection: Inspection, listener: Publisher) -> None:
    """The reader may ask for less, never for more."""
    inspection.queue_held()
    inspection.queue(inspection.hold)
    lengths = [len(question({**OVERVIEW, "limit": limit}).answers[0][1]["items"]) for limit in (1, 10**9, -1, "many")]
    assert lengths == [1, 2, 2, 2]


def test_long_answer_is_shortened(inspection: Inspection, listener: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that would be too long has fewer items, and says so."""
    inspection.queue_held()
    for _ in range(30):
        inspection.queue(inspection.hold)
    monkeypatch.setattr(channel, "MAX_ANSWER", 5_000)
    ((_, found),) = question().answers
    assert 0 < len(found["items"]) < 31
    assert found["truncated"] is True


def test_all_processes_are_asked_at_the_same_time(
    make_inspection: Callable[..., Inspection], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers do not wait for one another, nor for the one that does not answer."""
    all_are_asked = threading.Barrier(9)

    def hold_answer(overview: Callable[[int], Any], limit: int) -> Any:
        all_are_asked.wait(PATIENCE)
        return overview(limit)

    def answer_nonsense(listener: _socket.socket) -> None:
        number, _ = listener._accept()  # type: ignore[attr-defined]
        with contextlib.closing(_socket.socket(fileno=number)) as connection:
            all_are_asked.wait(PATIENCE)
            connection.sendall(b"nonsense\n")

    for _ in range(8):
        inspection = make_inspection()
        monkeypatch.setattr(inspection.subject, "overview", functools.partial(hold_answer, inspection.subject.overview))
        inspection.listen()
    mute_one, _ = AbstractPlace().listen(SITE.name, 4711)
    thread = threading.Thread(target=answer_nonsense, args=(mute_one,))
    thread.start()
    with contextlib.closing(mute_one):
        found = question()
        thread.join(PATIENCE)
    assert (len(found.answers), found.unresponsive) == (8, [4711])


def test_asking_process_is_left_out(listener: Publisher) -> None:
    """It knows itself."""
    assert question(but=listener.address).answers == []


def test_only_given_processes_are_asked(listener: Publisher) -> None:
    """By their pids."""
    assert (len(question(pids=[os.getpid()]).answers), question(pids=[1]).answers) == (1, [])


def test_process_with_the_old_key_is_found(inspection: Inspection) -> None:
    """A client that has rotated the key finds processes that still run with the old one."""
    inspection.listen(AbstractPlace(), OLD)
    assert len(question(sites=[SITE, OLD]).answers) == 1


# Processes that do not answer.


def test_stopped_process_is_unresponsive(place: Place) -> None:
    """F37, F15: nobody answers, and the time is over."""
    with mute(place):
        assert ask(place, [SITE], OVERVIEW, seconds=0.05).unresponsive == [4711]


def test_stopped_process_with_a_full_queue_is_unresponsive(monkeypatch: pytest.MonkeyPatch) -> None:
    """F37: also when many have asked before, and the kernel takes no more connections."""
    monkeypatch.setattr(places, "_BACKLOG", 0)
    with mute(AbstractPlace(), pid=os.getpid()) as address, contextlib.ExitStack() as stack:
        for _ in range(2):
            connection = stack.enter_context(socket.socket(socket.AF_UNIX))
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                connection.connect(address.path)
        assert question(seconds=0.1).unresponsive == [os.getpid()]


def test_dead_process_is_not_listed(short_path: Path) -> None:
    """F36: what a killed process leaves in a directory is removed by the first who asks."""
    place = DirectoryPlace(str(short_path))
    listener, address = place.listen(SITE.name, 1)
    listener.close()
    found = ask(place, [SITE], OVERVIEW, seconds=PATIENCE)
    assert (found.unresponsive, Path(address.path).exists()) == ([], False)


def test_process_that_ends_while_it_is_asked_is_not_listed() -> None:
    """F36: one that took the connection and died is gone, not unresponsive."""
    place = AbstractPlace()
    listener, _ = place.listen(SITE.name, 1)

    def take_and_die() -> None:
        number, _ = listener._accept()  # type: ignore[attr-defined]
        connection = _socket.socket(fileno=number)
        listener.close()
        connection.close()

    thread = threading.Thread(target=take_and_die)
    thread.start()
    found = question()
    thread.join(PATIENCE)
    assert (found.answers, found.unresponsive, found.strangers) == ([], [], [])


def test_request_that_broke_off_is_not_repeated(
    inspection: Inspection, listener: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that fails while it answers is asked once, and counts as unresponsive at once."""
    asked = []

    def fail(*args: Any) -> Any:
        asked.append(args)
        raise ProcessUnreachable("a test")

    monkeypatch.setattr(publisher, "answer", fail)
    assert (question().unresponsive, len(asked)) == ([os.getpid()], 1)


def test_failure_to_answer_is_recorded(
    inspection: Inspection, listener: Publisher, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug of ours is an ERROR in the process, and costs it nothing else."""

    def fail(limit: int) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr(inspection.subject, "overview", fail)
    question()
    monkeypatch.undo()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert len(question().answers) == 1


@pytest.mark.parametrize("request_", [None, [], "overview", {"operation": "eval"}, {}, {"operation": ["find"]}])
def test_unknown_request_gets_no_answer(listener: Publisher, request_: Any) -> None:
    """S5: there are five operations, and nothing else."""
    assert question(request_).unresponsive == [os.getpid()]


def test_too_long_request_is_not_sent(listener: Publisher) -> None:
    """The client knows the limit as well."""
    assert question({"operation": "find", "id": "x" * channel.MAX_REQUEST}).unresponsive == [os.getpid()]


@pytest.mark.parametrize(
    "greeting",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"qbwi 1 " + b"0" * 32 + b"\n",
        b"qbwi 2 " + b"0" * 32 + b" " + b"A" * 22 + b"\n",
        b"\n",
        b"\x80\x04.\n",
    ],
)
def test_foreign_server_is_unresponsive(greeting: bytes) -> None:
    """Who greets otherwise is not sent anything."""
    place = AbstractPlace()
    listener, _ = place.listen(SITE.name, 4711)
    sent: list[bytes] = []

    def serve() -> None:
        number, _ = listener._accept()  # type: ignore[attr-defined]
        connection = _socket.socket(fileno=number)
        with contextlib.closing(connection):
            connection.sendall(greeting)
            sent.append(until_end(connection))

    thread = threading.Thread(target=serve)
    thread.start()
    with contextlib.closing(listener):
        found = question(seconds=PATIENCE)
        thread.join(PATIENCE)
    assert (found.unresponsive, sent) == ([4711], [b""])


def test_server_without_the_key_is_not_believed(inspection: Inspection) -> None:
    """S11: an answer that is not sealed with the site's key is none."""
    inspection.listen(AbstractPlace(), Site(SITE.name, b"another key"))
    assert question().answers == []


# Clients that are turned away.


def test_client_of_another_user_is_refused(listener: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """S11: it is told so, and no thread is spent on it."""
    monkeypatch.setattr(channel, "server_accepts", lambda connection: False)
    found = question()
    assert (found.answers, found.refused) == ([], [os.getpid()])


def test_client_without_the_key_gets_no_answer(listener: Publisher) -> None:
    """S11: the right user with a wrong key learns nothing."""
    assert question(sites=[Site(SITE.name, OLD.key)]).answers == []


def test_old_request_is_not_good_again(inspection: Inspection, listener: Publisher) -> None:
    """S11: who has seen a request cannot send it a second time."""
    nonce = channel.new_nonce()
    with connected(listener) as connection:
        greeting = channel.receive_line(connection, 100, PATIENCE).split()[2]
        body = channel.encode(OVERVIEW)
        line = nonce + b" " + channel.seal(SITE.key, b"request", greeting, nonce, body) + b" " + body + b"\n"
        connection.sendall(line)
        first = until_end(connection)
    with connected(listener) as connection:
        channel.receive_line(connection, 100, PATIENCE)
        connection.sendall(line)
        assert (len(first) > 100, until_end(connection)) == (True, b"")


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"GET / HTTP/1.0\r\n\r\n", id="another protocol"),
        pytest.param(b"\x80\x04\x95cos\nsystem\n\n", id="a pickle"),
        pytest.param(os.urandom(5_000) + b"\n", id="noise"),
        pytest.param(b"\n", id="an empty line"),
        pytest.param(b"0" * 32 + b" " + b"0" * 64 + b" {}\n", id="a wrong seal"),
    ],
)
def test_garbage_is_closed(inspection: Inspection, listener: Publisher, sent: bytes) -> None:
    """F44: no answer, and the next one is served as ever."""
    with connected(listener) as connection:
        channel.receive_line(connection, 100, PATIENCE)
        connection.sendall(sent)
        assert until_end(connection) == b""
    assert len(question().answers) == 1


def test_flood_is_closed(listener: Publisher) -> None:
    """F44: who sends without end is cut off at the limit, not at the memory's."""
    block, sent = b"x" * 65_536, 0
    with connected(listener) as connection:
        channel.receive_line(connection, 100, PATIENCE)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while sent < 1 << 30:
                sent += connection.send(block)
    assert sent < 1 << 22


@pytest.mark.parametrize("sent", [b"", b"half a li"])
def test_silence_is_closed(listener: Publisher, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    """F44: nothing, or half a line, is waited for no longer than a request may take."""
    monkeypatch.setattr(publisher, "_REQUEST_SECONDS", 0.01)
    with connected(listener) as connection:
        channel.receive_line(connection, 100, PATIENCE)
        connection.sendall(sent)
        assert until_end(connection) == b""


def test_reader_that_does_not_read_is_closed(
    inspection: Inspection, listener: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F44: an answer that nobody takes is given up."""
    monkeypatch.setattr(publisher, "_ANSWER_SECONDS", 0.01)
    monkeypatch.setattr(inspection.subject, "overview", lambda limit: "x" * 5_000_000)
    with connected(listener) as connection:
        greeting = channel.receive_line(connection, 100, PATIENCE).split()[2]
        nonce, body = channel.new_nonce(), channel.encode(OVERVIEW)
        seal = channel.seal(SITE.key, b"request", greeting, nonce, body)
        connection.sendall(nonce + b" " + seal + b" " + body + b"\n")
        while threading.active_count() > 2 and any(
            thread.name == "qbwi-inspection-answer" for thread in threading.enumerate()
        ):
            threading.Event().wait(0.001)
        assert len(until_end(connection)) < 5_000_000


def test_thousand_connections_are_bounded(inspection: Inspection, listener: Publisher) -> None:
    """F44: no more threads than allowed, items go on, and who asks is answered meanwhile."""
    with contextlib.ExitStack() as stack:
        for _ in range(1_000):
            stack.enter_context(connected(listener))
            threads = [thread for thread in threading.enumerate() if thread.name == "qbwi-inspection-answer"]
            assert len(threads) <= MAX_CONNECTIONS + 2 * MAX_STRANGERS + 1
        (handle,) = inspection.queue_held()
        assert len(question().answers) == 1
    inspection.gate.set()
    assert handle.wait(PATIENCE)


@pytest.mark.parametrize("count", [MAX_STRANGERS, 10, 50])
def test_g34_silent_clients_keep_nobody_out(
    inspection: Inspection, listener: Publisher, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """The places for those that have asked for nothing go to the last who came."""
    monkeypatch.setattr(publisher, "_REQUEST_SECONDS", PATIENCE)
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(connected(listener))
        assert [len(question().answers) for _ in range(10)] == [1] * 10


def test_g34_oldest_of_the_busiest_client_goes_first(listener: Publisher) -> None:
    """A client with one connection is not sent away for one with many."""
    pairs = [_socket.socketpair() for _ in range(4)]
    ours = [pair[0] for pair in pairs]
    listener._strangers = dict(zip(ours, [1, 2, 3, 2], strict=True))
    with listener._guard:
        listener._send_one_away()
    assert list(listener._strangers.values()) == [1, 3, 2]
    listener._strangers = {}
    for connection in itertools.chain(*pairs):
        connection.close()


def test_client_that_is_sent_away_is_told_to_ask_again(listener: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its place goes to a later one; the word says that nothing was done, and nothing is done afterwards."""
    monkeypatch.setattr(publisher, "MAX_STRANGERS", 1)
    monkeypatch.setattr(publisher, "_REQUEST_SECONDS", PATIENCE)
    with connected(listener) as first:
        greeting = first.recv(channel.MAX_GREETING)
        [ours] = listener._strangers
        with connected(listener):
            assert (greeting + until_end(first)).splitlines()[1:] == [channel.BUSY]
        assert not listener._admit(ours)


@pytest.mark.parametrize("order", [1, -1])
def test_client_that_is_told_so_together_with_the_greeting_asks_again(listener: Publisher, order: int) -> None:
    """Both may come at once, in either order."""
    assert listener.address is not None
    question = Question(listener.address, SITE.key, OVERVIEW)
    ours, theirs = _socket.socketpair(_socket.AF_UNIX)
    with contextlib.closing(theirs), contextlib.closing(question):
        question.connection = ours
        lines = [channel.greeting(SITE.key, channel.new_nonce()), channel.BUSY + b"\n"]
        theirs.sendall(b"".join(lines[::order]))
        question.peer, question.until = Peer.of(ours), 1.0
        while not question.is_over:
            question.read()
        assert question.outcome is None
        assert question.until == 1.0
        assert not question._asked


def test_busy_process_is_asked_again(
    inspection: Inspection, listener: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client whose request came while as many others were answered tries again within its time."""
    gate, busy, entered = threading.Event(), threading.Event(), threading.Semaphore(0)
    overview, admit = inspection.subject.overview, listener._admit

    def hold_answer(limit: int) -> Any:
        entered.release()
        assert gate.wait(PATIENCE)
        return overview(limit)

    def watched(connection: _socket.socket) -> bool:
        if not (admitted := admit(connection)):
            busy.set()
        return admitted

    monkeypatch.setattr(inspection.subject, "overview", hold_answer)
    monkeypatch.setattr(listener, "_admit", watched)
    with ThreadPoolExecutor(MAX_CONNECTIONS + 1) as pool:
        asking = [pool.submit(question) for _ in range(MAX_CONNECTIONS)]
        for _ in asking:
            assert entered.acquire(timeout=PATIENCE)
        asking.append(pool.submit(question))
        assert busy.wait(PATIENCE)
        gate.set()
        assert [len(found.result(PATIENCE).answers) for found in asking] == [1] * (MAX_CONNECTIONS + 1)


def test_g34_blocking_callback_does_not_keep_a_connection(inspection: Inspection, listener: Publisher) -> None:
    """As many cancellations as there are places, all with callbacks that block: the next one is answered."""
    gate = threading.Event()
    inspection.queue_held()
    for _ in range(MAX_CONNECTIONS + 1):
        handle = inspection.queue(inspection.hold)
        handle.token.register(lambda: gate.wait(PATIENCE))
        found = question({"operation": "cancel", "ids": [handle.id], "by": "me"})
        assert [answer for _, answer in found.answers] == [{handle.id: True}]
    assert len(question().answers) == 1
    gate.set()


# The listener's own end.


def test_closed_listener_is_not_found(inspection: Inspection, place: Place) -> None:
    """Its thread ends, its socket is closed, and nothing is left in a directory."""
    listener = inspection.listen(place)
    listener.close(PATIENCE)
    listener.close(PATIENCE)
    assert (place.find([SITE.name]).addresses, listener.address) == ([], None)
    for thread in threading.enumerate():
        if thread.name == "qbwi-inspection":
            thread.join(PATIENCE)
            assert not thread.is_alive()


def test_address_is_free_when_no_thread_starts(inspection: Inspection, monkeypatch: pytest.MonkeyPatch) -> None:
    """F24: without a thread there is no listener either, and the caller hears why."""

    def refuse(*args: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(publisher, "start_thread", refuse)
    with pytest.raises(RuntimeError, match="can't start"):
        inspection.listen()
    assert AbstractPlace().find([SITE.name]).addresses == []


def test_thread_that_listens_answers_where_none_can_be_started(
    inspection: Inspection, listener: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F24: at the exit of Python 3.12.1, or where there are no more threads, clients are answered one by one."""

    def refuse(*args: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(publisher, "start_thread", refuse)
    assert [len(question().answers) for _ in range(2)] == [1, 1]


def test_listener_survives_a_lack_of_files(inspection: Inspection, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has no more files pauses, instead of turning on the spot, and goes on."""
    paused = threading.Event()
    monkeypatch.setattr("django_qbwi.inspection.publisher.time.sleep", lambda seconds: paused.set())

    class Exhausted:
        """A listening socket that fails once."""

        def __init__(self, listener: _socket.socket) -> None:
            self._listener = listener
            self._failed = False

        def _accept(self) -> Any:
            if not self._failed:
                self._failed = True
                raise OSError(errno.EMFILE, "Too many open files")
            return self._listener._accept()  # type: ignore[attr-defined]

        def __getattr__(self, name: str) -> Any:
            return getattr(self._listener, name)

    class Place(AbstractPlace):
        """Gives such sockets."""

        def listen(self, site: str, pid: int) -> Any:
            listener, address = super().listen(site, pid)
            return Exhausted(listener), address

    inspection.listen(Place())
    assert (len(question().answers), paused.is_set()) == (1, True)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_child_has_no_channel(inspection: Inspection, listener: Publisher) -> None:
    """F38: the child lets go of the parent's sockets, and the parent still answers."""
    with connected(listener) as connection:
        channel.receive_line(connection, 100, PATIENCE)
        assert listener._listener is not None
        inherited = [opened.fileno() for opened in (listener._listener, *listener._connections)]
        child = os.fork()
        if child == 0:
            listener.close_in_child()
            os._exit(sum(_is_open(number) for number in inherited))
        assert (len(inherited), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])) == (2, 0)
    assert len(question().answers) == 1


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, MemoryError])
def test_g5_listener_that_is_struck_goes_on(
    inspection: Inspection, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """G5: whatever strikes the thread that listens, the next one who asks gets an answer; the end is as ever."""
    listener = inspection.listen()
    welcome, strikes = listener._welcome, iter([error])

    def struck(connection: _socket.socket) -> None:
        for strike in strikes:
            connection.close()
            raise strike
        welcome(connection)

    monkeypatch.setattr(listener, "_welcome", struck)
    with connected(listener) as connection:
        assert connection.recv(1) == b""
    assert len(question().answers) == 1
    listener.close(PATIENCE)
    assert "qbwi-inspection" not in [thread.name for thread in threading.enumerate()]
