"""The tutorial does what it says: the site is built from the page's own blocks, in the page's order, and used."""

from __future__ import annotations

import doctest
import http.client
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs import pages

PAGE = "tutorial.rst"
PATIENCE = 60.0  # seconds until a wait counts as failed

pytestmark = pytest.mark.processes


class Tutorial:
    """The reader: writes what the page shows, types its commands, presses its button."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.blocks = pages.blocks(PAGE)
        self.second_version = max(
            index for index, block in enumerate(self.blocks) if block.caption == "letters/items.py (replaced)"
        )

    def start_the_project(self) -> None:
        """Type the commands of the page's first part; pip has been run already."""
        self.python("-m", "django", "startproject", "mysite", ".")
        self.manage("startapp", "letters")
        self.write(self.blocks[: self.second_version])
        self.manage("makemigrations", "letters")
        self.manage("migrate")

    def write(self, blocks: list[pages.Block]) -> None:
        """Write the files of some blocks."""
        pages.write_files(blocks, self.directory)

    def manage(self, *arguments: str) -> str:
        """Run `manage.py` and return all that it printed."""
        return self.python("manage.py", *arguments)

    def python(self, *arguments: str, stdin: str = "") -> str:
        """Run Python in the project's folder."""
        result = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.directory,
            env=pages.environ(PYTHONDEVMODE="", PYTHONWARNINGS=""),
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )
        assert result.returncode == 0, result.stdout
        return result.stdout


class Runserver:
    """`manage.py runserver` in a process group of its own, as in a terminal."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.output = ""
        self.cookie = ""
        self.process = subprocess.Popen(
            [sys.executable, "-u", "manage.py", "runserver", str(self.port)],
            cwd=directory,
            env=pages.environ(PYTHONDEVMODE="", PYTHONWARNINGS=""),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def read_until(self, text: str) -> None:
        """Read the output until it contains `text`."""
        assert self.process.stdout is not None
        limit = time.monotonic() + PATIENCE
        while text not in self.output:
            assert time.monotonic() < limit, f"{text!r} was never printed:\n{self.output}"
            if select.select([self.process.stdout], [], [], 1.0)[0]:
                chunk = os.read(self.process.stdout.fileno(), 65536)
                assert chunk, f"{text!r} was not printed before the end:\n{self.output}"
                self.output += chunk.decode()

    def request(self, method: str, path: str, body: str = "", headers: dict[str, str] | None = None) -> str:
        """Send a request; return the answer's body, and keep the CSRF cookie."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.request(method, path, body, {**(headers or {}), "Cookie": self.cookie})
        response = connection.getresponse()
        text = response.read().decode()
        self.cookie = (response.getheader("Set-Cookie") or self.cookie).partition(";")[0]
        connection.close()
        assert response.status in {200, 302}, text
        return text

    def press_the_button(self) -> None:
        """Load the page and send its form."""
        page = self.request("GET", "/")
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
        addresses = re.search(r"<textarea[^>]*>([^<]+)<", page)
        assert token is not None
        assert addresses is not None
        fields = {"csrfmiddlewaretoken": token[1], "addresses": addresses[1]}
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        self.request("POST", "/order/", urllib.parse.urlencode(fields), form)

    def press_ctrl_c(self) -> None:
        """Send SIGINT to the whole group, as a terminal does, and read until the end."""
        os.killpg(self.process.pid, signal.SIGINT)
        assert self.process.stdout is not None
        self.output += self.process.stdout.read().decode()
        self.process.wait(PATIENCE)

    def end(self) -> None:
        """Leave nothing behind."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def own_lines(text: str) -> list[str]:
    """Return the lines that the page shows, out of all output, without what differs from run to run."""
    kept = re.findall(r"^(?:\^C)?((?:Sent|Work item|Drain).*)$", text, re.MULTILINE)
    without_ids = [re.sub(r"id=\w+", "id=ID", line) for line in kept]
    return [re.sub(r"\d+\.\d+s", "N s", line) for line in without_ids]


def shown(number: int) -> list[str]:
    """Return the lines of the page's output block of that number."""
    outputs = [block for block in pages.blocks(PAGE) if block.language == "text"]
    return own_lines(outputs[number].text)


@pytest.fixture
def tutorial(tmp_path: Path) -> Tutorial:
    """The site as it is after the page's part "The view"."""
    made = Tutorial(tmp_path)
    made.start_the_project()
    return made


@pytest.fixture
def server(tutorial: Tutorial) -> Iterator[Runserver]:
    """Its development server, which answers already."""
    running = Runserver(tutorial.directory)
    try:
        running.read_until("Quit the server")
        yield running
    finally:
        running.end()


def test_the_letters_are_sent(server: Runserver) -> None:
    """The button queues, the page lists the item, and the terminal shows the lines of the page."""
    server.press_the_button()
    assert "letters.items.send_letters: running" in server.request("GET", "/")
    server.read_until("elapsed=")
    assert own_lines(server.output) == shown(0)
    page = server.request("GET", "/")
    assert "letters.items.send_letters: succeeded" in page
    assert "not sent" not in page


def test_ctrl_c_cancels_and_waits(server: Runserver) -> None:
    """The server waits for the letter that was begun, and says what the page says."""
    server.press_the_button()
    server.read_until("Sent: ann@example.com")
    server.press_ctrl_c()
    assert own_lines(server.output) == shown(1)


def test_the_second_version_uses_the_time(tutorial: Tutorial) -> None:
    """With `should_stop` all letters are sent before the server ends."""
    tutorial.write(tutorial.blocks[tutorial.second_version :])
    server = Runserver(tutorial.directory)
    try:
        server.read_until("Quit the server")
        server.press_the_button()
        server.read_until("Sent: ann@example.com")
        server.press_ctrl_c()
    finally:
        server.end()
    assert "Sent: eve@example.com" in server.output
    assert "status=succeeded" in server.output


def test_the_shell_and_the_tests(tutorial: Tutorial) -> None:
    """The session in the shell answers as shown, and the page's tests pass."""
    tutorial.write(tutorial.blocks[tutorial.second_version :])
    (session,) = (block for block in tutorial.blocks if block.language == "pycon")
    examples = doctest.DocTestParser().get_examples(session.text)
    wanted = [example.want.strip() for example in examples if example.want]
    typed = "".join(
        f"print(repr({example.source.strip()}))\n" if example.want else example.source for example in examples
    )
    answered = tutorial.python("manage.py", "shell", stdin=typed)
    assert [line for line in answered.splitlines() if line in wanted] == wanted
    assert re.search(r"Ran 3 tests.*OK", tutorial.manage("test"), re.DOTALL)
