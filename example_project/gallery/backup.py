"""An older part of the site: it starts a thread of its own, has a bell of its own, and knows nothing of work items.

The view that starts it tracks it: it is listed, and waited for at a shutdown, which rings its bell.
"""

import io
import threading
import zipfile

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage


class Backup(threading.Thread):
    """Packs pictures into one file, and keeps what it has got to if it is stopped."""

    def __init__(self, pictures: list[str]) -> None:
        super().__init__(name="backup", daemon=True)
        self.pictures = pictures
        self.packed: list[str] = []
        self.stopped = threading.Event()

    def stop(self) -> None:
        """Ring the bell; any thread may."""
        self.stopped.set()

    def run(self) -> None:
        """Pack one picture after the other, then store the file."""
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as packed:
            for name in self.pictures:
                if self.stopped.wait(settings.GALLERY_PAUSE):  # a slow disk
                    break
                with default_storage.open(name) as picture:
                    packed.writestr(name, picture.read())
                self.packed.append(name)
        default_storage.delete("backup.zip")
        default_storage.save("backup.zip", ContentFile(archive.getvalue()))
