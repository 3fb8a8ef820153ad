"""The admin page through Django's client: who may see what, what it says, and that only a POST cancels."""

import json
import re
from typing import Any
from unittest import mock

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.db import DatabaseError
from django.test import Client
from django.utils import translation

from django_qbwi import WorkItemHandle, WorkItemStatus
from django_qbwi.admin import WorkItemAdmin
from tests.admin import policy, site
from tests.admin.site import FakeSite, user

LIST = "/admin/django_qbwi/workitem/"
CANCEL = f"{LIST}cancel/"
ONE = f"{LIST}{'0' * 24}/change/"
MARKUP = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7|add:7 }}\u202egpj.exe"

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.admin.urls")]


class TestPermissions:
    """Each view asks for itself (S1)."""

    @pytest.mark.parametrize("path", [LIST, f"{LIST}?format=json", ONE])
    def test_anonymous_is_sent_to_the_login(self, fake: FakeSite, path: str) -> None:
        """Nobody is told anything without a login, and comes back after it."""
        response = Client().get(path)
        assert response.status_code == 302
        assert response["Location"].startswith("/admin/login/?next=/admin/django_qbwi/workitem/")

    def test_anonymous_cannot_cancel(self, fake: FakeSite) -> None:
        """A POST without a login leads to the login too."""
        response = Client().post(CANCEL, {"item": "0" * 24, "confirm": "yes"})
        assert response["Location"].startswith("/admin/login/")
        assert fake.cancelled == []

    def test_user_who_is_no_staff(self, fake: FakeSite) -> None:
        """The permission alone opens no admin page."""
        assert user("view_workitem", "cancel_workitem", staff=False).get(LIST).status_code == 302

    @pytest.mark.parametrize("path", [LIST, f"{LIST}?format=json", ONE, CANCEL])
    @pytest.mark.parametrize("permissions", [(), ("cancel_workitem",)])
    def test_staff_without_view(self, fake: FakeSite, path: str, permissions: tuple[str, ...]) -> None:
        """Without `view` all is refused, whatever else one may."""
        assert user(*permissions).get(path).status_code == 403

    def test_staff_without_cancel(self, fake: FakeSite) -> None:
        """With `view` alone one sees no box and no button, and a POST is refused."""
        client = user("view_workitem")
        for path in (LIST, ONE):
            response = client.get(path)
            assert response.status_code == 200
            assert CANCEL not in response.text
        for data in ({"item": "0" * 24}, {"item": "0" * 24, "confirm": "yes"}):
            assert client.post(CANCEL, data).status_code == 403
        assert fake.cancelled == []

    def test_index(self, fake: FakeSite) -> None:
        """The admin's index leads to the page, and offers to add nothing."""
        page = user("view_workitem").get("/admin/").text
        assert f'href="{LIST}"' in page
        assert f"{LIST}add/" not in page

    def test_nothing_else_exists(self, operator: Client) -> None:
        """There is no page to add, delete or change an item with."""
        for path in ("add/", f"{'0' * 24}/delete/", f"{'0' * 24}/history/"):
            assert operator.get(f"{LIST}{path}").status_code == 404


class TestList:
    """The list of all processes and their items."""

    def test_plain(self, operator: Client, fake: FakeSite) -> None:
        """Processes, items with their columns, and the numbers."""
        fake.answer = site.overview(
            site.process(
                site.item(cancel_reason="shutdown", origin="POST /albums/", request_id="r-1", overdue=True),
                recent=(site.failure(),),
                state="draining",
                remaining=41.7,
            ),
            unresponsive=[103, 104],
            refused=[105],
            truncated=True,
        )
        page = operator.get(LIST).text
        for text in (
            "1 of 4 processes answered",
            "Processes 103, 104 do not respond.",
            "Process 105 runs as another user",
            "Process 101 is draining.",
            "data-qbwi-seconds>42<",
            "an answer may hold",
            "gallery.views.resize",
            "POST /albums/",
            "r-1",
            "yes (shutdown)",
            "overdue",
            "ValueError: no such album",
            "gunicorn on web-1",
            "up <time",
        ):
            assert text in page, text

    def test_empty(self, operator: Client, fake: FakeSite) -> None:
        """A site that is idle, or does not answer at all, has a page too."""
        fake.answer = site.overview(site.process())
        assert "Nothing is queued or running." in operator.get(LIST).text
        fake.answer = site.overview(unresponsive=[1])
        assert "No process answered." in operator.get(LIST).text

    def test_this_process_only(self, operator: Client, fake: FakeSite) -> None:
        """Where other processes cannot be asked, the page says so."""
        fake.answer |= {"scope": "process"}
        assert "only this process can be asked here" in operator.get(LIST).text

    def test_other_hosts(self, operator: Client, fake: FakeSite) -> None:
        """What the registry tells is told with its age; who is silent for too long has a banner, and was asked too."""
        fake.answer = site.overview(
            site.process(site.item()),
            site.process(site.item(id="a" * 24), host="web-2", age=4.0),
            scope="site",
            registry={"name": "registry of the hosts", "error": None},
            stale=[{"host": "web-3", "pid": 7, "age": 42.0}],
        )
        page = operator.get(LIST).text
        for text in (
            "2 of 3 processes answered",
            "registry: registry of the hosts",
            "gunicorn on web-2",
            "Nothing was heard of process web-3:7 (42 s).",
        ):
            assert text in page, text
        assert page.count("<span>told 4.0 s ago</span>") == 1

    def test_registry_that_cannot_be_read(self, operator: Client, fake: FakeSite) -> None:
        """The processes of this machine are shown all the same."""
        fake.answer |= {"registry": {"name": "registry", "error": "no <database>"}}
        page = operator.get(LIST).text
        assert "Other hosts are not shown:</strong> no &lt;database&gt;" in page
        assert "gallery.views.resize" in page

    def test_filtered(self, operator: Client, fake: FakeSite) -> None:
        """The filters are in the address, in the form, and in the links that keep them."""
        fake.answer = site.overview(site.process(site.item(name="one"), site.item(name="two", kind="async")))
        page = operator.get(f"{LIST}?name=TWO&kind=async&refresh=5").text
        assert ">two<" in page
        assert ">one<" not in page
        assert 'value="TWO"' in page
        assert "<option selected>async</option>" in page
        assert '<option value="5" selected>' in page
        assert "?kind=async&amp;name=TWO&amp;format=json" in page
        assert f"{ONE}?kind=async&amp;name=TWO&amp;refresh=5" in page

    @pytest.mark.parametrize("query", ["status=%00", "pid=9e9", "kind=<b>", "refresh=1&name=%ff", "pid=99999999999"])
    def test_strange_queries(self, operator: Client, fake: FakeSite, query: str) -> None:
        """No query is an error."""
        assert operator.get(f"{LIST}?{query}").status_code == 200

    def test_refresh_without_scripts(self, operator: Client, fake: FakeSite) -> None:
        """Where scripts are off the browser reloads the page, if a refresh was chosen."""
        tag = '<noscript><meta http-equiv="refresh" content="15"></noscript>'
        assert tag in operator.get(f"{LIST}?refresh=15").text
        assert "http-equiv" not in operator.get(LIST).text

    def test_numbers_are_not_localized_where_they_must_not_be(self, operator: Client, fake: FakeSite) -> None:
        """Pids and coordinates have no separators, in any language."""
        fake.answer = site.overview(
            site.process(site.item(pid=41_234), pid=41_234, state="draining", remaining=4_321), unresponsive=[51_234]
        )
        with translation.override("de"):
            page = operator.get(LIST, headers={"accept-language": "de"}).text
        for text in ("Process 41234", "Process 51234", ">4321<", 'points="0.0,'):
            assert text in page, text

    def test_json(self, operator: Client, fake: FakeSite) -> None:
        """The JSON is what the command prints, filtered like the page."""
        response = operator.get(f"{LIST}?format=json")
        assert response["Content-Type"] == "application/json"
        assert "no-store" in response["Cache-Control"]
        assert json.loads(response.content) == fake.answer
        assert json.loads(operator.get(f"{LIST}?format=json&pid=7").content)["processes"] == []

    def test_many(self, operator: Client, fake: FakeSite) -> None:
        """Eight processes with as many items as they may list are a page of bounded size."""
        name = "n" * 1_000_000
        items = [site.item(name=name)] * 20 + [site.item()] * 480
        recent = (site.failure(f"Error: {'x' * 50_000}"),) * 200
        fake.answer = site.overview(*[site.process(*items, recent=recent)] * 8)
        assert len(operator.get(LIST).content) < 2_000_000

    def test_get_is_safe(self, operator: Client, fake: FakeSite) -> None:
        """No GET cancels: neither the list nor the address of the form (S2)."""
        for path in (LIST, CANCEL, ONE):
            operator.get(path, {"item": "0" * 24, "confirm": "yes"})
        assert fake.cancelled == []


class TestItem:
    """The page of one item."""

    def test_running(self, operator: Client, fake: FakeSite) -> None:
        """A running item has a timeline, its stack, and a button."""
        fake.stack = 'File "views.py", line 3, in resize'
        page = operator.get(ONE).text
        for text in ("started after waiting 2.0 s", "running for", "Where it is now", "line 3, in resize", CANCEL):
            assert text in page, text

    def test_on_another_host(self, operator: Client, fake: FakeSite) -> None:
        """Its stack is where it runs, and the page says so."""
        fake.answer = site.overview(site.process(site.item(), host="web-2", age=4.0))
        assert "on another host, and told this 4.0 s ago" in operator.get(ONE).text

    def test_queued(self, operator: Client, fake: FakeSite) -> None:
        """A queued one waits, and has no stack."""
        fake.answer = site.overview(site.process(site.item(status="queued", started_at=None)))
        page = operator.get(ONE).text
        assert "waiting for" in page
        assert "Where it is now" not in page

    def test_waiting_for_its_time(self, operator: Client, fake: FakeSite) -> None:
        """A delayed one says when it is due, and one that expires until when it may start, on both pages."""
        waiting = site.item(status="queued", started_at=None, due_at=site.ago(-90), expires_at=site.ago(-7_200))
        fake.answer = site.overview(site.process(waiting))
        for page in (operator.get(ONE).text, operator.get(LIST).text):
            assert re.search(r"in \d+ (d|h|min|s|ms)", page)
        assert "<dt>Due</dt>" in operator.get(ONE).text
        assert "<dt>Expires</dt>" in operator.get(ONE).text
        assert "expires in" in operator.get(LIST).text

    def test_failed(self, operator: Client, fake: FakeSite) -> None:
        """A failed one shows its error, and cannot be cancelled."""
        fake.answer = site.overview(site.process(recent=(site.failure(),)))
        page = operator.get(f"{LIST}{'f' * 24}/change/").text
        assert "failed after running 6.0 s" in page
        assert "Traceback (most recent call last)" in page
        assert CANCEL not in page

    @pytest.mark.parametrize("item_id", ["0", "a/b", "..%2F..", "%00", "_5F", "x" * 5_000])
    def test_unknown(self, operator: Client, fake: FakeSite, item_id: str) -> None:
        """An item that no process knows is not found, and the page says why that may be."""
        response = operator.get(f"{LIST}{item_id}/change/")
        assert response.status_code == 404
        assert "has forgotten it" in response.text


class TestProgress:
    """What items report."""

    def test_bar_is_shown_and_named(self, operator: Client, fake: FakeSite) -> None:
        """In the list and on the item's page: an element that says of whom, how much, and what it does."""
        report = site.report(done=21, total=50, text="page 21")
        fake.answer = site.overview(site.process(site.item(progress=report)))
        with translation.override("de"):
            pages = [operator.get(LIST).text, operator.get(ONE).text]
        for page in pages:
            element = '<progress max="1" value="0.4200" aria-label="Progress of gallery.views.resize">42 %</progress>'
            assert f"{element} 42 %, 21 of 50: <bdi>page 21</bdi>" in page
        assert re.search(r">\([^<]+ ago\)</time>", pages[1])

    def test_without_a_total_there_is_no_bar(self, operator: Client, fake: FakeSite) -> None:
        """It would say what nobody knows."""
        fake.answer = site.overview(site.process(site.item(progress=site.report(done=7))))
        for page in (operator.get(LIST).text, operator.get(ONE).text):
            assert "<progress" not in page
            assert ">7" in page

    def test_ended_item_keeps_it_on_its_own_page(self, operator: Client, fake: FakeSite) -> None:
        """How far a failed one got."""
        fake.answer = site.overview(site.process(recent=(site.failure(progress=site.report(done=7, total=10)),)))
        assert "<progress" not in operator.get(LIST).text
        assert "70 %, 7 of 10" in operator.get(f"{LIST}{'f' * 24}/change/").text

    def test_nothing_is_shown_of_an_item_that_does_not_report(self, operator: Client, fake: FakeSite) -> None:
        """Nor of one whose process is of a version without reports."""
        older = site.item()
        del older["progress"]
        for item in (site.item(), older):
            fake.answer = site.overview(site.process(item))
            for page in (operator.get(LIST).text, operator.get(ONE).text):
                assert "qbwi-progress" not in page


class TestMarkup:
    """Everything is text (S3, S14)."""

    def test_escaped_everywhere(self, operator: Client, fake: FakeSite) -> None:
        """Markup in whatever a process says stays text on every page, and direction characters are gone."""
        hostile = site.item(name=MARKUP, origin=MARKUP, request_id=MARKUP, thread=MARKUP, cancel_reason=MARKUP)
        hostile["progress"] = site.report(total=2, text=MARKUP)
        failed = site.failure(f"{MARKUP}: {MARKUP}", name=MARKUP)
        fake.answer = site.overview(
            site.process(hostile, recent=(failed,), server=MARKUP, host=MARKUP, state=MARKUP, pid=101)
        )
        fake.stack = MARKUP
        for response in (
            operator.get(LIST),
            operator.get(LIST, {"name": MARKUP, "pid": MARKUP, "refresh": MARKUP}),
            operator.get(ONE),
            operator.get(f"{LIST}{'f' * 24}/change/"),
            operator.get(f"{LIST}{MARKUP.replace('/', '_2F')}/change/"),
            operator.post(CANCEL, {"item": ["0" * 24, MARKUP], "query": MARKUP, "back": MARKUP}),
        ):
            page = response.text
            assert "<script>alert" not in page
            assert "<img" not in page
            assert "\u202e" not in page
            assert "{{ 7|add:7 }}" in page or "alert(1)" not in page

    def test_nothing_is_inline(self, operator: Client, fake: FakeSite) -> None:
        """No page of ours has a script, a style or a handler inline (S4)."""
        fake.answer = site.overview(site.process(site.item(), recent=(site.failure(),), state="draining"))
        for response in (operator.get(f"{LIST}?refresh=2"), operator.get(ONE), operator.post(CANCEL, {"item": "x"})):
            page = response.text[response.text.index('id="content-main"') :]
            for text in ("<script", "<style", " style=", " onclick", "javascript:"):
                assert text not in page, text

    def test_nonce(self, operator: Client, fake: FakeSite, settings: Any) -> None:
        """Under a policy with nonces the script and the style sheet carry one."""
        pytest.importorskip("django.middleware.csp", reason="Django 6.0 sends nonces")
        settings.MIDDLEWARE = [policy.MIDDLEWARE, *settings.MIDDLEWARE]
        settings.SECURE_CSP = {"script-src": ["<CSP_NONCE_SENTINEL>"]}
        templates = [{**settings.TEMPLATES[0], "OPTIONS": {**settings.TEMPLATES[0]["OPTIONS"]}}]
        processors = [*templates[0]["OPTIONS"]["context_processors"], "django.template.context_processors.csp"]
        templates[0]["OPTIONS"]["context_processors"] = processors
        settings.TEMPLATES = templates
        response = operator.get(LIST)
        nonce = response["Content-Security-Policy"].partition("'nonce-")[2].partition("'")[0]
        assert nonce
        assert f'admin.js" defer nonce="{nonce}"' in response.text
        assert f'admin.css" nonce="{nonce}"' in response.text


class TestCancel:
    """Cancelling: asked first, done by POST, written down (S16)."""

    def test_asked_first(self, operator: Client, fake: FakeSite) -> None:
        """The first POST names the items and cancels none."""
        page = operator.post(CANCEL, {"item": ["0" * 24, "gone"], "query": "name=x&refresh=2&junk=1"}).text
        assert "these 2 work items" in page
        assert "gallery.views.resize" in page
        assert "not known to any process that answered" in page
        assert f'href="{LIST}?name=x&amp;refresh=2"' in page
        assert fake.cancelled == []

    def test_done(self, operator: Client, fake: FakeSite) -> None:
        """With the confirmation they are cancelled, once each, and the list says what came of it."""
        fake.results = {"late": False, "gone": None}
        data = {"item": ["0" * 24, "late", "gone", "late"], "confirm": "yes", "query": "kind=sync"}
        response = operator.post(CANCEL, data, follow=True)
        assert response.redirect_chain == [(f"{LIST}?kind=sync", 302)]
        assert fake.cancelled == [(["0" * 24, "late", "gone"], "ada")]
        for text in ("of 1 work item was requested", "1 work item had ended", "1 work item was not found"):
            assert text in response.text, text

    def test_requested_of_another_host(self, operator: Client, fake: FakeSite) -> None:
        """It is said that its process will look at it, and the log has it like any other cancellation."""
        fake.results, fake.requested = {"0" * 24: None, "gone": None}, {"0" * 24: "web-2:7"}
        fake.error = "nothing was heard of web-3:8 for too long"
        response = operator.post(CANCEL, {"item": ["0" * 24, "gone"], "confirm": "yes"}, follow=True)
        for text in ("work item on another host was requested", "within 10 seconds", "1 work item was not found"):
            assert text in response.text, text
        assert "othing was heard of web-3:8 for too long" in response.text
        assert LogEntry.objects.get().object_id == "0" * 24

    def test_written_down(self, operator: Client, fake: FakeSite) -> None:
        """Each item that was cancelled has an entry in the admin's log, which leads to its page."""
        fake.results = {"gone": None}
        operator.post(CANCEL, {"item": ["0" * 24, "gone"], "confirm": "yes"})
        entry = LogEntry.objects.get()
        assert (entry.user.get_username(), entry.object_id, entry.action_flag) == ("ada", "0" * 24, CHANGE)
        assert entry.object_repr == "gallery.views.resize"
        assert entry.get_change_message() == "Cancellation requested."
        assert entry.get_admin_url() == ONE
        assert "cancellation requested by" in operator.get(ONE).text

    def test_log_stays_when_the_item_is_forgotten(self, operator: Client, fake: FakeSite) -> None:
        """Who cancelled it is still said where the item is not known any more."""
        operator.post(CANCEL, {"item": "0" * 24, "confirm": "yes"})
        fake.answer = site.overview()
        response = operator.get(ONE)
        assert response.status_code == 404
        assert "cancellation requested by <bdi>ada</bdi>" in response.text

    def test_back_to_the_item(self, operator: Client, fake: FakeSite) -> None:
        """From the item's page one returns to it."""
        response = operator.post(CANCEL, {"item": "0" * 24, "confirm": "yes", "back": "item"})
        assert response["Location"] == ONE

    @pytest.mark.parametrize("back", ["//evil.example", "https://evil.example/", "../../"])
    def test_back_is_no_open_redirect(self, operator: Client, fake: FakeSite, back: str) -> None:
        """Neither field of the form leads elsewhere."""
        data = {"item": "0" * 24, "confirm": "yes", "back": back, "query": back}
        assert operator.post(CANCEL, data)["Location"] == LIST

    def test_nothing_selected(self, operator: Client, fake: FakeSite) -> None:
        """Without an item there is nothing to ask."""
        assert "No work item was selected." in operator.post(CANCEL, {}, follow=True).text

    def test_too_many(self, operator: Client, fake: FakeSite) -> None:
        """More than a page could offer are refused."""
        data = {"item": [str(number) for number in range(501)], "confirm": "yes"}
        assert "at most 500" in operator.post(CANCEL, data, follow=True).text
        assert fake.cancelled == []

    def test_get_leads_to_the_list(self, operator: Client, fake: FakeSite) -> None:
        """A login in between turns a POST into a GET, which is no dead end."""
        assert operator.get(CANCEL)["Location"] == LIST

    def test_csrf(self, fake: FakeSite) -> None:
        """A POST from another site is refused (S2)."""
        client = user("view_workitem", "cancel_workitem")
        client.handler.enforce_csrf_checks = True
        assert client.post(CANCEL, {"item": "0" * 24, "confirm": "yes"}).status_code == 403
        assert fake.cancelled == []

    def test_log_that_cannot_be_written(self, operator: Client, fake: FakeSite) -> None:
        """The items are cancelled all the same, and the page says that the log lacks it."""
        with mock.patch.object(WorkItemAdmin, "log_change", side_effect=DatabaseError):
            response = operator.post(CANCEL, {"item": "0" * 24, "confirm": "yes"}, follow=True)
        assert "could not be written to the log" in response.text
        assert len(fake.cancelled) == 1


@pytest.mark.django_db(transaction=True)
class TestRealItems:
    """The same with the items of this process."""

    def test_seen(self, operator: Client, running: WorkItemHandle) -> None:
        """A real item is listed, and shown with its stack; cancelled, it is among those that ended."""
        assert "resize" in operator.get(LIST).text
        assert "release.wait(30)" in operator.get(f"{LIST}{running.id}/change/").text
        assert running.cancel()
        assert running.wait(30)
        page = operator.get(f"{LIST}?status=cancelled&name=resize").text
        assert f"{LIST}{running.id}/change/" in page

    def test_cancelled(self, operator: Client, running: WorkItemHandle) -> None:
        """A real item ends when it is cancelled, and the request goes on with its connection."""
        data = {"item": running.id, "confirm": "yes", "back": "item"}
        assert "Cancellation of 1 work item was requested." in operator.post(CANCEL, data, follow=True).text
        assert running.wait(30)
        assert running.status is WorkItemStatus.CANCELLED

    def test_other_admin_site(self, operator: Client, running: WorkItemHandle) -> None:
        """Registered with a site of its own, all links stay in that site."""
        path = "/operations/django_qbwi/workitem/"
        page = operator.get(path).text
        assert f"{path}{running.id}/change/" in page
        assert f"{path}cancel/" in page
        assert LIST not in page
        response = operator.post(f"{path}cancel/", {"item": running.id, "back": "item"})
        assert f'href="{path}{running.id}/change/"' in response.text
