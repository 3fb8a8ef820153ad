"""Mail of a site under gunicorn that is reloaded again and again: none is lost, and none is sent twice."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes.harness import PATIENCE, ROOT, Site, reserve_port

HUPS = int(os.environ.get("QBWI_MAIL_HUPS", "2"))
REQUESTS_FOR_EACH = 42
"""With those that send three, 50 mails."""
LIMIT = 20.0
GUNICORN = "gunicorn --bind 127.0.0.1:{port} --workers 2 --threads 4 --graceful-timeout 30 "
WSGI = GUNICORN + "tests.processes.site.wsgi"

pytestmark = pytest.mark.processes


class Sink:
    """The SMTP server, and what it has accepted."""

    def __init__(self, port: int, path: Path) -> None:
        self.port = port
        self.path = path

    def accepted(self) -> Counter[str]:
        """Return how often each subject was accepted."""
        return Counter(line.split()[0] for line in self.path.read_text().splitlines())


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    """One that listens."""
    pytest.importorskip("aiosmtpd", reason="aiosmtpd is there in `tox run -e processes`")
    path = tmp_path / "accepted"
    path.touch()
    with contextlib.closing(reserve_port()) as reservation:
        port = reservation.getsockname()[1]
        command = [sys.executable, "-m", "tests.processes.mailing.sink", str(port), str(path)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        with process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                yield Sink(port, path)
            finally:
                process.terminate()
                process.wait(PATIENCE)


def subjects(number: int) -> list[str]:
    """Return the subjects of the mails that a request sends."""
    return [f"{number}{part}" for part in "abc"] if number % 10 == 0 else [str(number)]


@pytest.mark.process_smoke
def test_mail_over_reloads(sink: Sink, tmp_path: Path) -> None:
    """Each mail whose request was answered is accepted by the server, once; it has refused a fifth of them at first."""
    answered: list[str] = []
    unanswered: list[str] = []
    environ = {"DJANGO_SETTINGS_MODULE": "tests.processes.mailing.settings", "QBWI_SINK_PORT": str(sink.port)}
    with Site(tmp_path / "site", WSGI, settings={"SHUTDOWN_TIMEOUT": LIMIT}, environ=environ) as site:
        site.serving()
        for number in range(1, HUPS * REQUESTS_FOR_EACH + 1):
            try:
                assert site._get(f"send/{number}") == str(len(subjects(number)))
                answered += subjects(number)
            except OSError:
                # A worker that ends may leave a connection unanswered: what it has done by then is not known.
                unanswered += subjects(number)
            if number % REQUESTS_FOR_EACH == 0:
                # In the middle of the mails of the last requests.
                site.process.send_signal(signal.SIGHUP)
        site.process.terminate()
        site.wait_for_end(site.process.pid)
        records = site.records()
    accepted = sink.accepted()
    lost = [subject for subject in answered if subject not in accepted]
    twice = [subject for subject, count in accepted.items() if count > 1]
    again = sum(" attempt=" in line for line in records.splitlines())
    drains = records.count("Draining after SIGTERM")
    counts = f"{len(answered)} mails answered, {len(unanswered)} not, {again} tried again"
    print(f"{HUPS} reloads, {drains} drains: {counts}")
    assert (lost, twice) == ([], []), records[-4000:]
    assert again > 0
    assert drains > 0
    assert set(accepted) <= {*answered, *unanswered}
    assert len(unanswered) <= HUPS
    assert not [line for line in records.splitlines() if line.startswith(("ERROR", "CRITICAL"))]
