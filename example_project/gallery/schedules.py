"""What the gallery does by the clock, in whichever server process is first; `manage.py qbwi schedules` lists it."""

import logging
from datetime import timedelta

from django.utils import timezone

from django_qbwi import CancellationToken, background_work_item
from django_qbwi.contrib.schedules import schedule
from example_project.gallery.models import Album, Upload

KEPT = timedelta(days=7)

logger = logging.getLogger(__name__)


@schedule(cron="0 4 * * *", timezone="Europe/Berlin")
@background_work_item(name="throw away old albums", timeout=600)
def throw_away_old_albums(token: CancellationToken) -> None:
    """Delete the albums of more than a week ago, one by one; the next night does what this one leaves."""
    for album in Album.objects.filter(ordered_at__lt=timezone.now() - KEPT).iterator():
        token.raise_if_cancellation_requested(unless_remaining=5)  # seconds
        album.pdf.delete(save=False)
        album.delete()


@schedule(every=timedelta(minutes=1))
def log_size(token: CancellationToken) -> None:
    """Say how large the gallery is."""
    logger.info("The gallery has %s pictures and %s albums", Upload.objects.count(), Album.objects.count())
