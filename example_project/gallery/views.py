"""The pages of the gallery: each view that answers a POST queues one item, or tracks a thread, and answers at once."""

import os
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib import messages
from django.core.files.base import ContentFile
from django.core.mail import send_mail
from django.db import transaction
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from django_qbwi import live_items, queue_background_work_item, recent_items, track
from django_qbwi.views import signed_id
from example_project.gallery import handles, items, tasks
from example_project.gallery.backup import Backup
from example_project.gallery.drawing import draw_landscape
from example_project.gallery.forms import CountForm, PostcardForm, UploadForm
from example_project.gallery.models import Album, Count, Postcard, Upload

SHOWN = 8  # rows of each list on the page
MANY = 100


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """Show the forms, the work of this process and the results."""
    return render(request, "gallery/home.html", what_to_show())


@require_safe
def work(request: HttpRequest) -> HttpResponse:
    """Show the changing part of the page alone: the script on the page asks for it every second."""
    return render(request, "gallery/work.html", what_to_show())


@require_safe
def work_as_json(request: HttpRequest) -> JsonResponse:
    """Tell a program what is queued, running and recent in this process."""
    live = [info.to_dict() for info in live_items()]
    recent = [info.to_dict() for info in recent_items()]
    return JsonResponse({"pid": os.getpid(), "live": live, "recent": recent})


@require_POST
def upload_picture(request: HttpRequest) -> HttpResponse:
    """Save an uploaded picture; its thumbnails are made once the row is committed."""
    form = UploadForm(request.POST, request.FILES)
    if not form.is_valid():
        return correct(request, upload_form=form)
    with transaction.atomic():
        upload = form.save()
        items.make_thumbnails.queue_on_commit(upload.pk)
    return done(request, "Your picture is saved. Its thumbnails are on their way.")


@require_POST
def add_sample(request: HttpRequest) -> HttpResponse:
    """Save a generated picture, for visitors who have none at hand."""
    with transaction.atomic():
        upload = Upload.objects.create(picture=ContentFile(draw_landscape(), "sample.jpg"))
        items.make_thumbnails.queue_on_commit(upload.pk)
    return done(request, "A sample picture is saved. Its thumbnails are on their way.")


@require_POST
async def order_postcard(request: HttpRequest) -> HttpResponse:
    """Queue an e-mail: an async view, an ordinary function in the background."""
    form = PostcardForm(request.POST)
    if not form.is_valid():
        return await sync_to_async(correct)(request, postcard_form=form)
    postcard = await Postcard.objects.acreate(**form.cleaned_data)
    handles.remember(items.send_postcard.queue(request, postcard.pk))
    return done(request, f"The postcard to {postcard.address} is on its way.")


@require_POST
def send_letter(request: HttpRequest) -> HttpResponse:
    """Send an e-mail as any view does: the site's backend for mail queues it."""
    form = PostcardForm(request.POST)
    if not form.is_valid():
        return correct(request, postcard_form=form)
    address = form.cleaned_data["address"]
    send_mail("Greetings", form.cleaned_data["greeting"], "gallery@example.com", [address])
    return done(request, f"The letter to {address} is on its way.")


@require_POST
def order_album(request: HttpRequest) -> HttpResponse:
    """Queue a PDF: the function has no `queue` of its own, the options stand at the call.

    The visitor goes on to a page with a bar. Its address is all that is kept: no session, no row.
    """
    album = Album.objects.create()
    handle = queue_background_work_item(
        items.make_album,
        request,
        album.pk,
        name="album",
        timeout=120,
        expires=600,
        executor="process",
        labels={"album": album.pk},
    )  # nobody waits at that page for ten minutes until it begins
    handles.remember(handle)
    return redirect("gallery:album", signed_id(handle))


@require_POST
def order_overview(request: HttpRequest) -> HttpResponse:
    """Queue a sheet of all pictures for a moment later: more presses until then are the same item."""
    handle = items.draw_overview.using(delay=2 * settings.GALLERY_PAUSE).queue(800)
    handles.remember(handle)
    return done(request, f"An overview is drawn in a moment, by the item {handle.id[:8]}.")


@require_POST
def copy_to_mirror(request: HttpRequest) -> HttpResponse:
    """Enqueue a task of Django's framework, which knows its result by the id of the work item."""
    upload = Upload.objects.last()
    if upload is None:
        return done(request, "There is no picture yet.")
    result = tasks.mirror.enqueue(upload.pk)
    return done(request, f"The newest picture is copied by the task {result.id[:8]}.")


@require_safe
def album(request: HttpRequest, signed_id: str) -> HttpResponse:
    """Show how far the printing of an album is, whichever process prints it."""
    return render(request, "gallery/album.html", {"signed_id": signed_id})


@require_POST
def start_count(request: HttpRequest) -> HttpResponse:
    """Count on a thread."""
    form = CountForm(request.POST)
    if not form.is_valid():
        return correct(request, count_form=form)
    row = form.save()
    handles.remember(items.count.using(name=f"count to {row.goal}").queue(row.pk))
    return done(request, f"Counting to {row.goal}, until it is cancelled.")


@require_POST
async def start_many_counts(request: HttpRequest) -> HttpResponse:
    """Queue a hundred counts from the event loop, which goes on while they wait for room in a full queue."""
    fan_out = items.count.using(wait_for_room=10)  # seconds, for each
    for _ in range(MANY):
        row = await Count.objects.acreate(goal=1)
        handles.remember(await fan_out.aqueue(row.pk))
    return done(request, f"{MANY} counts to 1 are on their way.")


@require_POST
def start_count_on(request: HttpRequest) -> HttpResponse:
    """Count on a thread, and after a shutdown in the worker of an engine."""
    form = CountForm(request.POST)
    if not form.is_valid():
        return correct(request, count_form=form)
    row = form.save()
    handles.remember(items.count_on.using(name=f"count on to {row.goal}").queue(row.pk))
    return done(request, f"Counting to {row.goal}, also beyond a shutdown if there is an engine.")


@require_POST
async def start_count_to_the_end(request: HttpRequest) -> HttpResponse:
    """Count on the event loop: an async view, an async function in the background."""
    form = CountForm(request.POST)
    if not form.is_valid():
        return await sync_to_async(correct)(request, count_form=form)
    row = await Count.objects.acreate(**form.cleaned_data)
    handles.remember(items.count_to_the_end.using(name=f"count to {row.goal}, to the end").queue(row.pk))
    return done(request, f"Counting to {row.goal}, to the end if there is time.")


@require_POST
def start_backup(request: HttpRequest) -> HttpResponse:
    """Start a thread as before, and track it: it is listed, and waited for at a shutdown, which stops it."""
    backup = Backup(list(Upload.objects.order_by("pk").values_list("picture", flat=True)))
    backup.start()
    handle = track(backup, name="backup")
    handle.token.register(backup.stop)
    handles.remember(handle)
    return done(request, f"A thread of the site packs {len(backup.pictures)} pictures.")


@require_POST
def cancel(request: HttpRequest, item_id: str) -> HttpResponse:
    """Cancel one item: this sets its token, the item itself decides how to end."""
    handle = handles.find(item_id)
    if handle is not None and handle.cancel("cancelled on the page"):
        return done(request, f"“{handle.name}” is asked to stop.")
    return done(request, "That item has ended, is cancelled already, or belongs to another process.")


def what_to_show(**forms: BaseForm) -> dict[str, Any]:
    """Collect what the page lists."""
    live = live_items()
    return {
        "upload_form": UploadForm(),
        "postcard_form": PostcardForm(initial={"address": "you@example.com", "greeting": "Greetings!"}),
        "count_form": CountForm(),
        **forms,
        "pid": os.getpid(),
        "live": live,
        "can_cancel": {info.id for info in live if handles.find(info.id) and not info.cancel_reason},
        "recent": recent_items()[:SHOWN],
        "uploads": Upload.objects.order_by("-pk").prefetch_related("thumbnails")[:SHOWN],
        "postcards": Postcard.objects.order_by("-pk")[:SHOWN],
        "albums": Album.objects.order_by("-pk")[:SHOWN],
        "counts": Count.objects.order_by("-pk")[:SHOWN],
    }


def done(request: HttpRequest, message: str) -> HttpResponse:
    """Say what happened, on the page that the browser loads next."""
    messages.success(request, message)
    return redirect("gallery:home")


def correct(request: HttpRequest, **forms: BaseForm) -> HttpResponse:
    """Show the page again with a form that needs a correction."""
    return render(request, "gallery/home.html", what_to_show(**forms), status=422)
