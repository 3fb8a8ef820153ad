"""One address, which sends mails as any view does."""

from django.core.mail import EmailMessage, send_mail, send_mass_mail
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path

from tests.processes.site import views


def send(request: HttpRequest, number: int) -> HttpResponse:
    """Send one mail, or three at once; every third request does it in a transaction."""
    if number % 3 == 0:
        with transaction.atomic():
            return HttpResponse(str(_send(number)))
    return HttpResponse(str(_send(number)))


def _send(number: int) -> int:
    if number % 10 == 0:
        return send_mass_mail([(f"{number}{part}", "text", "shop@example.com", ["a@example.com"]) for part in "abc"])
    if number % 10 == 5:
        return EmailMessage(str(number), "text", "shop@example.com", ["a@example.com"]).send()
    return send_mail(str(number), "text", "shop@example.com", ["a@example.com"])


urlpatterns = [path("pid", views.pid), path("send/<int:number>", send)]
