"""The same addresses for WSGI, and under /async/ for ASGI."""

from django.urls import path

from tests.handoff.real_engines.site import views

urlpatterns = [
    path("pid", views.pid),
    path("queue", views.queue),
    path("rows", views.rows),
    path("async/pid", views.pid),
    path("async/queue", views.aqueue),
    path("async/rows", views.rows),
]
