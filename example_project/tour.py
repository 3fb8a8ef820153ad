"""A guided tour: `python -m example_project.tour`.

Starts the example site under gunicorn, queues some work the way a browser would, and leaves the rest to you:
look at the page, press Ctrl-C, watch the server finish and save what is running before it ends.
"""

import argparse
import contextlib
import http.client
import http.cookiejar
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COUNTS = {  # address of the button: the item's name and its goal, one a second; one of each is kept running
    "counts/": ("count to 25", 25),
    "counts/to-the-end/": ("count to 10, to the end", 10),
}
PATIENCE = 60  # seconds for an answer: the first one comes when the worker has loaded the site
GRACEFUL_TIMEOUT = 95  # seconds; gunicorn must wait for longer than the items may take, which is 90


class Visitor:
    """A browser without a window: it keeps cookies and sends the CSRF token with each form."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._cookies = http.cookiejar.CookieJar()
        keep_cookies = urllib.request.HTTPCookieProcessor(self._cookies)
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), keep_cookies)

    def get(self, path: str = "") -> str:
        """Load a page."""
        with self._opener.open(self.address + path, timeout=PATIENCE) as answer:
            return answer.read().decode()

    def post(self, path: str, **fields: object) -> None:
        """Send a form and load the page that the site then shows."""
        token = next(cookie.value for cookie in self._cookies if cookie.name == "csrftoken")
        data = urllib.parse.urlencode({**fields, "csrfmiddlewaretoken": token}).encode()
        with self._opener.open(self.address + path, data, timeout=PATIENCE) as answer:
            answer.read()

    def names_at_work(self) -> list[str]:
        """Ask the site what is queued or running."""
        return [info["name"] for info in json.loads(self.get("work.json"))["live"]]


class Tour:
    """The server, the visitor, and the signals between you and them."""

    settings = "example_project.settings"

    def __init__(self, port: int) -> None:
        self.port = port
        self.visitor = Visitor(f"http://127.0.0.1:{port}/")
        self.stopping = False
        self.server: subprocess.Popen[bytes] | None = None

    def run(self, seconds: float | None) -> int:
        """Show everything, wait for the server's end, return its exit code."""
        self.migrate()
        say(f"Starting gunicorn on port {self.port} ...")
        # From here on Ctrl-C is the server's: it gets the signal itself, and must not lose us before its end.
        signal.signal(signal.SIGINT, self.on_interrupt)
        signal.signal(signal.SIGTERM, self.on_terminate)
        # One stream for all, so that the lines stay in order.
        self.server = self.start(self.gunicorn())
        try:
            self.show(seconds)
        except (OSError, http.client.HTTPException):
            if not self.stopping:  # else the server no longer answers because it ends
                raise
        finally:
            code = self.wait_for_the_end()
        say(f"gunicorn has ended with exit code {code}. Start the tour again to see what was saved.")
        return code if code >= 0 else 128 - code

    def environ(self) -> dict[str, str]:
        """Return the environment of all that is started."""
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        return {**os.environ, "PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": self.settings}

    def migrate(self) -> None:
        """Make the tables."""
        say("Preparing the database (migrate) ...")
        subprocess.run(command("example_project.manage", "migrate", "--verbosity=0"), env=self.environ(), check=True)

    def start(self, arguments: list[str]) -> "subprocess.Popen[bytes]":
        """Start a process of the site; it writes to the stream that we write to."""
        return subprocess.Popen(arguments, env=self.environ(), stderr=subprocess.STDOUT)

    def gunicorn(self) -> list[str]:
        """Return the command: one process with four threads for requests."""
        workers = ["--worker-class=gthread", "--workers=1", "--threads=4"]
        where = [f"--bind=127.0.0.1:{self.port}", "--no-control-socket"]
        patience = f"--graceful-timeout={GRACEFUL_TIMEOUT}"
        return command("gunicorn", "example_project.wsgi", *workers, *where, patience)

    def show(self, seconds: float | None) -> None:
        """Press buttons, then keep something going until the server is asked to end, or for `seconds`."""
        if not self.wait_until_it_answers():
            return
        self.press_buttons()
        until = None if seconds is None else time.monotonic() + seconds
        while self.runs() and not self.stopping:
            if until is not None and time.monotonic() >= until:
                say("The time is over: stopping gunicorn (SIGTERM).")
                self.on_terminate()
            else:
                self.keep_counting()
                self.pause(1.0)

    def wait_until_it_answers(self) -> bool:
        """Return True as soon as the site answers, False if the server ends instead."""
        while self.runs() and not self.stopping:
            try:
                self.visitor.get()
                return True
            except ConnectionError:
                self.pause(0.1)
            except urllib.error.URLError as error:
                if not isinstance(error.reason, ConnectionError):
                    raise
                self.pause(0.1)
        return False

    def press_buttons(self) -> None:
        """Queue some work."""
        # First: of the five that run in threads one has to wait for the first to end, and what begins only while the
        # server ends is left in peace, so that there would be nothing to save.
        self.keep_counting()
        say("Pressing buttons on the page: two sample pictures, a postcard, a letter, an album ...")
        self.visitor.post("pictures/sample/")
        self.visitor.post("pictures/sample/")
        self.visitor.post("postcards/", address="you@example.com", greeting="Greetings from the tour!")
        self.visitor.post("letters/", address="you@example.com", greeting="Greetings from the tour!")
        self.visitor.post("albums/")
        for name in self.visitor.names_at_work():
            say(f"    at work: {name}")
        banner(f"Open  {self.visitor.address}  and press some buttons.", "Then press Ctrl-C here, once.")

    def keep_counting(self) -> None:
        """Start each count that does not run, so that there is something to see at the end."""
        running = self.visitor.names_at_work()
        for path, (name, goal) in COUNTS.items():
            if name not in running:
                say(f"Starting a count: {name}.")
                self.visitor.post(path, goal=goal)

    def wait_for_the_end(self) -> int:
        """Wait for as long as the server needs, and return its exit code."""
        if self.stopping and self.runs():
            banner("gunicorn ends: now each item finishes or saves.", "A second Ctrl-C forces the end.")
        elif self.runs():
            self.server.terminate()  # the tour itself failed
        return self.server.wait()

    def pause(self, seconds: float) -> None:
        """Wait for the server's end or for a signal, at most `seconds`."""
        until = time.monotonic() + seconds
        while self.runs() and not self.stopping and time.monotonic() < until:
            time.sleep(0.05)

    def runs(self) -> bool:
        """Tell whether the server still lives."""
        return self.server.poll() is None

    def on_interrupt(self, *_: object) -> None:
        """Ctrl-C in a terminal reaches the server as well: only wait for it."""
        self.stopping = True

    def on_terminate(self, *_: object) -> None:
        """SIGTERM reaches this process alone: pass it on."""
        self.stopping = True
        if self.server is not None:
            self.server.terminate()


@contextlib.contextmanager
def foreground() -> Iterator[None]:
    """Have the terminal send Ctrl-C to us and the server alone, and not to a tox that has started us.

    It would take an interrupted command for a failed one, and speak of that while the server still finishes its work.
    """
    terminal = controlling_terminal()
    if terminal is None:
        yield
        return
    before = os.getpgrp()
    try:
        # A shell has done this already.
        takes_over = before != os.getpid() and os.tcgetpgrp(terminal) == before
        if takes_over:
            signal.signal(signal.SIGTSTP, signal.SIG_IGN)  # nobody above us would notice, and let us go on
            os.setpgid(0, 0)
            hand_over(terminal, os.getpgrp())
        try:
            yield
        finally:
            if takes_over:
                hand_over(terminal, before)
    finally:
        os.close(terminal)


def controlling_terminal() -> int | None:
    """Open the terminal that we were started in; None where there is none."""
    try:
        return os.open("/dev/tty", os.O_RDWR)
    except OSError:
        return None


def hand_over(terminal: int, group: int) -> None:
    """Make a process group the one that the terminal listens to."""
    # Who does not belong to it is stopped when it says so, unless it ignores that.
    previous = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.tcsetpgrp(terminal, group)
    signal.signal(signal.SIGTTOU, previous)


def command(module: str, *arguments: str) -> list[str]:
    """Return a command line that runs a module with this Python."""
    return [sys.executable, "-m", module, *arguments]


def free_port(wanted: int) -> int:
    """Return `wanted` if nobody listens there, else a port that is free."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return probe.getsockname()[1]
    raise SystemExit("No free port on 127.0.0.1.")


def say(line: str) -> None:
    """Print a line at once, also into a pipe."""
    print(f"tour: {line}", flush=True)


def banner(*lines: str) -> None:
    """Print lines that nobody overlooks."""
    width = max(map(len, lines)) + 4
    middle = "\n".join(f"  {line}" for line in lines)
    print(f"\n{'=' * width}\n{middle}\n{'=' * width}\n", flush=True)


def main() -> int:
    """Read the command line and run the tour."""
    parser = argparse.ArgumentParser(prog="python -m example_project.tour", description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="default 8000; if taken, any free one")
    parser.add_argument("--seconds", type=float, help="stop by itself after so many seconds")
    options = parser.parse_args()
    try:
        with foreground():
            return Tour(free_port(options.port)).run(options.seconds)
    except KeyboardInterrupt:  # before there was a server
        return 130
    except subprocess.CalledProcessError as error:
        say(str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
