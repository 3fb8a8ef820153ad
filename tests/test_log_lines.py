"""The last lines that an item logs, and links to what other systems know of it."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.test import override_settings

from django_qbwi import Retry, background_work_item, conf, hosting, queue_background_work_item
from django_qbwi.checks import check_settings
from django_qbwi.console import operations
from django_qbwi.console.dashboard import LineRow
from django_qbwi.console.links import links
from django_qbwi.core.exceptions import ProcessUnreachable
from django_qbwi.inspection.records import log_from_list
from django_qbwi.logs import lines
from django_qbwi.logs.lines import MASK, MAX_TEXT, KeptLines, without_secrets
from tests.admin.site import user
from tests.support.gates import PATIENCE

logger = logging.getLogger("tests.log_lines")


@pytest.fixture(autouse=True)
def own_scheduler() -> Iterator[None]:
    """Give each test a scheduler of its own, and its logger a handler."""
    handler = logging.NullHandler(logging.INFO)
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    with override_settings(QBWI={}):
        yield
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def logged(item: Any, *args: Any) -> list[str]:
    """Run an item, and return the texts of the lines that are kept."""
    handle = queue_background_work_item(item, *args)
    assert handle.wait(PATIENCE)
    return [line["text"] for line in operations.find(handle.id).log]


def test_lines_of_an_item() -> None:
    """Each has its moment, level and logger, and is there as long as the item is known."""

    def write(token: Any) -> None:
        logger.info("order %s paid", 42)
        logging.getLogger("tests.log_lines.child").warning("twice")

    handle = queue_background_work_item(write)
    assert handle.wait(PATIENCE)
    logger.info("outside")
    first, second = operations.find(handle.id).log
    assert (first["level"], first["logger"], first["text"]) == ("INFO", "tests.log_lines", "order 42 paid")
    assert (second["level"], second["logger"], second["text"]) == ("WARNING", "tests.log_lines.child", "twice")
    assert LineRow.of(first).at.tzinfo is not None
    assert log_from_list(json.loads(json.dumps([first, second]))) == [first, second]


def test_lines_of_an_async_item() -> None:
    """Also what its threads and tasks log."""

    async def write(token: Any) -> None:
        logger.info("on the loop")
        await asyncio.create_task(child())

    async def child() -> None:
        await asyncio.to_thread(logger.info, "in a thread")

    assert logged(write) == ["on the loop", "in a thread"]


def test_item_that_logs_nothing() -> None:
    """It keeps nothing, not even a place for it."""
    handle = queue_background_work_item(lambda token: None)
    assert handle.wait(PATIENCE)
    assert not hasattr(handle._item.last_run, "_kept")
    assert operations.find(handle.id).log == []


def test_lines_of_all_attempts() -> None:
    """They stay together."""
    failed = []

    @background_work_item(retry=Retry(max_attempts=2, backoff=lambda attempt, error: 0.0))
    def write(token: Any) -> None:
        logger.info("attempt %d", len(failed) + 1)
        if not failed:
            failed.append(True)
            raise ValueError

    handle = write.queue()
    assert handle.wait(PATIENCE)
    assert [line["text"] for line in operations.find(handle.id).log] == ["attempt 1", "attempt 2"]


@pytest.mark.parametrize(("most", "kept"), [(50, 50), (3, 3), (0, 0)])
def test_lines_are_bounded_in_number(most: int, kept: int) -> None:
    """The last ones are kept."""

    def write(token: Any) -> None:
        for number in range(60):
            logger.info("%d", number)

    with override_settings(QBWI={"LOG_LINES": most}):
        assert logged(write) == [str(number) for number in range(60 - kept, 60)]


def test_lines_are_bounded_in_length() -> None:
    """A long one is cut; an exception is named behind it."""

    def write(token: Any) -> None:
        logger.info("x" * 10_000)
        try:
            raise ValueError("no such album")
        except ValueError:
            logger.exception("failed")

    first, second = logged(write)
    assert (len(first), first[-1]) == (MAX_TEXT, "…")
    assert second == "failed (builtins.ValueError: no such album)"


class Asked:
    """Says that it was made into text, and may refuse."""

    def __init__(self, fails: bool = False) -> None:
        self.times = 0
        self.fails = fails

    def __str__(self) -> str:
        self.times += 1
        if self.fails:
            raise RuntimeError("no text")
        return "text"


def test_what_no_handler_writes_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its arguments are not even asked for their texts, which may be a query."""
    monkeypatch.setattr(logger, "propagate", False)
    asked = Asked()

    def write(token: Any) -> None:
        logger.debug("%s", asked)
        logger.info("%s", "written")

    assert logged(write) == ["written"]
    assert asked.times == 0


def test_logger_without_any_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python writes its warnings all the same, and so they are kept."""
    bare = logging.getLogger("tests.log_lines_bare")
    monkeypatch.setattr(bare, "propagate", False)

    def write(token: Any) -> None:
        bare.error("shown")

    assert logged(write) == ["shown"]
    monkeypatch.setattr(logging, "lastResort", None)
    assert logged(write) == []


def test_argument_that_raises() -> None:
    """It harms neither the item nor the record, which the handlers get as ever."""
    seen: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = seen.append  # type: ignore[method-assign]

    def write(token: Any) -> None:
        logger.addHandler(handler)
        logger.propagate = False
        try:
            logger.info("%s", Asked(fails=True))
        finally:
            logger.removeHandler(handler)
            logger.propagate = True
        logger.info("on")

    assert logged(write) == ["on"]
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("password=hunter2 for ann", f"password={MASK} for ann"),
        ("{'api_key': 'abc123', 'page': 2}", f"{{'api_key': '{MASK}', 'page': 2}}"),
        ("Authorization: Bearer abc.def", f"Authorization: Bearer {MASK}"),
        ("token: 'a', password: 'b'", f"token: '{MASK}', password: '{MASK}'"),
        ("password=", "password="),
        ("order=42 name: hills", "order=42 name: hills"),
        (f"got eyJ{'a' * 20}.{'b' * 20}.{'c' * 20}", f"got {MASK}"),
        ("http://shop/confirm?token=abc&page=2", f"http://shop/confirm?token={MASK}&page=2"),
    ],
)
def test_secrets_are_masked(text: str, clean: str) -> None:
    """Values of secret names, and what looks like a token."""
    assert without_secrets(text) == clean


def test_installed_once() -> None:
    """The factory that was there before goes on making the records."""
    factory = logging.getLogRecordFactory()
    assert isinstance(factory, KeptLines)
    lines.install(lambda: 1)
    assert logging.getLogRecordFactory() is factory
    assert "KeptLines" in repr(factory)


@pytest.mark.parametrize("told", [{}, "x", [1], [{"at": "now"}]])
def test_lines_that_are_none(told: Any) -> None:
    """What another process sends is read within bounds; another version may send nothing."""
    with pytest.raises(ProcessUnreachable):
        log_from_list(told)
    assert log_from_list(None) == []


TEMPLATES = {
    "Logs": "https://logs.example.com/?q={id}",
    "Request": "https://logs.example.com/{request_id}/",
    "Trace": "http://traces.example.com/trace/{trace_id}",
}


def test_links() -> None:
    """Values are quoted, slashes too; a link whose value is not known is left out."""
    found = links(TEMPLATES, {"id": 'a/b&c="<é>', "request_id": None, "trace_id": "7f"})
    assert found == {
        "Logs": "https://logs.example.com/?q=a%2Fb%26c%3D%22%3C%C3%A9%3E",
        "Trace": "http://traces.example.com/trace/7f",
    }
    assert links(None, {}) == {}


@pytest.mark.parametrize(
    "url",
    ["javascript:alert({id})", "//x/{id}", "https://{id}", "https://x/{pid}", "https://x/{id!r}", "https://x/{", 5],
)
def test_wrong_links(url: Any) -> None:
    """Another scheme, an unknown field or a broken template is an error of the checks."""
    with override_settings(QBWI={"LINKS": {"Logs": url}}):
        (found,) = check_settings(None)
    assert found.id == "qbwi.E003"
    assert "LINKS" in found.msg
    assert found.hint is not None
    assert "{trace_id}" in found.hint


@pytest.mark.parametrize("value", [[], {"": "https://x/{id}"}, {1: "https://x/{id}"}, "https://x/{id}"])
def test_links_that_are_no_dict_of_texts(value: Any) -> None:
    """They are refused as well."""
    assert conf.problems({"LINKS": value})


def write_a_line(token: Any) -> None:
    """Log something with markup in it."""
    logger.info("<b>bold</b>\nand more")


@pytest.mark.django_db(transaction=True)
@pytest.mark.urls("tests.admin.urls")
def test_command_and_page() -> None:
    """Both show the lines and the links."""
    with override_settings(QBWI={"LINKS": TEMPLATES}):
        handle = queue_background_work_item(write_a_line)
        assert handle.wait(PATIENCE)
        handle._item.run.trace_id = "7f"
        assert hosting.scheduler().wait_until_empty(PATIENCE)
        output = io.StringIO()
        call_command("qbwi", "show", handle.id, stdout=output, no_color=True)
        shown = output.getvalue()
        page = user("view_workitem").get(f"/admin/django_qbwi/workitem/{handle.id}/change/").text
    assert f"https://logs.example.com/?q={handle.id}\n" in shown
    assert " INFO tests.log_lines: <b>bold</b>\n      and more\n" in shown
    assert f'<a href="https://logs.example.com/?q={handle.id}" rel="noopener noreferrer">Logs</a>' in page
    assert 'href="http://traces.example.com/trace/7f"' in page
    assert ">Request</a>" not in page
    assert "tests.log_lines: &lt;b&gt;bold&lt;/b&gt;\nand more" in page
