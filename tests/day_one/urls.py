"""Views that create an album and queue its thumbnails: sync, async and after the commit."""

from django.db import transaction
from django.http import HttpResponse
from django.urls import path

from django_qbwi import background_work_item, queue_background_work_item

from .models import Album


@background_work_item
def make_thumbnails(token, pk):
    """Make the thumbnails of an album."""
    album = Album.objects.get(pk=pk)
    album.thumbnails += 1
    album.save()


async def make_thumbnails_async(token, pk):
    """Do the same with the async ORM."""
    album = await Album.objects.aget(pk=pk)
    album.thumbnails += 1
    await album.asave()


def upload(request):
    album = Album.objects.create()
    make_thumbnails.queue(album.pk)
    queue_background_work_item(make_thumbnails_async, album.pk)
    return HttpResponse(str(album.pk))


async def upload_async(request):
    album = await Album.objects.acreate()
    make_thumbnails.queue(album.pk)
    queue_background_work_item(make_thumbnails_async, album.pk)
    return HttpResponse(str(album.pk))


def upload_on_commit(request):
    with transaction.atomic():
        album = Album.objects.create()
        make_thumbnails.queue_on_commit(album.pk)
    return HttpResponse(str(album.pk))


urlpatterns = [path("upload", upload), path("upload_async", upload_async), path("commit", upload_on_commit)]
