"""Bars in a real browser, under a strict Content-Security-Policy: the script needs nothing inline."""

import threading
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from django.conf import settings
from django.contrib.staticfiles.testing import StaticLiveServerTestCase
from django.test import override_settings

from django_qbwi import CancellationToken, WorkItemHandle, queue_background_work_item, views
from django_qbwi.console import following
from tests.admin import policy
from tests.admin.browser import (  # noqa: F401 - two fixtures
    MARKS,
    By,
    Chrome,
    StaleElementReferenceException,
    WebDriverWait,
    browser,
    nothing_left_behind,
    resize,
)
from tests.progress import urls

PATIENCE = 30
LISTEN = """
    window.heard = [];
    for (const name of ["qbwi:ended", "qbwi:lost"]) {
        document.addEventListener(name, (event) => window.heard.push([name, event.detail && event.detail.status]));
    }
"""

pytestmark = MARKS


class Work:
    """An item that reports what the test says, when it says so."""

    def __init__(self) -> None:
        self._says: list[tuple[Any, ...]] = []
        self._turn = threading.Semaphore(0)
        self._done = threading.Semaphore(0)
        self.handle: WorkItemHandle = queue_background_work_item(self._run, name="a secret name")

    def report(self, *report: Any) -> None:
        """Have it report, and wait until it has."""
        self._says.append(report)
        self._turn.release()
        assert self._done.acquire(timeout=PATIENCE)

    def end(self, error: Exception | None = None) -> None:
        """Have it end, or fail."""
        self._says.append((error,))
        self._turn.release()
        assert self.handle.wait(PATIENCE)

    def _run(self, token: CancellationToken) -> None:
        while self._turn.acquire(timeout=PATIENCE):
            report = self._says.pop(0)
            if isinstance(report[0], Exception):
                raise report[0]
            if report[0] is None:
                return
            token.report(*report)
            self._done.release()


@pytest.mark.usefixtures("browser")
@override_settings(
    ROOT_URLCONF="tests.progress.urls",
    MIDDLEWARE=[policy.MIDDLEWARE, *settings.MIDDLEWARE],
    SECURE_CSP=policy.POLICY,
    QBWI={"MAX_WORKERS": 4},  # a scheduler of its own, which ends with the class
)
class BrowserTests(StaticLiveServerTestCase):
    """Each test leaves an empty console behind."""

    browser: Chrome

    def setUp(self) -> None:
        """Start the item."""
        self.failures_are_expected = False
        resize(self.browser, width=800)
        self.browser.get_log("browser")
        self.work = Work()
        self.addCleanup(self.work.end)
        patch = mock.patch.dict(urls.SHOWN, item=self.work.handle)
        patch.start()
        self.addCleanup(patch.stop)

    def tearDown(self) -> None:
        """Find nothing in the console: no violation of the policy, no error of a script, no file that was missing."""
        log = [entry["message"] for entry in self.browser.get_log("browser")]
        self.browser.get("about:blank")
        if self.failures_are_expected:
            log = [line for line in log if "Failed to load resource" not in line]
        assert [line for line in log if "favicon" not in line] == []

    def open(self) -> None:
        """Load the page."""
        self.browser.get(f"{self.live_server_url}/page/")
        self.browser.execute_script(LISTEN)

    def until(self, condition: Callable[[], Any]) -> None:
        """Wait until it holds, at most twenty seconds."""
        wait = WebDriverWait(self.browser, 20, poll_frequency=0.05, ignored_exceptions=[StaleElementReferenceException])
        wait.until(lambda _: condition())

    def bars(self) -> list[str | None]:
        """Return how far each bar is; None for one that moves without saying."""
        found = self.browser.find_elements(By.TAG_NAME, "progress")
        return [element.get_dom_attribute("value") for element in found]

    def texts(self) -> list[str]:
        """Return what stands beside each bar."""
        boxes = self.browser.find_elements(By.CLASS_NAME, "qbwi-progress")
        parts = [[part.text for part in box.find_elements(By.CSS_SELECTOR, "span, bdi")] for box in boxes]
        return [" ".join(filter(None, found)) for found in parts]

    def heard(self) -> list[Any]:
        """Return the events of the page."""
        return list(self.browser.execute_script("return window.heard"))

    def test_bar_follows_to_the_end(self) -> None:
        """It moves as the item reports, without a reload, until it is full; then nobody asks any more."""
        self.open()
        assert self.bars() == [None, None]
        self.work.report(21, 50, "page 21")
        self.until(lambda: self.bars() == ["0.42", "0.42"])
        assert self.texts() == ["42 % page 21 running"] * 2
        self.work.report(7, None, "more than were announced")
        self.until(lambda: self.bars() == [None, None])
        assert self.texts() == ["7 more than were announced running"] * 2
        self.work.report(49, 50)
        self.work.end()
        self.until(lambda: self.bars() == ["1", "1"])
        assert self.texts() == ["100 % succeeded"] * 2
        assert self.heard() == [["qbwi:ended", "succeeded"]] * 2
        asked = "return performance.getEntriesByType('resource').filter((e) => e.initiatorType === 'fetch').length"
        before = self.browser.execute_script(asked)
        assert before > 2
        # One that still follows would ask at once.
        look = "document.dispatchEvent(new Event('visibilitychange')); setTimeout(arguments[0], 300)"
        self.browser.execute_async_script(look)
        assert self.browser.execute_script(asked) == before

    def test_failed_item(self) -> None:
        """The bar stays where it was, and the status says how it ended."""
        self.work.report(3, 4)
        self.open()
        assert self.bars() == ["0.7500", "0.7500"]
        self.work.end(ValueError("a secret"))
        self.until(lambda: self.texts() == ["75 % failed"] * 2)
        assert self.heard() == [["qbwi:ended", "failed"]] * 2
        assert "secret" not in self.browser.page_source

    def test_reader_hears_of_the_status_alone(self) -> None:
        """The bar has its name and value for assistive software; only a change of the status is announced."""
        self.work.report(1, 2, "page 1")
        self.open()
        self.browser.execute_cdp_cmd("Accessibility.enable", {})
        tree = self.browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        bars = [node for node in tree if node["role"]["value"] == "progressbar"]
        assert [node["name"]["value"] for node in bars] == ["Making the album", "Progress"]
        live = self.browser.find_elements(By.CSS_SELECTOR, "[role=status], [aria-live]")
        assert [element.text for element in live] == ["running", "running"]

    def test_without_scripts(self) -> None:
        """The state at rendering stands there; a reload shows the next."""
        self.browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        self.addCleanup(self.browser.execute_cdp_cmd, "Emulation.setScriptExecutionDisabled", {"value": False})
        for done, text in ((1, "25 % running"), (2, "50 % running")):
            self.work.report(done, 4)
            self.browser.get(f"{self.live_server_url}/page/")
            assert self.texts() == [text] * 2
        self.work.end()
        self.browser.refresh()
        assert self.texts() == ["100 % succeeded"] * 2

    def test_address_that_has_grown_old(self) -> None:
        """403 is for ever: the script gives up at once, and says so."""
        self.failures_are_expected = True
        self.work.report(1, 2)
        self.open()
        with mock.patch.object(following, "read", side_effect=views.SignatureExpired):
            self.until(lambda: self.heard() == [["qbwi:lost", None]] * 2)
        assert self.bars() == ["0.5000", "0.5000"]
        assert [text.split()[-1] for text in self.texts()] == ["unknown", "unknown"]

    def test_answer_that_is_missing_for_a_while(self) -> None:
        """The script asks again, and goes on where it can."""
        self.failures_are_expected = True
        self.open()
        asked = threading.Semaphore(0)

        def miss(*args: Any) -> Any:
            asked.release()
            raise views.WorkItemNotFound("no")

        with mock.patch.object(following, "look_up", miss):
            for _ in range(4):
                assert asked.acquire(timeout=PATIENCE)
        self.work.report(1, 2)
        self.until(lambda: self.bars() == ["0.5", "0.5"])
        assert self.heard() == []

    def test_script_that_runs_twice(self) -> None:
        """As where a fragment with a bar is put into the page: each bar is followed once, new ones too."""
        self.open()
        self.browser.execute_async_script(
            """
            const done = arguments[0];
            const box = document.querySelector(".qbwi-progress");
            const copy = box.cloneNode(true);
            delete copy.dataset.qbwiFollowed;
            copy.id = "new";
            document.body.append(copy);
            const script = document.createElement("script");
            script.src = document.querySelector("script[src]").src;
            script.onload = done;
            document.body.append(script);
            """
        )
        self.work.report(1, 2)
        self.work.end()
        self.until(lambda: self.bars() == ["1", "1", "1"])
        assert self.heard() == [["qbwi:ended", "succeeded"]] * 3
