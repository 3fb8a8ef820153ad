"""Mail that leaves the request: `EMAIL_BACKEND = "django_qbwi.contrib.mail.BackgroundEmailBackend"`, and no app."""

from django_qbwi.contrib.mail.backend import BackgroundEmailBackend
from django_qbwi.contrib.mail.delivery import MailNotSent
from django_qbwi.contrib.mail.transience import MailRetry, is_transient

__all__ = ["BackgroundEmailBackend", "MailNotSent", "MailRetry", "is_transient"]
