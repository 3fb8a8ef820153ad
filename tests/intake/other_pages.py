"""Another URLconf."""

from django.urls import path

from tests.intake.pages import page

urlpatterns = [path("elsewhere/", page, name="page")]
