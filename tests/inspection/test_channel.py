"""Addresses, seals and lines of the channel."""

import _socket
import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from django_qbwi.core.exceptions import ProcessUnreachable
from django_qbwi.inspection import channel
from django_qbwi.inspection.channel import Site
from django_qbwi.inspection.places import AbstractPlace, Address, DirectoryPlace, Place
from django_qbwi.inspection.reader import ask
from tests.inspection.conftest import FORGED_LINES, SITE, bound

NONCES = (b"0" * 32, b"1" * 32)


@pytest.fixture
def pair() -> Iterator[tuple[_socket.socket, _socket.socket]]:
    """Return two connected sockets."""
    left, right = _socket.socketpair()
    with contextlib.closing(left), contextlib.closing(right):
        yield left, right


@pytest.fixture(params=["abstract", "directory"])
def place(request: pytest.FixtureRequest, short_path: Path) -> Place:
    """Return each kind of place."""
    return AbstractPlace() if request.param == "abstract" else DirectoryPlace(str(short_path))


def seal(key: bytes, direction: bytes = b"request", body: bytes = b'{"a":1}') -> bytes:
    """Return a sealed line."""
    return channel.seal(key, direction, *NONCES, body) + b" " + body


def test_sites_differ_by_secret_and_parts() -> None:
    """Another key, or another settings module, is another site with another key."""
    sites = [Site.of(b"a", "x", "y"), Site.of(b"b", "x", "y"), Site.of(b"a", "x", "z"), Site.of(b"a", "xy", "")]
    assert len({site.name for site in sites}) == len({site.key for site in sites}) == 4


def test_key_is_not_shown() -> None:
    """The repr of a site, which may be logged, has no key in it."""
    assert repr(SITE.key) not in repr(SITE)


def test_sealed_line_opens_with_any_of_the_keys() -> None:
    """A line tells which of the keys it was sealed with."""
    assert channel.open_sealed([b"old", b"new"], b"request", NONCES, seal(b"new")) == (b"new", {"a": 1})


@pytest.mark.parametrize(
    ("direction", "nonces", "line"),
    [
        pytest.param(b"request", NONCES, seal(b"other"), id="key"),
        pytest.param(b"answer", NONCES, seal(b"key"), id="direction"),
        pytest.param(b"request", NONCES[::-1], seal(b"key"), id="nonces"),
        pytest.param(b"request", NONCES, seal(b"key") + b" ", id="content"),
        pytest.param(b"request", NONCES, b"", id="nothing"),
        pytest.param(b"request", NONCES, b"\xff\xfe \xff", id="bytes"),
    ],
)
def test_foreign_line_is_refused(direction: bytes, nonces: tuple[bytes, bytes], line: bytes) -> None:
    """S11: a line is good for one key, one direction, one pair of nonces and one content."""
    with pytest.raises(ProcessUnreachable, match="not sealed"):
        channel.open_sealed([b"key"], direction, nonces, line)


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 30_000, b"cos\nsystem\n(S'x'\ntR."])
def test_sealed_line_that_is_no_json_is_refused(body: bytes) -> None:
    """S5: nothing but JSON is read, not even from one who has the key."""
    with pytest.raises(ProcessUnreachable, match="no JSON"):
        channel.open_sealed([b"key"], b"request", NONCES, seal(b"key", body=body))


def test_line_is_received_in_pieces(pair: tuple[_socket.socket, _socket.socket]) -> None:
    """A line may come in parts; what follows it is left out."""
    left, right = pair
    left.sendall(b"half a ")
    left.sendall(b"line\nand more")
    assert channel.receive_line(right, 100, 30) == b"half a line"


def test_long_line_is_refused(pair: tuple[_socket.socket, _socket.socket]) -> None:
    """F44: reading stops at the limit."""
    left, right = pair
    left.sendall(b"x" * 200)
    with pytest.raises(ProcessUnreachable, match="longer than 100"):
        channel.receive_line(right, 100, 30)


def test_silence_ends(pair: tuple[_socket.socket, _socket.socket]) -> None:
    """F44: who sends half a line and no more is not waited for."""
    left, right = pair
    left.sendall(b"half")
    with pytest.raises(TimeoutError):
        channel.receive_line(right, 100, 0.01)


def test_closed_connection_is_an_error(pair: tuple[_socket.socket, _socket.socket]) -> None:
    """F44: half a line is not taken for a whole one."""
    left, right = pair
    left.sendall(b"half")
    left.shutdown(_socket.SHUT_WR)
    with pytest.raises(ConnectionResetError):
        channel.receive_line(right, 100, 30)


def test_peer_is_told_by_the_kernel(pair: tuple[_socket.socket, _socket.socket]) -> None:
    """Uid and pid of the other end are those of this process here."""
    assert (channel.peer_uid(pair[0]), channel.peer_pid(pair[0])) == (os.getuid(), os.getpid())


@pytest.mark.parametrize(
    ("own", "peer", "accepted"), [(1000, 1000, True), (1000, 0, True), (1000, 1001, False), (0, 1000, False)]
)
def test_who_is_answered(
    monkeypatch: pytest.MonkeyPatch,
    pair: tuple[_socket.socket, _socket.socket],
    own: int,
    peer: int,
    accepted: bool,
) -> None:
    """S11: own user and root are accepted, nobody else."""
    monkeypatch.setattr(os, "getuid", lambda: own)
    monkeypatch.setattr(channel, "_peer", lambda connection: (peer, 1))
    assert channel.server_accepts(pair[0]) is accepted


def test_greeting_proves_site_and_user() -> None:
    """S11: it is good for one key, one nonce and the user that the kernel tells, and it is short."""
    nonce, uid = channel.new_nonce(), os.geteuid()
    line = channel.greeting(b"key", nonce)
    assert len(line) <= channel.MAX_GREETING
    assert channel.proven_nonce(b"key", line[:-1], uid) == nonce
    strange = [(b"other", line[:-1], uid), (b"key", line[:-1], uid + 1), (b"key", line.replace(b"2", b"3")[:-1], uid)]
    strange += [(b"key", b"qbwi 2 " + nonce, uid), (b"key", b"qbwi 2 x y", uid), (b"key", b"", uid)]
    assert {channel.proven_nonce(*given) for given in strange} == {None}


def test_refusal_proves_site_and_user() -> None:
    """Who is of another user says so in a way that nobody else can, and that is no greeting."""
    line, uid = channel.refusal(b"key")[:-1], os.geteuid()
    assert len(line) < channel.MAX_GREETING
    assert channel.is_proven_refusal(b"key", line, uid)
    assert channel.proven_nonce(b"key", line, uid) is None
    assert not any(
        channel.is_proven_refusal(*given)
        for given in [(b"other", line, uid), (b"key", line, uid + 1), (b"key", b"refused", uid), (b"key", b"", uid)]
    )


def test_listener_is_found(place: Place) -> None:
    """Who listens for a site is found under it, with its pid, and under no other."""
    listener, address = place.listen(SITE.name, 4711)
    with contextlib.closing(listener):
        found = place.find([SITE.name, "f" * 16]).addresses
        strangers = place.find(["e" * 16]).addresses
        place.forget(address)
    assert (found, strangers) == ([Address(SITE.name, 4711, address.path)], [])


def test_several_listeners_of_one_process_differ(place: Place) -> None:
    """A nonce keeps the addresses of one pid apart."""
    listeners = [place.listen(SITE.name, 1) for _ in range(3)]
    found = place.find([SITE.name]).addresses
    for listener, address in listeners:
        listener.close()
        place.forget(address)
    assert len(set(found)) == 3


def test_abstract_listener_leaves_nothing_behind() -> None:
    """F36: with its socket the address is gone."""
    place = AbstractPlace()
    listener, _ = place.listen(SITE.name, 1)
    listener.close()
    assert place.find([SITE.name]).addresses == []


def test_connections_are_not_listed() -> None:
    """The kernel lists accepted connections under the same name; they are no processes."""
    place = AbstractPlace()
    listener, address = place.listen(SITE.name, 1)
    client = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    with contextlib.closing(listener), contextlib.closing(client):
        client.connect(address.path)
        number, _ = listener._accept()  # type: ignore[attr-defined]
        with contextlib.closing(_socket.socket(fileno=number)):
            assert len(place.find([SITE.name]).addresses) == 1


def test_listener_is_not_inherited_by_programs(place: Place) -> None:
    """A subprocess that an item starts does not keep the address alive."""
    listener, address = place.listen(SITE.name, 1)
    with contextlib.closing(listener):
        assert not os.get_inheritable(listener.fileno())
        place.forget(address)


def test_timeout_of_all_sockets_is_not_ours(place: Place) -> None:
    """A site that sets a default timeout does not make an idle process wake up."""
    _socket.setdefaulttimeout(5)
    try:
        listener, address = place.listen(SITE.name, 1)
    finally:
        _socket.setdefaulttimeout(None)
    with contextlib.closing(listener):
        assert listener.gettimeout() is None
        place.forget(address)


@pytest.mark.parametrize("name", FORGED_LINES)
def test_g32_forged_lines_are_no_addresses(name: bytes) -> None:
    """A name with line breaks in it, which any local user can bind, hides nobody and invents nobody."""
    place = AbstractPlace()
    listener, address = place.listen(SITE.name, 4711)
    with contextlib.closing(listener), bound(name):
        assert place.find([SITE.name]).addresses == [address]


def test_g32_perfect_forgery_is_nobody() -> None:
    """A forged line that is like the kernel's is an address where nobody listens, and so is not listed."""
    forged = f"\n0123456789abcdef: 00000002 00000000 00010000 0001 01 1 @qbwi-{SITE.name}-1-{'0' * 16}"
    with bound(forged.encode()):
        assert len(AbstractPlace().find([SITE.name]).addresses) == 1
        found = ask(AbstractPlace(), [SITE], {"operation": "overview"})
    assert (found.answers, found.unresponsive, found.refused, found.strangers) == ([], [], [], [])


def test_missing_listing_is_an_oserror(tmp_path: Path) -> None:
    """F43: without /proc nobody can tell, and the caller hears of it in one way."""
    with pytest.raises(OSError, match="No such file"):
        AbstractPlace(str(tmp_path / "missing")).find([SITE.name])


class TestDirectory:
    """S12: the directory of the systems without abstract sockets."""

    def test_is_private(self, short_path: Path) -> None:
        """It is made for this user alone."""
        listener, _ = DirectoryPlace(str(short_path)).listen(SITE.name, 1)
        listener.close()
        assert stat.S_IMODE((short_path / f"qbwi-{os.getuid()}").stat().st_mode) == 0o700

    def test_others_may_not_enter(self, short_path: Path) -> None:
        """One that others may enter is not used."""
        directory = short_path / f"qbwi-{os.getuid()}"
        directory.mkdir()
        directory.chmod(0o755)
        with pytest.raises(PermissionError):
            DirectoryPlace(str(short_path)).listen(SITE.name, 1)

    def test_link_is_not_followed(self, short_path: Path) -> None:
        """One that somebody has linked to another place is not used."""
        (short_path / "elsewhere").mkdir(mode=0o700)
        (short_path / f"qbwi-{os.getuid()}").symlink_to(short_path / "elsewhere")
        with pytest.raises(PermissionError):
            DirectoryPlace(str(short_path)).listen(SITE.name, 1)

    def test_directory_of_another_is_not_used(self, short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The name alone does not make it ours."""
        other = os.getuid() + 1
        (short_path / f"qbwi-{other}").mkdir(mode=0o700)
        monkeypatch.setattr(os, "getuid", lambda: other)
        with pytest.raises(PermissionError):
            DirectoryPlace(str(short_path)).listen(SITE.name, 1)

    def test_only_our_names_are_removed(self, short_path: Path) -> None:
        """What we did not make is never deleted."""
        place = DirectoryPlace(str(short_path))
        listener, address = place.listen(SITE.name, 1)
        listener.close()
        kept = Path(address.path).parent / "something else"
        kept.touch()
        outside = short_path / Path(address.path).name
        outside.touch()
        for path in (kept, outside, Path(address.path)):
            place.forget(Address(SITE.name, 1, str(path)))
        assert (kept.exists(), outside.exists(), Path(address.path).exists()) == (True, True, False)
