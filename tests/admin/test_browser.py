"""The page in a real browser, under a strict Content-Security-Policy."""

import base64
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.staticfiles.testing import StaticLiveServerTestCase
from django.test import override_settings
from django.utils import timezone

from django_qbwi import CancellationToken, queue_background_work_item
from django_qbwi.console import operations
from tests.admin import policy, site
from tests.admin.browser import (  # noqa: F401 - two fixtures
    MARKS,
    By,
    Chrome,
    NoSuchElementException,
    Select,
    StaleElementReferenceException,
    WebDriverWait,
    browser,
    nothing_left_behind,
    resize,
)

SCREENSHOTS = Path(__file__).parents[2] / "artifacts" / "screenshots"
LIST = "/admin/django_qbwi/workitem/"
LOOKS = [(1280, False), (1280, True), (1100, False), (800, False), (400, False), (400, True)]
HOSTILE = "<script>document.title='owned'</script>\"'><img src=x onerror=\"document.title='owned'\">\u202egpj.exe"

pytestmark = MARKS


@pytest.mark.usefixtures("browser")
@override_settings(
    ROOT_URLCONF="tests.admin.urls",
    MIDDLEWARE=[policy.MIDDLEWARE, *settings.MIDDLEWARE],
    SECURE_CSP=policy.POLICY,
    QBWI={"MAX_WORKERS": 4},  # a scheduler of its own, which ends with the class
)
class BrowserTests(StaticLiveServerTestCase):
    """Each test leaves an empty console behind."""

    browser: Chrome

    def setUp(self) -> None:
        """Log a superuser in."""
        self.release = threading.Event()
        self.addCleanup(self.release.set)
        self.client.force_login(get_user_model().objects.create_superuser("ada", "", "x"))
        self.look(width=1280)
        self.browser.get(f"{self.live_server_url}/admin/login/")
        session = self.client.cookies[settings.SESSION_COOKIE_NAME].value
        self.browser.add_cookie({"name": settings.SESSION_COOKIE_NAME, "value": session})

    def tearDown(self) -> None:
        """Find nothing in the console: no violation of the policy, no error of a script, no file that was missing."""
        log = [entry["message"] for entry in self.browser.get_log("browser")]
        self.browser.get("about:blank")
        assert [line for line in log if "favicon" not in line] == []

    def queue(self, name: str) -> str:
        """Queue an item that runs until it is cancelled, or the test ends; return its id."""

        def wait(token: CancellationToken) -> None:
            with token.register(self.release.set):
                self.release.wait(30)
            token.raise_if_cancellation_requested()

        return queue_background_work_item(wait, name=name).id

    def open(self, path: str) -> None:
        """Load a page of the site."""
        self.browser.get(f"{self.live_server_url}{path}")

    def text(self, selector: str = "body") -> str:
        """Return the text of an element as a reader sees it."""
        return self.browser.find_element(By.CSS_SELECTOR, selector).text

    def press(self, label: str) -> None:
        """Press a button."""
        self.browser.find_element(By.XPATH, f"//button[contains(., '{label}')]").click()

    def until(self, condition: Callable[[], Any]) -> None:
        """Wait until it holds, at most ten seconds, while one page may take the place of another."""
        between = [NoSuchElementException, StaleElementReferenceException]
        wait = WebDriverWait(self.browser, 10, poll_frequency=0.05, ignored_exceptions=between)
        wait.until(lambda _: condition())

    def look(self, *, width: int, dark: bool = False) -> None:
        """Look at the page in a window of this width and in this colour scheme."""
        resize(self.browser, width=width, dark=dark)

    def photograph(self, name: str) -> None:
        """Keep a picture of the whole page, and one of what a window shows of it."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.browser.execute_async_script("setTimeout(arguments[0], 300)")  # colours of links change slowly
        for suffix, whole in (("", False), ("-whole", True)):
            picture = self.browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": whole})
            (SCREENSHOTS / f"{name}{suffix}.png").write_bytes(base64.b64decode(picture["data"]))

    def test_listed_and_filtered(self) -> None:
        """Items are listed under their process; the filter form leaves those that match."""
        self.queue("gallery.resize")
        self.queue("shop.send_receipt")
        self.open(LIST)
        assert "1 of 1 processes answered" in self.text("[data-qbwi-region=answered]")
        assert "gallery.resize" in self.text("[data-qbwi-region=items]")
        self.browser.find_element(By.ID, "qbwi-name").send_keys("receipt")
        self.press("Apply")
        self.until(lambda: "name=receipt" in self.browser.current_url)
        items = self.text("[data-qbwi-region=items]")
        assert "shop.send_receipt" in items
        assert "gallery.resize" not in items

    def test_cancelled(self) -> None:
        """A selected item is cancelled after a confirmation, and the admin's log leads back to it."""
        item_id = self.queue("gallery.resize")
        self.open(LIST)
        self.browser.find_element(By.CSS_SELECTOR, f"input[value='{item_id}']").click()
        self.press("Cancel selected")
        self.until(lambda: "Are you sure?" in self.text())
        assert "gallery.resize" in self.text("#content-main")
        self.photograph("confirm-light-1280")
        self.press("Yes, cancel")
        self.until(lambda: "Cancellation of 1 work item was requested." in self.text())
        self.open("/admin/")
        self.browser.find_element(By.LINK_TEXT, "gallery.resize").click()
        self.until(lambda: "cancellation requested by ada" in self.text("#content-main"))

    def test_without_scripts(self) -> None:
        """With scripts switched off one filters, follows links, reloads by the clock, and cancels."""
        self.browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        self.addCleanup(self.browser.execute_cdp_cmd, "Emulation.setScriptExecutionDisabled", {"value": False})
        item_id = self.queue("gallery.resize")
        self.open(LIST)
        Select(self.browser.find_element(By.ID, "qbwi-refresh")).select_by_value("2")
        self.press("Apply")
        self.until(lambda: "refresh=2" in self.browser.current_url)
        self.queue("second item")
        self.until(lambda: "second item" in self.text("[data-qbwi-region=items]"))
        self.open(f"{LIST}{item_id}/change/")
        self.press("Cancel this item")
        self.until(lambda: "Are you sure?" in self.text())
        self.press("Yes, cancel")
        self.until(lambda: "cancellation requested by ada" in self.text("#content-main"))

    def test_bar_moves(self) -> None:
        """What an item reports is shown by a bar, which the refresh moves."""
        reports = threading.Semaphore(0)

        def work(token: CancellationToken) -> None:
            for done in (10, 40):
                token.report(done, 50, f"page {done} of a large album")
                reports.acquire(timeout=30)
            token.raise_if_cancellation_requested()

        handle = queue_background_work_item(work, name="gallery.print_album")
        self.queue("gallery.resize")
        self.open(f"{LIST}?refresh=2")
        bar = "[data-qbwi-region=items] progress"
        self.until(lambda: self.browser.find_element(By.CSS_SELECTOR, bar).get_dom_attribute("value") == "0.2000")
        assert self.browser.find_element(By.CSS_SELECTOR, bar).accessible_name == "Progress of gallery.print_album"
        reports.release()
        self.until(lambda: self.browser.find_element(By.CSS_SELECTOR, bar).get_dom_attribute("value") == "0.8000")
        assert "80 %, 40 of 50: page 40 of a large album" in self.text("[data-qbwi-region=items]")
        for width, dark in ((1280, False), (400, True)):
            self.look(width=width, dark=dark)
            self.photograph(f"progress-{'dark' if dark else 'light'}-{width}")
        self.open(f"{LIST}{handle.id}/change/")
        assert "80 %, 40 of 50: page 40 of a large album" in self.text("[data-qbwi-region=facts]")
        self.look(width=1280)
        self.photograph("progress-item-light-1280")
        reports.release()
        assert handle.wait(30)

    def test_all_of_a_table_are_selected(self) -> None:
        """The box in the head of a table, which exists with scripts only, selects its items."""
        self.queue("one")
        self.queue("two")
        self.open(LIST)
        self.browser.find_element(By.CSS_SELECTOR, "[data-qbwi-all]").click()
        assert len(self.browser.find_elements(By.CSS_SELECTOR, "input[name=item]:checked")) == 2

    def test_live_refresh(self) -> None:
        """With a refresh chosen, new items appear without a reload, and what the reader did stays as it was."""
        first = self.queue("first item")
        self.open(LIST)
        self.browser.execute_script("document.documentElement.dataset.kept = 'yes'")
        self.browser.find_element(By.CSS_SELECTOR, f"input[value='{first}']").click()
        Select(self.browser.find_element(By.ID, "qbwi-refresh")).select_by_visible_text("2 s")
        assert self.browser.current_url.endswith("?refresh=2")
        self.browser.find_element(By.LINK_TEXT, "first item").send_keys("")
        self.queue("second item")
        self.until(lambda: "second item" in self.text("[data-qbwi-region=items]"))
        assert self.browser.find_element(By.CSS_SELECTOR, f"input[value='{first}']").is_selected()
        assert self.browser.execute_script("return document.documentElement.dataset.kept") == "yes"

    def test_refresh_is_paused_in_a_hidden_tab(self) -> None:
        """A tab that nobody sees asks for nothing; seen again, it asks at once."""
        self.open(f"{LIST}?refresh=2")
        hide = "Object.defineProperty(document, 'hidden', {configurable: true, value: %s});"
        changed = "document.dispatchEvent(new Event('visibilitychange'));"
        self.browser.execute_script(
            "window.asked = 0; const real = window.fetch;"
            "window.fetch = (...call) => { window.asked += 1; return real(...call); };" + hide % "true" + changed
        )
        self.browser.execute_async_script("setTimeout(arguments[0], 2500)")
        assert self.browser.execute_script("return window.asked") == 0
        self.browser.execute_script(hide % "false" + changed)
        self.until(lambda: self.browser.execute_script("return window.asked") == 1)

    def test_refresh_ends_at_the_login(self) -> None:
        """When the session has ended the page says so, and asks no more."""
        self.open(f"{LIST}?refresh=2")
        self.client.logout()
        self.until(lambda: "can no longer be refreshed" in self.text("[data-qbwi-notice]"))

    def test_hostile_names(self) -> None:
        """Markup and direction characters in names are text, at first and after a refresh."""
        answer = site.overview(
            site.process(
                site.item(name=HOSTILE, origin=HOSTILE, request_id=HOSTILE),
                recent=(site.failure(f"{HOSTILE}: {HOSTILE}", name=HOSTILE),),
                server=HOSTILE,
                host=HOSTILE,
                age=4.0,
            ),
            registry={"name": HOSTILE, "error": HOSTILE},
            stale=[{"host": HOSTILE, "pid": 7, "age": 42.0}],
        )
        fake = site.FakeSite()
        fake.answer = answer
        with mock.patch.multiple(operations, overview=fake.overview, find=fake.find):
            self.open(f"{LIST}?refresh=2")
            self.browser.execute_script("document.querySelector('[data-qbwi-region=items]').replaceChildren()")
            self.until(lambda: "<script>" in self.text("[data-qbwi-region=items]"))
            assert self.browser.title.startswith("Work items")
            assert "\u202e" not in self.browser.page_source
            assert self.browser.find_elements(By.CSS_SELECTOR, ".qbwi img, .qbwi script") == []

    def test_no_scrolling_sideways(self) -> None:
        """The pages fit into 400 px, light and dark, and are kept as pictures."""
        now = timezone.now()
        answer = site.busy_site(now)
        entry = answer["processes"][1]["items"][0]
        stack = 'File "/srv/site/gallery/views.py", line 42, in resize_images\n    image.thumbnail((1024, 1024))\n'
        fake = site.FakeSite()
        fake.stack = stack
        item = f"{LIST}{entry['id']}/change/"
        pages = {"list": (LIST, answer), "item": (item, answer), "hosts": (LIST, site.hosts(now))}
        for name, (path, answer) in pages.items():
            fake.answer = answer
            with mock.patch.multiple(operations, overview=fake.overview, find=fake.find):
                self.open(path)
                for width, dark in LOOKS:
                    with self.subTest(page=name, width=width, dark=dark):
                        self.look(width=width, dark=dark)
                        assert self.browser.execute_script("return document.documentElement.scrollWidth") <= width
                        self.photograph(f"{name}-{'dark' if dark else 'light'}-{width}")
