"""Another URLconf."""

from django.urls import path

from tests.snapshots.pages import page

urlpatterns = [path("elsewhere/", page, name="page")]
