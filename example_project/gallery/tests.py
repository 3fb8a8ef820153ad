"""How a site tests its background work: no thread, no waiting, an ordinary TestCase.

Three ways, from the closest look to the widest:

- call the function with a token: `CancellationToken.none()`, or that of a `CancellationTokenSource`;
- `captured_work_items()`: what a view has queued, run when the test says so;
- `immediate_work_items()`, or the setting IMMEDIATE: items run at the call.
"""

# ruff: noqa: PT009, PT027 (assertions in the style of Django's own TestCase)

import io
import zipfile
from unittest import mock

from django.core import mail
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.test import TestCase, TransactionTestCase, override_settings
from django.utils import timezone

from django_qbwi import (
    CancellationToken,
    CancellationTokenSource,
    CancelReason,
    OperationCancelled,
    QueueFull,
    RequestSnapshot,
    WorkItemStatus,
    live_items,
    recent_items,
)
from django_qbwi.contrib.history.models import HistoryEntry
from django_qbwi.contrib.history.testing import written_history
from django_qbwi.testing import captured_work_items, drain, immediate_work_items
from example_project.gallery import handles, items, schedules, tasks
from example_project.gallery.drawing import draw_landscape
from example_project.gallery.models import Album, Count, Postcard, Upload
from example_project.gallery.views import MANY

IN_MEMORY = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}


@override_settings(STORAGES=IN_MEMORY, GALLERY_PAUSE=0)
class GalleryTestCase(TestCase):
    """Pictures in memory, and no pauses."""


class TheHistoryTests(GalleryTestCase):
    def test_failure_is_kept(self):
        """In tests the history is written where one asks for it, in the test's own transaction."""
        with written_history(), immediate_work_items(), self.assertLogs("django_qbwi", "ERROR"):
            items.make_thumbnails.queue(0)
        row = HistoryEntry.objects.get()
        self.assertEqual((row.status, row.message), ("failed", "Upload matching query does not exist."))


class TheFunctionItselfTests(GalleryTestCase):
    def test_old_albums_are_thrown_away(self):
        """What runs by the clock is called as any other function; the clock starts nothing in tests."""
        young, old = Album.objects.create(pages=1), Album.objects.create(pages=1)
        Album.objects.filter(pk=old.pk).update(ordered_at=timezone.now() - 2 * schedules.KEPT)
        schedules.throw_away_old_albums(CancellationToken.none())
        self.assertEqual(list(Album.objects.all()), [young])

    def test_size_is_logged(self):
        """With both numbers."""
        with self.assertLogs("example_project", "INFO") as logs:
            schedules.log_size(CancellationToken.none())
        self.assertIn("0 pictures and 0 albums", logs.output[0])

    def test_count_reaches_its_goal(self):
        """A token that is never cancelled lets the item run to its end."""
        row = Count.objects.create(goal=3)
        items.count(CancellationToken.none(), row.pk)
        row.refresh_from_db()
        self.assertEqual((row.reached, row.ending), (3, ""))

    def test_count_saves_how_far_it_got(self):
        """A cancelled token stops the count, which saves before it ends as cancelled."""
        row = Count.objects.create(goal=3)
        source = CancellationTokenSource()
        source.cancel(CancelReason.SHUTDOWN)
        with self.assertRaises(OperationCancelled):
            items.count(source.token, row.pk)
        row.refresh_from_db()
        self.assertEqual((row.reached, row.ending), (0, "shutdown"))

    def test_count_on_goes_on(self):
        """What the engine calls at the end of a process begins where the item has left off."""
        row = Count.objects.create(goal=3, reached=2)
        items.count_on(CancellationToken.none(), row.pk, reached=2)
        row.refresh_from_db()
        self.assertEqual(row.reached, 3)

    def test_count_on_without_an_engine_stops(self):
        """Each step is saved, and a shutdown ends it as cancelled."""
        row = Count.objects.create(goal=3)
        source = CancellationTokenSource()
        source.cancel(CancelReason.SHUTDOWN)
        with self.assertRaises(OperationCancelled):
            items.count_on(source.token, row.pk)

    def test_album_reports_its_pages(self):
        """What was reported last is with the token."""
        token, album = CancellationToken.none(), Album.objects.create()
        with immediate_work_items(), self.captureOnCommitCallbacks(execute=True):
            self.client.post("/pictures/sample/")
        items.make_album(token, RequestSnapshot(host="gallery.example.com"), album.pk)
        self.assertEqual((token.progress.done, token.progress.total, token.progress.text), (1, 1, "binding"))

    async def test_count_to_the_end_finishes_at_a_shutdown(self):
        """An async item is awaited; a shutdown that leaves enough time changes nothing."""
        row = await Count.objects.acreate(goal=3)
        source = CancellationTokenSource()
        source.cancel(CancelReason.SHUTDOWN)
        await items.count_to_the_end(source.token, row.pk)
        await row.arefresh_from_db()
        self.assertEqual(row.reached, 3)

    async def test_count_to_the_end_stops_when_it_is_asked_to(self):
        """A cancellation by hand means that nobody wants the rest."""
        row = await Count.objects.acreate(goal=3)
        source = CancellationTokenSource()
        source.cancel()
        with self.assertRaises(OperationCancelled):
            await items.count_to_the_end(source.token, row.pk)
        await row.arefresh_from_db()
        self.assertEqual((row.reached, row.ending), (0, "requested"))

    def test_a_cancelled_postcard_is_not_sent(self):
        """The token is asked right before the e-mail leaves."""
        postcard = Postcard.objects.create(address="you@example.com", greeting="Hello")
        source = CancellationTokenSource()
        source.cancel()
        with self.assertRaises(OperationCancelled):
            items.send_postcard(source.token, RequestSnapshot(host="gallery.example.com"), postcard.pk)
        self.assertEqual(mail.outbox, [])


class WhatAViewQueuesTests(GalleryTestCase):
    def test_postcard_is_queued_then_sent(self):
        """The view only queues; the e-mail goes out when the item runs."""
        with captured_work_items() as captured:
            response = self.client.post("/postcards/", {"address": "you@example.com", "greeting": "Hello"})
            self.assertRedirects(response, "/")
            self.assertEqual([item.name for item in captured], ["send postcard"])
            self.assertEqual(mail.outbox, [])
            captured.run_all()
        [email] = mail.outbox
        self.assertEqual(email.to, ["you@example.com"])
        self.assertIn("More pictures: http://testserver/", email.body)
        self.assertEqual(email.attachments[0].filename, "postcard.jpg")

    def test_letter_is_in_the_outbox(self):
        """Django's test runner replaces the mail backend of the site, also this one."""
        self.client.post("/letters/", {"address": "you@example.com", "greeting": "Hello"})
        self.assertEqual([email.body for email in mail.outbox], ["Hello"])

    def test_thumbnails_wait_for_the_commit(self):
        """A TestCase never commits, so what waits for the commit is not queued ..."""
        with captured_work_items() as captured:
            self.client.post("/pictures/sample/")
        self.assertEqual(list(captured), [])

    def test_thumbnails_are_queued_by_the_commit(self):
        """... unless the test says so with `captureOnCommitCallbacks`."""
        with captured_work_items() as captured, self.captureOnCommitCallbacks(execute=True):
            self.client.post("/pictures/sample/")
        self.assertEqual(len(captured), 1)

    def test_a_text_file_is_no_picture(self):
        """What the form refuses is not queued."""
        with captured_work_items() as captured, self.captureOnCommitCallbacks(execute=True):
            response = self.client.post("/pictures/", {"picture": SimpleUploadedFile("a.jpg", b"text")})
        self.assertContains(response, "Upload a valid image", status_code=422)
        self.assertEqual(list(captured), [])

    def test_an_async_view_shows_a_wrong_form_again(self):
        """What the form refuses is not queued, in an async view either."""
        for address in ("/postcards/", "/letters/", "/counts/to-the-end/"):
            with self.subTest(address), captured_work_items() as captured:
                self.assertEqual(self.client.post(address, {"goal": "many"}).status_code, 422)
                self.assertEqual(list(captured), [])

    def test_a_refusal_has_a_page_of_its_own(self):
        """A visitor whose item is refused is told so, by a sync and by an async view."""
        for address, item in (("/counts/", items.count), ("/counts/to-the-end/", items.count_to_the_end)):
            refuse = mock.Mock(side_effect=QueueFull("too many items wait"))
            with self.subTest(address), mock.patch.object(type(item), "queue", refuse):
                response = self.client.post(address, {"goal": 5})
                self.assertContains(response, "too many items wait", status_code=503)
                self.assertEqual(response["Retry-After"], "10")


class FromTheButtonToTheResultTests(GalleryTestCase):
    def test_upload_to_thumbnails(self):
        """An uploaded picture has three thumbnails at once, if items run at the call."""
        picture = SimpleUploadedFile("hills.jpg", draw_landscape())
        with immediate_work_items(), self.captureOnCommitCallbacks(execute=True):
            self.client.post("/pictures/", {"picture": picture})
        thumbnails = Upload.objects.get().thumbnails.order_by("width")
        self.assertEqual([thumbnail.width for thumbnail in thumbnails], [80, 160, 320])

    def test_all_thumbnails_anew(self):
        """The command queues an item for each picture, and leaves no old thumbnail."""
        picture = SimpleUploadedFile("hills.jpg", draw_landscape())
        with immediate_work_items(), self.captureOnCommitCallbacks(execute=True):
            self.client.post("/pictures/", {"picture": picture})
        before = set(Upload.objects.get().thumbnails.values_list("pk", flat=True))
        with immediate_work_items():
            call_command("make_all_thumbnails", stdout=io.StringIO())
        self.assertEqual(Upload.objects.get().thumbnails.count(), 3)
        self.assertFalse(before & set(Upload.objects.get().thumbnails.values_list("pk", flat=True)))

    def test_overview(self):
        """It shows all pictures."""
        with immediate_work_items(), self.captureOnCommitCallbacks(execute=True):
            self.client.post("/pictures/sample/")
            self.client.post("/overviews/")
        self.assertTrue(default_storage.exists("overview-800.jpg"))

    def test_mirror(self):
        """The task copies the newest picture; without one there is none."""
        self.assertContains(self.client.post("/mirror/", follow=True), "There is no picture yet.")
        with immediate_work_items(), self.captureOnCommitCallbacks(execute=True):
            self.client.post("/pictures/sample/")
            self.client.post("/mirror/")
        self.assertTrue(default_storage.exists(f"mirror/{Upload.objects.get().pk}.jpg"))

    @override_settings(QBWI={"IMMEDIATE": True})
    def test_mirror_that_is_away(self):
        """The alias has the task tried again: under IMMEDIATE the next attempt follows at once."""
        upload = Upload.objects.create(picture=ContentFile(draw_landscape(), "hills.jpg"))
        save = mock.patch.object(tasks.default_storage, "save", side_effect=[OSError("no disk"), "there.jpg"])
        framework = tasks.task.__module__.removesuffix(".base")  # django.tasks, or the backport
        with save, self.assertLogs("django_qbwi", "WARNING"), self.assertLogs(framework, "WARNING"):
            result = tasks.mirror.enqueue(upload.pk)
        self.assertEqual((result.return_value, result.attempts), ("there.jpg", 2))

    @override_settings(QBWI={"IMMEDIATE": True})
    def test_many_counts(self):
        """An async view queues them all."""
        self.client.post("/counts/many/")
        self.assertEqual(Count.objects.filter(reached=1).count(), MANY)

    def test_album_that_comes_too_late(self):
        """It would never be printed: nobody waits for it any more."""
        with mock.patch("example_project.gallery.views.queue_background_work_item") as queue:
            queue.side_effect = RuntimeError
            with self.assertRaises(RuntimeError):
                self.client.post("/albums/")
        self.assertEqual(queue.call_args.kwargs["expires"], 600)
        self.assertEqual(queue.call_args.kwargs["labels"], {"album": Album.objects.get().pk})

    @override_settings(QBWI={"IMMEDIATE": True})
    def test_album(self):
        """The setting does the same, for a single test or for a whole test suite."""
        with self.captureOnCommitCallbacks(execute=True):
            self.client.post("/pictures/sample/")
        self.client.post("/albums/")
        album = Album.objects.get()
        self.assertEqual(album.pages, 1)
        pdf = album.pdf.open().read()
        self.assertTrue(pdf.startswith(b"%PDF"))
        self.assertIn(b"http://testserver/", pdf)

    @override_settings(QBWI={"IMMEDIATE": True})
    def test_both_counts(self):
        """An item is one line in a test, on a thread or on the event loop."""
        for address in ("/counts/", "/counts/to-the-end/"):
            with self.subTest(address):
                self.client.post(address, {"goal": 5})
                self.assertEqual(Count.objects.latest("pk").reached, 5)

    def test_the_page_lists_what_ended(self):
        """The page and its parts show, and name, an item that ran."""
        with immediate_work_items():
            self.client.post("/counts/", {"goal": 5})
            for address in ("/", "/work/", "/work.json"):
                with self.subTest(address):
                    self.assertContains(self.client.get(address), "count to 5")

    def test_the_album_has_a_page_with_a_bar(self):
        """The visitor is sent there; it shows the state of the item, and where to ask for the next."""
        with captured_work_items() as captured:
            page = self.client.post("/albums/", follow=True)
            self.assertContains(page, 'aria-label="Printing the album"')
            self.assertContains(page, 'data-qbwi-progress="/progress/')
            captured.run_all()
        self.assertEqual(Album.objects.get().pages, 0)

    def test_the_backup_is_tracked(self):
        """The thread of the site is listed under its name until it has ended."""
        for _ in range(2):
            with immediate_work_items(), self.captureOnCommitCallbacks(execute=True):
                self.client.post("/pictures/sample/")
        self.client.post("/backups/")
        self.assertTrue(drain(30))
        info = recent_items()[0]
        self.assertEqual((info.name, info.status), ("backup", WorkItemStatus.SUCCEEDED))
        with default_storage.open("backup.zip") as packed, zipfile.ZipFile(packed) as archive:
            self.assertEqual(len(archive.namelist()), 2)

    def test_the_backup_is_stopped(self):
        """To cancel it rings the bell of the thread, which keeps what it has got to."""
        with immediate_work_items(), self.captureOnCommitCallbacks(execute=True):
            self.client.post("/pictures/sample/")
        with self.settings(GALLERY_PAUSE=60):
            self.client.post("/backups/")
            [info] = live_items()
            self.client.post(f"/work/{info.id}/cancel/")
            self.assertTrue(drain(30))
        with default_storage.open("backup.zip") as packed, zipfile.ZipFile(packed) as archive:
            self.assertEqual(archive.namelist(), [])

    def test_a_forged_address_shows_nothing(self):
        """The page of an album that nobody has ordered."""
        self.assertContains(self.client.get("/albums/forged/"), "unknown")

    def test_an_unknown_item_cannot_be_cancelled(self):
        """The page says so instead of failing."""
        response = self.client.post("/work/unknown/cancel/", follow=True)
        self.assertContains(response, "That item has ended")


@override_settings(STORAGES=IN_MEMORY, GALLERY_PAUSE=60)
class WhatWaitsTests(TransactionTestCase):
    def test_overview_is_drawn_once(self):
        """However often it is ordered before it begins, one item waits for its time, until it is cancelled."""
        for _ in range(3):
            self.client.post("/overviews/")
        [info] = live_items()
        self.assertEqual(info.name, "draw overview")
        self.assertIsNotNone(handles.find(info.id))
        self.client.post(f"/work/{info.id}/cancel/")
        self.assertTrue(drain(30))
        self.assertIsNone(handles.find(info.id))
