"""`{% load qbwi %}`: how far a work item is, on a page of the site."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from django import template
from django.core.exceptions import ImproperlyConfigured
from django.core.signing import BadSignature
from django.template import Context
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _

from django_qbwi import views
from django_qbwi.console import following
from django_qbwi.core.exceptions import QBWIError
from django_qbwi.core.items import WorkItemHandle
from django_qbwi.core.names import name_of
from django_qbwi.core.records import WorkItemInfo, WorkItemStatus
from django_qbwi.machine.running_loop import on_running_loop

register = template.Library()

_UNKNOWN: dict[str, Any] = {"status": "unknown", "ended": False, "progress": None}


@register.inclusion_tag("django_qbwi/progress.html", takes_context=True)
def work_item_progress(
    context: Context,
    item: WorkItemHandle | WorkItemInfo | str | None,
    label: str | None = None,
    view: str | Callable[..., Any] = views.progress,
) -> dict[str, Any]:
    """Render a bar that a script keeps up to date until the item has ended; nothing for None.

    Args:
        context: That of the template.
        item: A handle, an info, or what `views.signed_id` has made of one.
        label: What the bar is for, for those who do not see the page.
        view: The name of the view `progress` in the URLconf; needed where it stands in a namespace, or is wrapped.
    """
    if item is None or item == "":
        return {}
    told = _told(item)
    words = {str(status): _(str(status).replace("_", " ")) for status in WorkItemStatus} | {"unknown": _("unknown")}
    return {
        "address": "" if told["ended"] else _address(view, item if isinstance(item, str) else views.signed_id(item)),
        "label": label or _("Progress"),
        "status": told["status"],
        "word": words.get(told["status"], told["status"]),
        "words": json.dumps(words),
        "bar": _bar(told),
        "csp_nonce": context.get("csp_nonce", getattr(context.get("request"), "csp_nonce", None)),
    }


def _told(item: WorkItemHandle | WorkItemInfo | str) -> dict[str, Any]:
    if isinstance(item, WorkItemHandle):
        item = item.info
    if isinstance(item, WorkItemInfo):
        return following.face(item.to_dict())
    if not isinstance(item, str):
        raise TypeError(
            "work_item_progress takes the handle of a work item, its info, or what django_qbwi.views.signed_id "
            f"returns, not a {name_of(type(item))}"
        )
    if on_running_loop():
        # Asking another process would hold up the loop; the script asks in a moment.
        return _UNKNOWN
    try:
        return following.face(following.look_up(*following.read(item)))
    except (BadSignature, QBWIError):
        # The page is of more than the bar, and it may be over with the item.
        return _UNKNOWN


def _address(view: str | Callable[..., Any], signed: str) -> str:
    try:
        return reverse(view, args=[signed])
    except NoReverseMatch as error:
        raise ImproperlyConfigured(
            "work_item_progress finds no address for the progress of an item: put "
            'path("progress/<str:signed_id>/", django_qbwi.views.progress) into the URLconf; where it stands in a '
            'namespace, or is wrapped, give it a name, and the tag view="that name"'
        ) from error


def _bar(told: dict[str, Any]) -> dict[str, str]:
    """Return what progress.js makes of the same answer."""
    progress = told["progress"] or {"fraction": None, "percent": None, "total": None, "done": None, "text": ""}
    fraction, amount = progress["fraction"], ""
    if told["status"] == "succeeded":
        # Also where the last report came before the end, or never.
        fraction, amount = 1.0, "100 %"
    elif fraction is not None:
        amount = f"{progress['percent']} %"
    elif progress["done"] is not None:
        amount = f"{progress['done']:g}" if isinstance(progress["done"], float) else str(progress["done"])
    if fraction is None and told["ended"]:
        fraction = 0.0
    return {"value": "" if fraction is None else f"{fraction:.4f}", "amount": amount, "text": progress["text"]}
