"""The other side: finds the processes of a site on this machine, and asks all of them at the same time.

An unresponsive process is a normal state: it is stopped, or busy in C code that holds the GIL. A process that has
ended is not listed: its socket went with it.

Anybody may listen under the name of a site. What he gains by that is bounded, whatever he does there:

- He is connected to, and the kernel tells who he is. Up to here nobody is left out, so that no number of names can
  hide a process of the site.
- Our own user and root are asked. Of any other user a few connections at a time, and a few of each of its processes,
  may show that they are of the site (`channel`); then that user is asked like our own. The others are strangers, and
  are listed as such.
- There are no more than `AT_ONCE` connections at a time, and 64 bytes are read of one who has proven nothing.
"""

from __future__ import annotations

import collections
import dataclasses
import errno
import os
import selectors
import time
from collections.abc import Iterable, Sequence
from typing import Any

from django_qbwi.inspection.channel import Site
from django_qbwi.inspection.places import Address, Place
from django_qbwi.inspection.question import Outcome, Question

SECONDS = 0.5
"""That a process has for its answer."""
AT_ONCE = 64
"""Connections at the same time."""

_BATCHES = 4
"""For how many times `SECONDS` strangers are waited for, and busy processes are tried again."""
_LIMIT = 20
"""How many times `SECONDS` all of it may take: where somebody has bound a million names."""
_OF_A_USER = 16
"""Connections at the same time to one user who has proven nothing."""
_OF_A_PROCESS = 2
"""Connections to one of its processes."""
_AGAIN_AFTER = 0.02
_NO_FILES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Stranger:
    """Who listens under the name of the site, and has not proven that it belongs to it."""

    pid: int | None
    """None where nobody can tell."""
    uid: int | None
    sockets: int
    """Under how many names."""

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What came back."""

    answers: list[tuple[int, Any]]
    """Pid and answer of each process that answered, by pid."""
    unresponsive: list[int]
    """The pids of those that did not answer in time."""
    refused: list[int]
    """The pids of those of the site that run as another user."""
    strangers: list[Stranger] = dataclasses.field(default_factory=list)
    """Those that took the site's name, the ones with the most sockets first."""
    elsewhere: list[int] = dataclasses.field(default_factory=list)
    """The pids that the names of other sites say."""


def ask(
    place: Place,
    sites: Sequence[Site],
    request: dict[str, Any],
    *,
    but: Address | None = None,
    pids: Iterable[int] | None = None,
    seconds: float = SECONDS,
) -> Answers:
    """Ask all processes of a site; blocks for `seconds`, or some times as long where there are too many to ask at once.

    Args:
        sites: The site under each of its secrets.
        but: The address of the asking process, which is not asked.
        pids: Ask only these processes.

    Raises:
        OSError: Nobody can tell here which processes there are.
    """
    keys = {site.name: site.key for site in sites}
    wanted = None if pids is None else frozenset(pids)
    listing = place.find(keys)
    questions = [
        Question(address, keys[address.site], request)
        for address in listing.addresses
        if address != but and (wanted is None or address.pid in wanted)
    ]
    with selectors.DefaultSelector() as selector:
        asking = _Asking(selector, questions, seconds)
        try:
            asking.run()
        finally:
            asking.leave()
    for question in questions:
        if question.outcome is Outcome.GONE:
            place.forget(question.address)
        elif question.outcome is None:
            question.outcome = asking.outcome_of_silence(question, place)
    return _sorted(questions, listing.elsewhere)


class _Asking:
    """All questions of one call: which of them are connected now, which wait for their turn."""

    def __init__(self, selector: selectors.BaseSelector, questions: list[Question], seconds: float) -> None:
        self._selector = selector
        self._seconds = seconds
        self._waiting = collections.deque(questions)
        self._again: collections.deque[tuple[float, Question]] = collections.deque()
        """When to try again, in the order of time."""
        self._open: dict[Question, None] = {}
        self._room = AT_ONCE
        self._trusted = {None, os.getuid(), 0}
        self._of_user: collections.Counter[int | None] = collections.Counter()
        self._of_process: collections.Counter[tuple[int | None, int | None]] = collections.Counter()
        self._deferred: dict[int | None, collections.deque[Question]] = collections.defaultdict(collections.deque)
        now = time.monotonic()
        self._deadline, self._limit = now + seconds * _BATCHES, now + seconds * _LIMIT

    def __repr__(self) -> str:
        return f"<_Asking open={len(self._open)} waiting={len(self._waiting)}>"

    def run(self) -> None:
        """Ask, until all have answered or the time is over."""
        while True:
            now = time.monotonic()
            for question in [question for question in self._open if question.until <= now]:
                self._close(question)
            while self._again and self._again[0][0] <= now:
                self._waiting.append(self._again.popleft()[1])
            for uid, deferred in self._deferred.items():
                for _ in range(min(len(deferred), _OF_A_USER - self._of_user[uid])):
                    self._waiting.append(deferred.popleft())
            # Not all at once: those that are connected have their answers read meanwhile.
            for _ in range(min(len(self._waiting), AT_ONCE)):
                if len(self._open) < self._room:
                    self._begin(self._waiting.popleft())
            if now >= self._limit or not (self._open or self._waiting or self._again):
                return
            self._read(now)

    def leave(self) -> None:
        """Close what is open."""
        for question in list(self._open):
            self._close(question)

    def outcome_of_silence(self, question: Question, place: Place) -> Outcome:
        """Return what becomes of one that said nothing, or was not reached in time."""
        uid = place.owner(question.address) if question.peer is None else question.peer.uid
        known = uid in self._trusted and not (uid is None and question.peer is None)
        return Outcome.UNRESPONSIVE if known else Outcome.STRANGER

    def _read(self, now: float) -> None:
        moments = [self._limit, *(question.until for question in self._open)]
        if self._again:
            moments.append(self._again[0][0])
        if self._waiting and len(self._open) < self._room:
            moments.append(now)
        for key, _ in self._selector.select(max(0.0, min(moments) - now)):
            question: Question = key.data
            knew = question.is_proven
            question.read()
            if question.is_proven and not knew:
                self._trust(question)
            self._look_at(question)

    def _begin(self, question: Question) -> None:
        question.until = question.until or time.monotonic() + self._seconds
        try:
            question.connect()
        except OSError as error:
            if error.errno in _NO_FILES and self._open:
                # It waits for one of the others to be closed, and from now on there are no more than these.
                self._room = len(self._open)
                self._waiting.appendleft(question)
                return
            question.failed(error)
        if question.connection is not None and self._is_turned_away(question):
            question.close()
            return
        if question.connection is not None:
            self._open[question] = None
            self._of_user[question.uid] += 1
            self._selector.register(question.connection.fileno(), selectors.EVENT_READ, question)
        self._look_at(question)

    def _is_turned_away(self, question: Question) -> bool:
        """Tell whether it is a stranger's turn, and what happens if not."""
        peer = question.peer
        if peer is None or peer.uid in self._trusted:
            return False
        if time.monotonic() >= self._deadline:
            return True
        process = (peer.uid, peer.pid)
        # Where the kernel does not see the process there are the limits of its user.
        if not question.is_counted and peer.pid and self._of_process[process] >= _OF_A_PROCESS:
            question.outcome = Outcome.STRANGER
            return True
        if self._of_user[peer.uid] >= _OF_A_USER:
            self._deferred[peer.uid].append(question)
            question.until = 0.0
            return True
        self._of_process[process] += not question.is_counted
        question.is_counted = True
        return False

    def _trust(self, question: Question) -> None:
        self._trusted.add(question.uid)
        self._waiting.extend(self._deferred.pop(question.uid, ()))

    def _look_at(self, question: Question) -> None:
        if question.outcome is not None or question.is_over:
            self._close(question)
            moment = time.monotonic() + _AGAIN_AFTER
            if question.outcome is None and moment < min(question.until, self._deadline):
                self._again.append((moment, question))

    def _close(self, question: Question) -> None:
        if question in self._open:
            del self._open[question]
            self._of_user[question.uid] -= 1
            if question.connection is not None:
                self._selector.unregister(question.connection.fileno())
        question.close()


def _sorted(questions: list[Question], elsewhere: list[int]) -> Answers:
    found: dict[Outcome | None, list[Question]] = collections.defaultdict(list)
    for question in questions:
        found[question.outcome].append(question)
    answered = [(question.address.pid, question.answer) for question in found[Outcome.ANSWERED]]
    # Whoever takes the name of a process that has answered hides nothing.
    silent = {question.address.pid for question in found[Outcome.UNRESPONSIVE]} - {pid for pid, _ in answered}
    strangers = collections.Counter(
        (None, None) if question.peer is None else (question.peer.pid or None, question.peer.uid)
        for question in found[Outcome.STRANGER]
    )
    return Answers(
        answers=sorted(answered, key=lambda answer: answer[0]),
        unresponsive=sorted(silent),
        refused=sorted({question.address.pid for question in found[Outcome.REFUSED]}),
        strangers=[Stranger(pid=pid, uid=uid, sockets=count) for (pid, uid), count in strangers.most_common()],
        elsewhere=elsewhere,
    )
