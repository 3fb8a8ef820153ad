"""The backend with pauses for tests."""

from django_qbwi import exponential
from django_qbwi.contrib.mail import BackgroundEmailBackend, MailRetry


class QuickBackend(BackgroundEmailBackend):
    """Tries again after a moment."""

    retry = MailRetry(max_attempts=9, backoff=exponential(first=0.1, factor=1.5, longest=1.0))
