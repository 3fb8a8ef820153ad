"""Views that queue."""

from __future__ import annotations

import os
import random

from django.http import HttpRequest, HttpResponse
from django.urls import path

from django_qbwi import WorkItemRejected
from tests.soak.site import items


def pid(request: HttpRequest) -> HttpResponse:
    """Tell which process serves."""
    return HttpResponse(str(os.getpid()))


def load(request: HttpRequest) -> HttpResponse:
    """Queue one of each kind, in any order, and now and then one that outlives a drain."""
    kinds = random.sample(list(items.KINDS), len(items.KINDS))
    for kind in kinds:
        try:
            items.told(items.KINDS[kind]())
        except WorkItemRejected:
            continue
    if random.random() < 0.02:
        try:
            items.told(items.stubborn.queue())
        except WorkItemRejected:
            pass
    return HttpResponse(str(os.getpid()))


urlpatterns = [path("pid", pid), path("load", load)]
