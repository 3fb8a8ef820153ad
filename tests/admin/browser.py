"""Debian's chromium, for the tests that look at the page.

Whoever imports this is skipped where selenium, chromium or its driver is missing, unless QBWI_BROWSER is "required":
`tox run -e browser`.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

REQUIRED = os.environ.get("QBWI_BROWSER") == "required"

if not REQUIRED:
    pytest.importorskip("selenium", reason="selenium is not installed")

from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException  # noqa: E402 - after skip
from selenium.webdriver import Chrome, ChromeOptions, ChromeService  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

__all__ = [
    "MARKS",
    "REQUIRED",
    "By",
    "Chrome",
    "NoSuchElementException",
    "Select",
    "StaleElementReferenceException",
    "WebDriverWait",
    "browser",
    "launch",
    "nothing_left_behind",
    "resize",
]

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --force-device-scale-factor=1"
)
MARKS = [
    pytest.mark.slow,
    pytest.mark.skipif(not (REQUIRED or (CHROMIUM and DRIVER)), reason="chromium and chromedriver are not installed"),
]
"""For every test with a browser."""


@pytest.fixture(autouse=True)
def nothing_left_behind() -> None:
    """Replace the fixture of the other tests: browser and live server serve a whole class, and outlive its tests."""


@pytest.fixture(scope="class")
def browser(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Start one browser, with an empty profile, for the whole class."""
    driver = launch(tmp_path_factory.mktemp("chromium"))
    request.cls.browser = driver
    yield driver
    driver.quit()


def launch(profile: Path) -> Chrome:
    """Start a browser with an empty profile in this folder."""
    if not (CHROMIUM and DRIVER):
        pytest.fail("chromium and chromedriver are not installed (Debian: chromium, chromium-driver)")
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS.split(), f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return Chrome(options=options, service=ChromeService(executable_path=str(DRIVER)))


def resize(browser: Chrome, *, width: int, dark: bool = False) -> None:
    """Give it a window of this width, and this colour scheme."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
