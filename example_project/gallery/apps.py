from django.apps import AppConfig


class GalleryConfig(AppConfig):
    """The one app of the example site."""

    name = "example_project.gallery"
    label = "gallery"
