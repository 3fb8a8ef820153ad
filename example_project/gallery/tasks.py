"""Tasks of Django's own framework, which run in this process as the items do.

`OPTIONS["RETRY"]` of their alias, in settings.py, has them tried again.
"""

from django.core.files.storage import default_storage

from example_project.gallery.models import Upload

try:
    from django.tasks import task
except ImportError:  # Django 5.2: the backport, which is in requirements.txt
    from django_tasks import task


@task
def mirror(upload_id: int) -> str:
    """Copy a picture to the mirror, and return its name there; a disk that is full or away is tried again."""
    upload = Upload.objects.get(pk=upload_id)
    with upload.picture.open() as picture:
        return default_storage.save(f"mirror/{upload_id}.jpg", picture)
