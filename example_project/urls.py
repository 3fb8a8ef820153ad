"""Addresses of the example site: the gallery, and the files that it made."""

from django.conf import settings
from django.urls import include, path
from django.views.static import serve

urlpatterns = [
    path("", include("example_project.gallery.urls")),
    # An example serves its own files; a real site leaves that to its web server.
    path("media/<path:path>", serve, {"document_root": settings.MEDIA_ROOT}),
]
