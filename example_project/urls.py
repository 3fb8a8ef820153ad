"""Addresses of the example site: the gallery, how far an item is, and the files that it made."""

from django.conf import settings
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import include, path
from django.views.static import serve

from django_qbwi.views import progress

urlpatterns = [
    path("", include("example_project.gallery.urls")),
    path("progress/<str:signed_id>/", progress),
    # An example serves its own files; a real site leaves that to its web server.
    path("media/<path:path>", serve, {"document_root": settings.MEDIA_ROOT}),
    *staticfiles_urlpatterns(),
]
