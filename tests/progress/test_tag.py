"""The tag that renders a bar: right without a script, and with what the script needs."""

import asyncio
import html
import json
import re
from typing import Any
from unittest import mock

import pytest
from django.contrib.staticfiles import finders
from django.core.exceptions import ImproperlyConfigured
from django.template import Context, engines
from django.test import Client, RequestFactory, override_settings
from django.utils import translation

from django_qbwi import WorkItemHandle, WorkItemStatus, queue_background_work_item, views
from django_qbwi.console import following
from django_qbwi.templatetags import qbwi
from tests.progress import urls
from tests.support.gates import PATIENCE, Gate

pytestmark = pytest.mark.urls("tests.progress.urls")

MARKUP = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


def render(item: Any, more: str = "", request: Any = None, **context: Any) -> str:
    """Render the tag."""
    template = engines["django"].from_string(f"{{% load qbwi %}}{{% work_item_progress item {more} %}}")
    return str(template.render({"item": item, **context}, request)).strip()


def ended(work_item: Any) -> WorkItemHandle:
    """Run an item to its end."""
    handle = queue_background_work_item(work_item)
    assert handle.wait(PATIENCE)
    return handle


def bar(page: str) -> str:
    """Return the bar of a page."""
    (found,) = re.findall(r"<progress.*</progress>", page)
    return str(found)


def shown(page: str) -> list[str]:
    """Return what a reader sees beside it: amount, text and status."""
    return re.findall(r"data-qbwi-(?:amount|text|word)[^>]*>([^<]*)<", page)


def test_running_item(reporting: WorkItemHandle) -> None:
    """The state at rendering, with a name for those who do not see it, and the address for the script."""
    with translation.override("de"):
        page = render(reporting, 'label="Making the album"')
    assert bar(page) == '<progress aria-label="Making the album" max="1" value="0.4200">42 %</progress>'
    assert shown(page) == ["42 %", "page 21", "running"]
    (address,) = re.findall(r'data-qbwi-progress="([^"]+)"', page)
    assert Client().get(address).json()["progress"]["percent"] == 42
    assert "secret name" not in page


@pytest.mark.parametrize("of", ["handle", "info", "signed id"])
def test_a_handle_an_info_or_a_signed_id(reporting: WorkItemHandle, of: str) -> None:
    """Whichever the view has at hand."""
    item = {"handle": reporting, "info": reporting.info, "signed id": views.signed_id(reporting)}[of]
    assert shown(render(item)) == ["42 %", "page 21", "running"]


def test_label_has_a_default(reporting: WorkItemHandle) -> None:
    """The name of the item is not told."""
    assert 'aria-label="Progress"' in render(reporting)


def test_ended_item(reporting: WorkItemHandle, gate: Gate) -> None:
    """The bar is full, whatever was reported last; nothing is asked any more."""
    gate.open()
    assert reporting.wait(PATIENCE)
    page = render(reporting)
    assert (bar(page), shown(page)[0], shown(page)[2]) == (
        '<progress aria-label="Progress" max="1" value="1.0000">100 %</progress>',
        "100 %",
        "succeeded",
    )
    assert "<script" not in page
    assert "data-qbwi-progress" not in page


def test_failed_item() -> None:
    """The bar stays where it got to; without any report it is empty, and never moves."""

    def fail(token: Any, done: float | None) -> None:
        if done is not None:
            token.report(done, 10)
        raise ValueError("a secret")

    for done, value in ((7, "0.7000"), (None, "0.0000")):
        page = render(ended(lambda token, done=done: fail(token, done)))
        assert f'value="{value}"' in page
        assert shown(page)[2] == "failed"
        assert "secret" not in page


@pytest.mark.parametrize(("done", "amount"), [(7, "7"), (2.5, "2.5")])
def test_item_without_a_total(done: float, amount: str) -> None:
    """The bar has no value, which moves; the amount stands beside it."""
    told = {"done": done, "total": None, "fraction": None, "percent": None, "text": ""}
    found = qbwi._bar({"status": "running", "ended": False, "progress": told})
    assert found == {"value": "", "amount": amount, "text": ""}


def test_item_that_waits() -> None:
    """It has no value either."""
    assert qbwi._bar({"status": "queued", "ended": False, "progress": None}) == {"value": "", "amount": "", "text": ""}


@pytest.mark.parametrize("item", [None, ""])
def test_nothing_to_show(item: Any) -> None:
    """Nothing is rendered, as for a variable that there is not."""
    assert render(item) == ""


@pytest.mark.parametrize("item", [5, object(), ["id"]])
def test_anything_else_is_refused(item: Any) -> None:
    """The message says what can be shown."""
    with pytest.raises(TypeError, match="takes the handle of a work item, its info, or what"):
        render(item)


@pytest.mark.parametrize("signed", ["forged", "0123456789abcdef01234567"])
def test_forged_id_is_unknown(signed: str) -> None:
    """It came with the visitor's address, maybe: no error, and nothing is told."""
    assert shown(render(signed)) == ["", "", "unknown"]


def test_unknown_item() -> None:
    """The page is there all the same; the script asks again."""
    page = render(views.signed_id("gone"))
    assert shown(page) == ["", "", "unknown"]
    assert "data-qbwi-progress" in page


def test_another_process_is_not_asked_on_a_running_loop() -> None:
    """The script does it; the loop of a server is never held up."""

    async def render_there() -> str:
        return render(
            views.signed_id(
                "elsewhere",
            )
        )

    with mock.patch.object(following, "look_up", side_effect=AssertionError):
        assert shown(asyncio.run(render_there())) == ["", "", "unknown"]


def test_markup_stays_text() -> None:
    """In the label, in what was reported and in a status."""
    page = render(ended(lambda token: token.report(1, 2, MARKUP)), "label=label", label=MARKUP)
    assert "<img" not in page
    assert "<script>" not in page
    assert page.count(html.escape(MARKUP)) == 2


def test_nothing_is_inline(reporting: WorkItemHandle) -> None:
    """A strict policy lets all of it pass: no style, no handler, and the script is a file that there is."""
    page = render(reporting)
    scripts = re.findall(r"<script[^>]*>", page)
    assert scripts == ['<script src="/static/django_qbwi/progress.js" defer>']
    assert not re.search(r"\s(style|on\w+)=|<style|javascript:", page)
    assert finders.find("django_qbwi/progress.js")


@pytest.mark.parametrize("where", ["context", "request"])
def test_nonce(reporting: WorkItemHandle, where: str) -> None:
    """That of Django's context processor, or of django-csp."""
    request = RequestFactory().get("/")
    context = {}
    if where == "request":
        request.csp_nonce = "n0nce"  # type: ignore[attr-defined]
    else:
        context["csp_nonce"] = "n0nce"
    assert 'progress.js" defer nonce="n0nce">' in render(reporting, request=request, **context)


def test_plain_context(reporting: WorkItemHandle) -> None:
    """Without a request, as in an e-mail."""
    assert qbwi.work_item_progress(Context(), reporting)["csp_nonce"] is None


def test_words_can_be_translated(reporting: WorkItemHandle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script gets all of them, in the language of the page."""
    monkeypatch.setattr(qbwi, "_", lambda text: f"[{text}]")
    page = render(reporting)
    words = json.loads(html.unescape(re.findall(r'data-words="([^"]+)"', page)[0]))
    assert words == {
        **{str(status): f"[{str(status).replace('_', ' ')}]" for status in WorkItemStatus},
        "unknown": "[unknown]",
    }
    assert shown(page)[2] == "[running]"
    assert 'aria-label="[Progress]"' in page


def test_view_in_a_namespace(reporting: WorkItemHandle) -> None:
    """It is named then."""
    assert 'data-qbwi-progress="/shop/p/' in render(reporting, 'view="shop:progress"')
    assert 'data-qbwi-progress="/short/' in render(reporting, 'view="short"')


@pytest.mark.parametrize(("urlconf", "more"), [("tests.urls", ""), ("tests.progress.urls", 'view="missing"')])
def test_view_that_is_missing(reporting: WorkItemHandle, urlconf: str, more: str) -> None:
    """The message says what to put where."""
    with (
        override_settings(ROOT_URLCONF=urlconf),
        pytest.raises(ImproperlyConfigured, match=r'path\("progress/<str:signed_id>/"'),
    ):
        render(reporting, more)


def test_page_with_two_bars(reporting: WorkItemHandle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has its own label."""
    monkeypatch.setitem(urls.SHOWN, "item", reporting)
    page = Client().get("/page/").text
    assert re.findall(r'aria-label="([^"]+)"', page) == ["Making the album", "Progress"]
