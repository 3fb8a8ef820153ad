"""The same addresses for WSGI and ASGI; the latter under /async/ too."""

from django.urls import path

from tests.processes.site import views

urlpatterns = [
    path("pid", views.pid),
    path("queue", views.sync_queue),
    path("slow", views.sync_slow),
    path("orm", views.orm),
    path("bridge", views.bridge),
    path("handlers", views.handlers),
    path("rest", views.rest),
    path("async/pid", views.pid),
    path("async/queue", views.async_queue),
    path("async/slow", views.async_slow),
    path("async/rest", views.rest),
    path("async/handlers", views.handlers),
]
