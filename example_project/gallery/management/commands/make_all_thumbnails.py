"""Make the thumbnails of all pictures anew, as after a change of their sizes."""

from typing import Any

from django.core.management import BaseCommand

from example_project.gallery import items
from example_project.gallery.models import Thumbnail, Upload


class Command(BaseCommand):
    """Queue one item for each picture: more than there is room for, so it waits for room."""

    help = "Make the thumbnails of all pictures anew."

    def handle(self, *args: Any, **options: Any) -> None:
        """Queue them all; the command ends when they are done."""
        fan_out = items.make_thumbnails.using(wait_for_room=60)  # seconds, for each
        uploads = list(Upload.objects.values_list("pk", flat=True))
        for upload_id in uploads:
            Thumbnail.objects.filter(upload=upload_id).delete()
            fan_out.queue(upload_id)
        self.stdout.write(f"{len(uploads)} pictures are on their way.")
