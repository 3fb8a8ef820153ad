"""What a visitor sees if the scheduler refuses an item."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.deprecation import MiddlewareMixin

from django_qbwi import WorkItemRejected


class RefusalMiddleware(MiddlewareMixin):
    """Turn a refusal (too much is queued already, or the server is about to end) into a page that says so."""

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Answer 503 to a refusal; leave every other failure alone."""
        if not isinstance(exception, WorkItemRejected):
            return None
        response = render(request, "gallery/busy.html", {"refusal": exception}, status=503)
        response["Retry-After"] = "10"
        return response
