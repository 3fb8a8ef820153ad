"""The admin page: what runs in all processes of the site, since when, where it is, and a way to stop it.

Registered with the default admin site; with another one by `site.register(WorkItem, WorkItemAdmin)`. All that it shows
comes from `operations`. Every view checks its permission itself; only a POST changes anything.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import django
from django.contrib import admin, messages
from django.contrib.admin.models import LogEntry
from django.contrib.admin.options import get_content_type_for_model
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, router, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse, QueryDict
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_qbwi import hosting
from django_qbwi.console import dashboard, operations
from django_qbwi.console.links import links
from django_qbwi.console.text import long_span, printable_lines
from django_qbwi.core.exceptions import WorkItemNotFound
from django_qbwi.core.names import printable
from django_qbwi.models import WorkItem

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[WorkItem]
else:
    _ModelAdmin = admin.ModelAdmin

REFRESH_SECONDS = ("2", "5", "15")

_MAX_CANCELLED_AT_ONCE = 500
_TEMPLATES = "admin/django_qbwi/workitem"

logger = logging.getLogger("django_qbwi.inspection")


@admin.register(WorkItem)
class WorkItemAdmin(_ModelAdmin):
    """Lists work items, shows one, cancels some; nothing is added, changed or deleted."""

    def get_urls(self) -> list[URLPattern]:
        """Name the views as every model's are named: links of the admin's log lead to the item."""
        view = self.admin_site.admin_view
        return [
            path("", view(self.changelist_view), name=self._url_name("changelist")),
            path("statistics/", view(self.statistics_view), name=self._url_name("statistics")),
            path("cancel/", view(self.cancel_view), name=self._url_name("cancel")),
            path("<path:object_id>/change/", view(self.change_view), name=self._url_name("change")),
        ]

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Items are queued by code."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Items do not change by hand."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Items are forgotten by themselves."""
        return False

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may cancel items: `django_qbwi.cancel_workitem`, and seeing them."""
        user = request.user
        return self.has_view_permission(request) and user.has_perm(f"{self.opts.app_label}.cancel_workitem")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show all processes and their items, or with `format=json` what the command prints as JSON."""
        self._require(self.has_view_permission(request))
        filters = dashboard.Filters.of(request.GET)
        overview = operations.overview().to_dict()
        if request.GET.get("format") == "json":
            return JsonResponse(dashboard.narrow(overview, filters), json_dumps_params={"indent": 2})
        context = {
            "title": _("Work items"),
            "live": True,
            "page": dashboard.compose(overview, filters, _now()),
            "filters": filters,
            "statuses": dashboard.STATUSES,
            "kinds": dashboard.KINDS,
            "json_query": urlencode({**filters.active, "format": "json"}),
        }
        return self._render(request, "change_list", context, extra_context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show one item, its times, and where it is right now."""
        self._require(self.has_view_permission(request))
        item_id = unquote(object_id)
        try:
            found = operations.find(item_id).to_dict()
        except WorkItemNotFound:
            context: dict[str, Any] = {
                "title": _("Work item not found"),
                "item_id": printable(item_id),
                "log": self._log_of(item_id),
            }
            return self._render(request, "not_found", context, extra_context, status=404)
        item = dashboard.detail(found["item"], _now())
        context = {
            "title": item.name,
            "live": True,
            "item": item,
            "filters": dashboard.Filters.of(request.GET),
            "host": printable(str(found["process"]["host"])),
            "server": printable(str(found["process"]["server"])),
            "told": long_span(found["process"].get("age")),
            "stack": printable_lines(found["stack"] or ""),
            "lines": [dashboard.LineRow.of(line) for line in found["log"]],
            "links": links(_link_templates(), {**found["item"], "trace_id": found["trace_id"]}),
            "log": self._log_of(item.id),
        }
        return self._render(request, "change_form", context, extra_context)

    def statistics_view(self, request: HttpRequest) -> HttpResponse:
        """Show for each name how many items have ended, and how long they waited and ran."""
        self._require(self.has_view_permission(request))
        found = operations.statistics()
        asked = found.asked
        context = {
            "title": _("Numbers by name"),
            "live": True,
            "names": [dashboard.NameRow.of(row) for row in found.names],
            "answered": len(asked.answered),
            "asked": len(asked.answered) + len(asked.unresponsive) + len(asked.refused),
        }
        return self._render(request, "statistics", context, None)

    def cancel_view(self, request: HttpRequest) -> HttpResponse:
        """Ask whether the posted items shall be cancelled, and with `confirm` cancel them."""
        self._require(self.has_cancel_permission(request))
        # What is not printable as it stands is no id of ours; it shall not come back in a page either.
        ids = [item_id for item_id in dict.fromkeys(request.POST.getlist("item")) if printable(item_id) == item_id]
        if not ids:
            if request.method == "POST":
                self.message_user(request, _("No work item was selected."), messages.WARNING)
            return self._back(request)
        if len(ids) > _MAX_CANCELLED_AT_ONCE:
            text = _("Select at most %(most)s work items at once.") % {"most": _MAX_CANCELLED_AT_ONCE}
            self.message_user(request, text, messages.ERROR)
            return self._back(request)
        rows = self._rows(ids)
        if "confirm" in request.POST:
            self._cancel(request, ids, {row.id: row.name for row in rows})
            return self._back(request)
        context = {
            "title": _("Are you sure?"),
            "rows": rows,
            "unknown": [item_id for item_id in ids if item_id not in {row.id for row in rows}],
            "ids": ids,
            "back": "item" if request.POST.get("back") == "item" else "",
            "back_url": self._back(request).url,
        }
        return self._render(request, "cancel_confirmation", context, None)

    def _cancel(self, request: HttpRequest, ids: list[str], names: dict[str, str]) -> None:
        results = operations.cancel(ids, by=printable(request.user.get_username()))
        cancelled = [item_id for item_id in ids if results.outcomes[item_id]]
        requested = [item_id for item_id in ids if item_id in results.requested]
        late = sum(results.outcomes[item_id] is False for item_id in ids)
        unknown = len(ids) - len(cancelled) - late - len(requested)
        if cancelled:
            text = ngettext(
                "Cancellation of %(count)d work item was requested.",
                "Cancellation of %(count)d work items was requested.",
                len(cancelled),
            )
            self.message_user(request, text % {"count": len(cancelled)}, messages.SUCCESS)
        if requested:
            text = ngettext(
                "Cancellation of %(count)d work item on another host was requested: it is picked up within "
                "%(seconds)d seconds.",
                "Cancellation of %(count)d work items on other hosts was requested: it is picked up within "
                "%(seconds)d seconds.",
                len(requested),
            )
            text %= {"count": len(requested), "seconds": results.pick_up_seconds}
            self.message_user(request, text, messages.SUCCESS)
        if late:
            text = ngettext(
                "%(count)d work item had ended, or its cancellation had been requested before.",
                "%(count)d work items had ended, or their cancellation had been requested before.",
                late,
            )
            self.message_user(request, text % {"count": late}, messages.INFO)
        if unknown:
            text = ngettext(
                "%(count)d work item was not found: no process that answered knows it.",
                "%(count)d work items were not found: no process that answered knows them.",
                unknown,
            )
            self.message_user(request, text % {"count": unknown}, messages.WARNING)
        if results.error:
            self.message_user(request, printable(results.error), messages.WARNING)
        asked = [*cancelled, *requested]
        self._record(request, [WorkItem(id=item_id, name=names.get(item_id, item_id)) for item_id in asked])

    def _record(self, request: HttpRequest, cancelled: list[WorkItem]) -> None:
        try:
            with transaction.atomic(using=router.db_for_write(LogEntry)):
                for item in cancelled:
                    # The one way to write the admin's log that is the same from Django 5.2 to 6.1, and that sites
                    # override to keep a log of their own.
                    self.log_change(request, item, "Cancellation requested.")
        except DatabaseError:
            # The items are cancelled, and `operations` logged by whom.
            logger.exception("Cancelling %d work item(s) could not be written to the admin's log", len(cancelled))
            self.message_user(request, _("The cancellation could not be written to the log."), messages.WARNING)

    def _rows(self, ids: list[str]) -> list[dashboard.ItemRow]:
        """Describe those of the items that a process knows, in the order of the ids."""
        if len(ids) == 1:
            try:
                found = [operations.find(ids[0]).item]
            except WorkItemNotFound:
                found = []
        else:
            records = [process.record for process in operations.overview().processes]
            found = [item for record in records for item in (*record.items, *record.recent)]
        now = _now()
        known = {item["id"]: item for item in found}
        return [dashboard.ItemRow.of(known[item_id], now) for item_id in ids if item_id in known]

    def _log_of(self, item_id: str) -> list[LogEntry]:
        content_type = get_content_type_for_model(self.model)
        entries = LogEntry.objects.filter(content_type=content_type, object_id=item_id).select_related("user")
        return list(entries.order_by("action_time")[:20])

    def _back(self, request: HttpRequest) -> HttpResponseRedirect:
        """Return to where the form was: the item, or the list with its filters."""
        source = QueryDict(request.POST.get("query", ""))
        query = self._query(source)
        ids = request.POST.getlist("item")
        if request.POST.get("back") == "item" and len(ids) == 1:
            url = reverse(f"admin:{self._url_name('change')}", args=[quote(ids[0])], current_app=self.admin_site.name)
        else:
            url = reverse(f"admin:{self._url_name('changelist')}", current_app=self.admin_site.name)
        return HttpResponseRedirect(f"{url}?{query}" if query else url)

    def _query(self, source: QueryDict) -> str:
        refresh = _refresh(source)
        return urlencode({**dashboard.Filters.of(source).active, **({"refresh": refresh} if refresh else {})})

    def _render(
        self,
        request: HttpRequest,
        template: str,
        context: dict[str, Any],
        extra_context: dict[str, Any] | None,
        status: int = 200,
    ) -> TemplateResponse:
        request.current_app = self.admin_site.name
        source = QueryDict(request.POST.get("query", "")) if request.method == "POST" else request.GET
        common = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "may_cancel": self.has_cancel_permission(request),
            "query": self._query(source),
            "refresh": _refresh(source),
            "refresh_choices": REFRESH_SECONDS,
            "breadcrumbs_are_a_list": django.VERSION >= (6, 1),
            "as_of": _now(),
        }
        context = {**common, **context, **(extra_context or {})}
        return TemplateResponse(request, f"{_TEMPLATES}/{template}.html", context, status=status)

    def _url_name(self, view: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{view}"

    @staticmethod
    def _require(allowed: bool) -> None:
        if not allowed:
            raise PermissionDenied


def _link_templates() -> Mapping[str, str] | None:
    return hosting.this_process().current.settings.links


def _now() -> datetime.datetime:
    # Not Django's, which is naive where USE_TZ is False: the times of an item are aware everywhere.
    return datetime.datetime.now(tz=datetime.UTC)


def _refresh(source: QueryDict) -> str:
    value = source.get("refresh", "")
    return value if value in REFRESH_SECONDS else ""
