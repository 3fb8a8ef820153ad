"""The work that the gallery does in the background.

Each function gets a cancellation token first, then primary keys, or a copy of the request: the request itself is
over when it runs. The reason why a token is cancelled decides what to do:

- REQUESTED or TIMEOUT: nobody wants the rest any more, so stop.
- SHUTDOWN: the server ends, and waits for the item. Finish or save within `token.remaining()` seconds.
"""

import asyncio
import logging
import time

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.mail import EmailMessage
from django.urls import reverse
from django.utils import timezone

from django_qbwi import (
    CancellationToken,
    CancelReason,
    RequestSnapshot,
    Retry,
    background_work_item,
    copies_request,
    current_work_item,
)
from example_project.gallery import handles
from example_project.gallery.drawing import draw_postcard, draw_sheet, print_album, shrink
from example_project.gallery.models import Album, Count, Postcard, Thumbnail, Upload

WIDTHS = (320, 160, 80)  # pixels
MOST_PAGES = 12
COLUMNS = 4

logger = logging.getLogger(__name__)


@background_work_item(name="make thumbnails", timeout=60, concurrency=2)
def make_thumbnails(token: CancellationToken, upload_id: int) -> None:
    """Make three sizes of an uploaded picture; the sizes that are ready stay if the rest is cancelled.

    Of many uploads two are made at once: the albums shall not have to wait for all of them.
    """
    handles.remember(current_work_item())  # it was queued on commit, so the view never saw a handle
    upload = Upload.objects.get(pk=upload_id)
    for width in WIDTHS:
        token.raise_if_cancellation_requested(unless_remaining=5)  # seconds
        time.sleep(settings.GALLERY_PAUSE)  # a really large picture
        with upload.picture.open() as original:
            small = shrink(original, width)
        Thumbnail.objects.create(upload=upload, picture=ContentFile(small, f"{upload_id}-{width}.jpg"))


@background_work_item(name="send postcard", timeout=30, priority=10, retry=Retry(on=OSError), pool="mail")
@copies_request
def send_postcard(token: CancellationToken, visit: RequestSnapshot, postcard_id: int) -> None:
    """Draw a postcard and e-mail it; a cancellation counts until the e-mail is handed over.

    Where the mail server cannot be reached, or refuses, it is tried again. However slow that is, no thumbnail waits for
    it: postcards have workers of their own. It comes before other mail, for which nobody waits.

    It is queued with the request, of which it gets a copy: to know the address of the site, as the visitor sees it.
    """
    postcard = Postcard.objects.get(pk=postcard_id)
    text = f"{postcard.greeting}\n\nMore pictures: {visit.build_absolute_uri(reverse('gallery:home'))}"
    email = EmailMessage("A postcard for you", text, "gallery@example.com", [postcard.address])
    email.attach("postcard.jpg", draw_postcard(postcard.greeting), "image/jpeg")
    time.sleep(2 * settings.GALLERY_PAUSE)  # a slow mail server
    token.raise_if_cancellation_requested(unless_remaining=5)  # seconds
    email.send(**settings.GALLERY_DIRECT)
    postcard.sent_at = timezone.now()
    postcard.save(update_fields=["sent_at"])


@background_work_item(
    name="draw overview", unique_key=lambda width: width, concurrency=1, concurrency_key=lambda width: width
)
def draw_overview(token: CancellationToken, width: int) -> None:
    """Draw all pictures on one sheet, anew after each change.

    While one waits, further ones are the same; one that runs may not have seen the last picture, so that another one
    waits behind it. Of each width one writes at a time.
    """
    small = []
    for upload in Upload.objects.order_by("pk"):
        token.raise_if_cancellation_requested(unless_remaining=5)  # seconds
        with upload.picture.open() as original:
            small.append(shrink(original, width // COLUMNS))
    default_storage.delete(f"overview-{width}.jpg")
    default_storage.save(f"overview-{width}.jpg", ContentFile(draw_sheet(small, width, COLUMNS)))


@copies_request
def make_album(token: CancellationToken, visit: RequestSnapshot, album_id: int) -> None:
    """Print the newest pictures as a PDF, with the address of the site on each page, and report each page.

    That is much to compute: it is done in a helper process, beside the requests.
    """
    pages = []
    newest = list(Upload.objects.order_by("-pk")[:MOST_PAGES])
    for number, upload in enumerate(newest, start=1):
        token.report(len(pages), len(newest), f"page {number}")
        token.raise_if_cancellation_requested(unless_remaining=10)  # seconds
        time.sleep(settings.GALLERY_PAUSE)  # a slow printer
        with upload.picture.open() as original:
            pages.append(shrink(original, 1200))
    token.report(len(pages), len(newest), "binding")
    album = Album.objects.get(pk=album_id)
    album.pages = len(pages)
    address = visit.build_absolute_uri(reverse("gallery:home"))
    album.pdf = ContentFile(print_album(pages, address), f"album-{album_id}.pdf")
    album.save()


@background_work_item
def count(token: CancellationToken, count_id: int) -> None:
    """Count one a second until the token is cancelled, then save how far it got."""
    row = Count.objects.get(pk=count_id)
    row.reached = 0
    while row.reached < row.goal and not token.wait(settings.GALLERY_PAUSE):
        row.reached += 1
    row.ending = ending(token, row)
    row.save()
    log_count(token, row)
    if row.reached < row.goal:
        token.raise_if_cancellation_requested()  # saved; now the list shows it as cancelled


@background_work_item(hand_off=settings.GALLERY_ENGINE)
def count_on(token: CancellationToken, count_id: int, reached: int = 0) -> None:
    """Count one a second, and save each; a shutdown moves the rest to the engine, if there is one."""
    row = Count.objects.get(pk=count_id)
    while reached < row.goal:
        token.checkpoint(reached=reached)  # at a shutdown the worker calls count_on(token, count_id, reached=...)
        token.raise_if_cancellation_requested()
        if not token.wait(settings.GALLERY_PAUSE):
            reached += 1
            Count.objects.filter(pk=count_id).update(reached=reached)
    row.reached = reached
    log_count(token, row)


@background_work_item(name="count to the end")
async def count_to_the_end(token: CancellationToken, count_id: int) -> None:
    """Count one a second, and finish even at a shutdown if the time that is left is enough; else save."""
    pause = settings.GALLERY_PAUSE
    row = await Count.objects.aget(pk=count_id)
    row.reached = 0
    try:
        while row.reached < row.goal and not out_of_time(token, (row.goal - row.reached + 1) * pause):
            await asyncio.sleep(pause)
            row.reached += 1
    finally:  # also when the end is forced, which cancels an async item where it awaits
        row.ending = ending(token, row)
        await row.asave()
        log_count(token, row)
    if row.reached < row.goal:
        token.raise_if_cancellation_requested()


def out_of_time(token: CancellationToken, seconds: float) -> bool:
    """Say whether to stop: a shutdown leaves less than `seconds`, or nobody wants the rest any more."""
    if token.reason is not CancelReason.SHUTDOWN:
        return token.is_cancellation_requested
    remaining = token.remaining()
    return remaining is not None and remaining < seconds


def ending(token: CancellationToken, row: Count) -> str:
    """Say why a count ended before its goal; an empty text if it did not."""
    return str(token.reason) if token.reason and row.reached < row.goal else ""


def log_count(token: CancellationToken, row: Count) -> None:
    """Report how far a count got, and how much time was left."""
    why = f", saved because of: {row.ending}" if row.ending else ""
    remaining = token.remaining()
    left = f", with {remaining:.1f} s left" if remaining is not None else ""
    logger.info("Counted to %s of %s%s%s", row.reached, row.goal, why, left)
