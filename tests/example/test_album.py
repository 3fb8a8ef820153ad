"""The bar of the example site, under gunicorn with two workers: whichever of them is asked, it knows."""

from __future__ import annotations

import http.cookiejar
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.example.test_example import PATIENCE, ROOT, environ

__all__ = ["environ"]

PICTURES = 3

pytestmark = pytest.mark.processes


class Site:
    """The example site, and a visitor who keeps cookies, but no connection."""

    def __init__(self, environ: dict[str, str]) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.environ = {**environ, "DJANGO_SETTINGS_MODULE": "example_project.settings"}
        self.address = f"http://127.0.0.1:{self.port}"
        cookies = http.cookiejar.CookieJar()
        self._cookies = cookies
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(cookies)
        )
        manage = [sys.executable, "-m", "example_project.manage", "migrate", "--verbosity=0"]
        subprocess.run(manage, cwd=ROOT, env=self.environ, check=True, timeout=PATIENCE)
        command = ["gunicorn", "example_project.wsgi", "--worker-class=gthread", "--workers=2", "--threads=2"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command, f"--bind=127.0.0.1:{self.port}", "--no-control-socket"],
            cwd=ROOT,
            env=self.environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def get(self, path: str = "/") -> str:
        """Load a page."""
        with self._opener.open(self.address + path, timeout=PATIENCE) as answer:
            return str(answer.read().decode())

    def post(self, path: str) -> str:
        """Press a button; return the page that the site then shows."""
        token = next(cookie.value for cookie in self._cookies if cookie.name == "csrftoken")
        data = urllib.parse.urlencode({"csrfmiddlewaretoken": token or ""}).encode()
        with self._opener.open(self.address + path, data, timeout=PATIENCE) as answer:
            return str(answer.read().decode())

    def work(self) -> dict[str, Any]:
        """Return what the worker that answers has to do, with its pid."""
        found: dict[str, Any] = json.loads(self.get("/work.json"))
        return found

    def until(self, condition: Callable[[], Any]) -> Any:
        """Wait until it holds; return what it returned."""
        limit = time.monotonic() + PATIENCE
        while time.monotonic() < limit:
            try:
                found = condition()
            except (ConnectionError, urllib.error.URLError):
                found = None
            if found:
                return found
            time.sleep(0.05)
        pytest.fail("it never was so")

    def workers(self) -> set[int]:
        """Wait until both workers have answered a request, from which on each listens; return their pids."""
        seen: set[int] = set()
        self.until(lambda: seen.add(self.work()["pid"]) or len(seen) == 2)
        return seen


@pytest.fixture
def site(environ: dict[str, str]) -> Iterator[Site]:
    """Start the site with two workers, and some pictures to print."""
    running = Site(environ)
    try:
        running.until(running.get)
        running.workers()
        for _ in range(PICTURES):
            running.post("/pictures/sample/")
        yield running
    finally:
        running.process.terminate()
        running.process.wait(PATIENCE)


def ask(site: Site, address: str) -> dict[str, Any]:
    """Ask how far the album is."""
    found: dict[str, Any] = json.loads(site.get(address))
    return found


def test_each_worker_knows_how_far_the_album_is(site: Site) -> None:
    """The requests are answered by both, the item runs in one: all answers are of the same item, to its end."""
    page = site.post("/albums/")
    (address,) = re.findall(r'data-qbwi-progress="([^"]+)"', page)
    (owner,) = site.until(lambda: owners(site))
    found: list[dict[str, Any]] = []
    asked: set[int] = set()
    while len(asked) < 2 or not found[-1]["ended"]:
        asked.add(site.work()["pid"])
        found.append(site.until(lambda: ask(site, address)))
    assert asked == site.workers()
    assert owner in asked
    assert {answer["status"] for answer in found} <= {"queued", "running", "succeeded"}
    done = [answer["progress"]["done"] for answer in found if answer["progress"]]
    assert done == sorted(done)
    assert set(done) >= {1, 2, PICTURES}
    assert found[-1]["progress"]["text"] == "binding"


def owners(site: Site) -> set[int]:
    """Return the pids of those of some answers that have the album among their work."""
    answers = [site.work() for _ in range(20)]
    return {
        answer["pid"]
        for answer in answers
        if any(item["name"].startswith("album") for item in (*answer["live"], *answer["recent"]))
    }


def test_worker_that_is_gone(site: Site) -> None:
    """Nobody knows its items any more: 404, from each of the others and from its successor."""
    page = site.post("/albums/")
    (address,) = re.findall(r'data-qbwi-progress="([^"]+)"', page)
    (owner,) = site.until(lambda: owners(site))
    os.kill(owner, signal.SIGKILL)
    site.until(lambda: owner not in site.workers())
    for _ in range(10):
        with pytest.raises(urllib.error.HTTPError) as caught:
            ask(site, address)
        caught.value.close()
        assert caught.value.code == 404


def test_bar_in_a_browser(site: Site, tmp_path: Path) -> None:
    """A visitor presses the button, and sees the bar move to its end."""
    browser = pytest.importorskip("tests.admin.browser")
    if not (browser.REQUIRED or (browser.CHROMIUM and browser.DRIVER)):
        pytest.skip("chromium and chromedriver are not installed")
    driver = browser.launch(tmp_path / "chromium")
    try:
        driver.get(site.address)
        driver.find_element(browser.By.XPATH, "//button[. = 'Print the newest pictures']").click()
        bar = driver.find_element(browser.By.TAG_NAME, "progress")
        assert bar.accessible_name == "Printing the album"
        values: list[str | None] = []
        site.until(lambda: values.append(bar.get_dom_attribute("value")) or values[-1] == "1")
        moved = [value for value, before in zip(values, [None, *values], strict=False) if value != before]
        assert len(moved) >= 3
        assert moved == sorted(moved, key=float)
        assert driver.find_element(browser.By.CSS_SELECTOR, "[data-qbwi-word]").text == "succeeded"
        assert [entry for entry in driver.get_log("browser") if "favicon" not in entry["message"]] == []
    finally:
        driver.quit()
