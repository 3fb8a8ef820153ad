"""The strictest Content-Security-Policy that Django's own admin site lives with."""

from collections.abc import Callable

import django
from django.http import HttpRequest, HttpResponse

POLICY = {
    "default-src": ["'none'"],
    "script-src": ["'self'"],
    "style-src": ["'self'"],
    "img-src": ["'self'"],
    "connect-src": ["'self'"],
    "form-action": ["'self'"],
    "base-uri": ["'none'"],
    "frame-ancestors": ["'none'"],
}


def policy_middleware(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Send the policy where Django has no middleware for it: before 6.0."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response["Content-Security-Policy"] = "; ".join(f"{name} {' '.join(entry)}" for name, entry in POLICY.items())
        return response

    return middleware


MIDDLEWARE = (
    "django.middleware.csp.ContentSecurityPolicyMiddleware"
    if django.VERSION >= (6, 0)
    else f"{__name__}.policy_middleware"
)
