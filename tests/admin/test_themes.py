"""The page in a real browser under the admin's themes: what it shows is whole in each of them."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.admin.browser import MARKS, REQUIRED, By, Chrome, launch, resize
from tests.admin.themed_site import THEMES

CHECKOUT = Path(__file__).parents[2]
LIST = "/admin/django_qbwi/workitem/"
WIDTHS = [1280, 800, 400]

CONTROLS = """
const range = document.createRange();
return Array.from(document.querySelectorAll(".qbwi :is(button, select, input[type=search])"))
    .filter((control) => control.checkVisibility())
    .map((control) => {
        control.scrollIntoView({block: "center", behavior: "instant"});
        range.selectNodeContents(control);
        const box = control.getBoundingClientRect(), text = range.getBoundingClientRect();
        const sides = [text.left - box.left, box.right - text.right, text.top - box.top, box.bottom - text.bottom];
        const hit = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
        return {
            name: control.textContent.trim() || control.name,
            is_button: control.matches("button"),
            height: box.height,
            cut: Math.max(control.scrollWidth - control.clientWidth, control.scrollHeight - control.clientHeight),
            margin: Math.min(...sides),
            covered: hit !== control,
        };
    });
"""
TEXT_SIZES = """
return Array.from(document.querySelectorAll(".qbwi *"))
    .filter((element) => Array.from(element.childNodes).some((node) => node.nodeType === 3 && node.data.trim()))
    .filter((element) => element.checkVisibility())
    .map((element) => parseFloat(getComputedStyle(element).fontSize));
"""
BREADCRUMBS = """
return Array.from(document.querySelectorAll("ol.breadcrumbs li"), (place) => {
    const box = place.getBoundingClientRect();
    return [box.top, box.bottom, getComputedStyle(place).listStyleType, getComputedStyle(place).display];
});
"""

pytestmark = MARKS


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Start one browser for all themes."""
    driver = launch(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


@pytest.fixture(scope="module", params=THEMES)
def addresses(
    request: pytest.FixtureRequest, browser: Chrome, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Serve a busy site with a theme, log the browser in, and return the addresses of its pages."""
    theme: str = request.param
    for app in THEMES[theme]:
        if not REQUIRED and importlib.util.find_spec(app) is None:
            pytest.skip(f"{app} is not installed")
    database = tmp_path_factory.mktemp(theme) / "site.sqlite3"
    command = [sys.executable, "-W", "ignore", "-m", "tests.admin.themed_site", theme, str(database)]
    with subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port, session, item = server.stdout.readline().split()
        site = f"http://127.0.0.1:{port}"
        browser.get(f"{site}/admin/login/")
        browser.add_cookie({"name": "sessionid", "value": session})
        yield {"list": f"{site}{LIST}", "item": f"{site}{LIST}{item}/change/"}
        server.communicate()
    assert server.returncode == 0


def check(browser: Chrome, width: int) -> list[str]:
    """Check everything that a theme may have changed; return the texts of the buttons."""
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert min(browser.execute_script(TEXT_SIZES)) >= 11
    controls: list[dict[str, Any]] = browser.execute_script(CONTROLS)
    for control in controls:
        assert control["cut"] <= 0, control
        assert control["height"] >= 30, control
        assert not control["covered"], control
        assert not control["is_button"] or control["margin"] > 2, control
    assert len({control["height"] for control in controls}) == 1
    return [control["name"] for control in controls if control["is_button"]]


@pytest.mark.parametrize("width", WIDTHS)
def test_g52_list(browser: Chrome, addresses: dict[str, str], width: int) -> None:
    """The form, its button, and the button that cancels are whole."""
    resize(browser, width=width)
    browser.get(addresses["list"])
    assert check(browser, width) == ["Apply", "Cancel selected items…"]


@pytest.mark.parametrize("width", WIDTHS)
def test_g52_item_and_confirmation(browser: Chrome, addresses: dict[str, str], width: int) -> None:
    """So is the button of an item, and the one that it leads to."""
    resize(browser, width=width)
    browser.get(addresses["item"])
    assert check(browser, width) == ["Cancel this item…"]
    browser.find_element(By.CSS_SELECTOR, ".qbwi button.qbwi-danger").click()
    assert check(browser, width) == ["Yes, cancel"]


def test_g52_breadcrumbs(browser: Chrome, addresses: dict[str, str]) -> None:
    """The way back is one line without numbers, also where a theme has its own breadcrumbs."""
    resize(browser, width=1280)
    browser.get(addresses["list"])
    places = browser.execute_script(BREADCRUMBS)
    assert len({top for top, *_ in places}) <= 1
    assert all(style == "none" or display == "inline-block" for *_, style, display in places)


def test_g52_focus_is_seen(browser: Chrome, addresses: dict[str, str]) -> None:
    """Whoever goes by keyboard sees where they are."""
    resize(browser, width=1280)
    browser.get(addresses["list"])
    seen = browser.execute_script(
        "return Array.from(document.querySelectorAll('.qbwi :is(button, select, input[type=search])'), (control) => {"
        "control.focus({focusVisible: true});"
        "return getComputedStyle(control).outlineStyle + getComputedStyle(control).outlineWidth; })"
    )
    assert set(seen) == {"solid2px"}
