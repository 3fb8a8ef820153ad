"""Other users of the machine, who take the public name of the site: real processes with other uids."""

import contextlib
import os
import resource
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from django_qbwi.inspection.places import AbstractPlace
from django_qbwi.inspection.reader import AT_ONCE, Answers, Stranger, ask
from tests.inspection.conftest import PATIENCE, SITE, Inspection

NOBODY = 65_534
OVERVIEW = {"operation": "overview"}

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody can enter the directory of the sockets"),
    pytest.mark.skipif(os.getuid() != 0, reason="only root can start processes of other users"),
]


@contextlib.contextmanager
def attacker(count: int, what: str, uid: int = NOBODY, pids: str = "") -> Iterator[subprocess.Popen[str]]:
    """Have another user bind names of the site, which say the given pids, else its own."""
    program = Path(__file__).with_name("attacker.py").read_text(encoding="utf-8")
    arguments = [sys.executable, "-I", "-c", program, SITE.name, str(count), what, str(uid), pids]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "bound\n"
        try:
            yield process
        finally:
            process.stdin.close()


def heard(process: subprocess.Popen[str]) -> str:
    """Return what was sent to an attacker, which ends."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    return process.stdout.read().strip()


@contextlib.contextmanager
def few_files(count: int = 200) -> Iterator[None]:
    """Allow this process no more files than that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def question(seconds: float = PATIENCE) -> Answers:
    """Ask all that listen under the name of the site."""
    return ask(AbstractPlace(), [SITE], OVERVIEW, seconds=seconds)


@pytest.mark.parametrize("pids", ["", "1", "4000000", f"{os.getpid()},1,2,3"], ids=["own", "init", "invented", "mixed"])
def test_g33_twelve_thousand_names_hide_nobody(inspection: Inspection, pids: str) -> None:
    """The process of the site answers, nobody is invented, and the stranger is named once with all its sockets."""
    inspection.listen()
    with few_files(), attacker(12_000, "silent", pids=pids) as stranger:
        found = question(0.2)
    assert [pid for pid, _ in found.answers] == [os.getpid()]
    assert (found.unresponsive, found.refused) == ([], [])
    assert found.strangers == [Stranger(pid=stranger.pid, uid=NOBODY, sockets=12_000)]


def test_g33_junk_is_read_up_to_64_bytes(inspection: Inspection) -> None:
    """900 that send without end cost neither memory nor the answer of the site."""
    inspection.listen()
    with few_files(), attacker(900, "junk") as stranger:
        tracemalloc.start()
        found = question()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert ([pid for pid, _ in found.answers], found.unresponsive) == ([os.getpid()], [])
    assert found.strangers == [Stranger(pid=stranger.pid, uid=NOBODY, sockets=900)]
    assert most < 16 << 20


def test_g33_full_queues_hide_nobody(inspection: Inspection) -> None:
    """Sockets that take no connection belong to whoever their names say; those of others are strangers."""
    inspection.listen()
    with few_files(), attacker(3_000, "full") as stranger:
        found = question(0.2)
    assert ([pid for pid, _ in found.answers], found.unresponsive) == ([os.getpid()], [])
    assert sum(entry.sockets for entry in found.strangers) == 3_000
    assert stranger.returncode == 0


def test_g33_many_processes_of_a_stranger_hide_nobody(inspection: Inspection) -> None:
    """However many processes another user has, only a few of them are waited for at a time."""
    inspection.listen()
    with contextlib.ExitStack() as stack:
        pids = sorted(stack.enter_context(attacker(2, "silent")).pid for _ in range(24))
        found = question(0.1)
    assert ([pid for pid, _ in found.answers], found.unresponsive) == ([os.getpid()], [])
    assert sorted(stranger.pid or 0 for stranger in found.strangers) == pids


def test_g33_refusal_without_a_proof_is_a_stranger(inspection: Inspection) -> None:
    """Nobody can pretend to be a process of the site that runs as another user."""
    inspection.listen()
    with attacker(1, "refused") as stranger:
        found = question()
    assert (found.refused, found.strangers) == ([], [Stranger(pid=stranger.pid, uid=NOBODY, sockets=1)])


def test_g33_more_processes_than_at_once_are_all_asked(make_inspection: Callable[..., Inspection]) -> None:
    """Asked in batches, with few files, all of the site's own answer."""
    inspection = make_inspection()
    for _ in range(AT_ONCE + 6):
        inspection.listen()
    with few_files(2 * AT_ONCE + 90):
        assert len(question().answers) == AT_ONCE + 6


def test_g33_without_free_files_the_room_shrinks(make_inspection: Callable[..., Inspection]) -> None:
    """EMFILE is no error: fewer are asked at a time."""
    inspection = make_inspection()
    for _ in range(30):
        inspection.listen()
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    with few_files(highest + 12):
        assert len(question().answers) == 30


def test_g34_nothing_is_told_before_the_proof(inspection: Inspection) -> None:
    """An id that root asks for is heard by no other user's socket."""
    inspection.listen()
    with attacker(3, "silent") as stranger:
        ask(AbstractPlace(), [SITE], {"operation": "find", "id": "a-secret-id"}, seconds=0.2)
        assert heard(stranger) == "b''"
