"""The site of the harness, with its mail in the background; the sink's port comes from the environment."""

import os

import django

from tests.processes.site.settings import *  # noqa: F403

ROOT_URLCONF = "tests.processes.mailing.urls"
_OURS = "tests.processes.mailing.quick.QuickBackend"
_PORT = int(os.environ.get("QBWI_SINK_PORT", "25"))

if django.VERSION >= (6, 1):
    MAILERS = {"default": {"BACKEND": _OURS, "OPTIONS": {"host": "127.0.0.1", "port": _PORT}}}
else:
    EMAIL_BACKEND, EMAIL_HOST, EMAIL_PORT = _OURS, "127.0.0.1", _PORT
