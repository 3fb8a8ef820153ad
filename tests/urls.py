"""No pages: a test that needs one sets its own `ROOT_URLCONF`."""

from django.urls import URLPattern, URLResolver

urlpatterns: list[URLPattern | URLResolver] = []
