"""The address of the view, in the three ways that sites may have it, and pages with bars."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.urls import include, path

from django_qbwi.views import progress

SHOWN: dict[str, Any] = {}
"""What a page shows: `item`, set by a test."""
PAGE = """<!doctype html><html lang="en"><head><title>Bars</title></head>
<body>{% load qbwi %}<p id="first">{% work_item_progress item label="Making the album" %}</p>
<p id="second">{% work_item_progress item %}</p></body></html>"""


def page(request: HttpRequest) -> HttpResponse:
    """Show the item twice."""
    return HttpResponse(engines["django"].from_string(PAGE).render(SHOWN, request))


urlpatterns = [
    path("progress/<str:signed_id>/", progress, name="progress"),
    path("short/<str:signed_id>/", progress, {"max_age": 60}, name="short"),
    path("shop/", include(([path("p/<str:signed_id>", progress, name="progress")], "shop"))),
    path("page/", page),
]
