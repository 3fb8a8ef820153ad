"""Items that helper processes run; what they find there is written into a file."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from django.contrib.auth import get_user_model
from django.utils import translation

from django_qbwi import CancellationToken, RequestSnapshot, background_work_item, copies_request
from tests.intake.carriers import tenant


@background_work_item(executor="process")
def look(token: CancellationToken, path: str, *, word: str = "") -> None:
    """Write down what there is."""
    facts = {"main": sys.argv[0], "word": word, "tenant": tenant.get(), "language": translation.get_language()}
    Path(path).write_text(json.dumps(facts), encoding="utf-8")


def look_undecorated(token: CancellationToken, path: str) -> None:
    """Write down what there is."""
    look(token, path)


@background_work_item(executor="process")
@copies_request
def look_at_request(token: CancellationToken, request: RequestSnapshot, path: str) -> None:
    """Write down what there is, and the path of the request."""
    look(token, path, word=request.path)


@background_work_item(executor="process")
def queue_another(token: CancellationToken, path: str) -> None:
    """Try what is refused there."""
    look.queue(path)


@background_work_item(executor="process")
def use_the_database(token: CancellationToken) -> None:
    """Fail with the error of the database, which has no tables."""
    list(get_user_model().objects.all())


@background_work_item(executor="process")
def leave(token: CancellationToken, value: Any) -> None:
    """End the process."""
    os._exit(1)
