"""Settings of the example site: SQLite, e-mails and pictures in var/, nothing to install beside it."""

import os
from pathlib import Path

import django

VAR = Path(os.environ.get("EXAMPLE_VAR") or Path(__file__).resolve().parent / "var")
VAR.mkdir(parents=True, exist_ok=True)

DEBUG = True  # an example on your own machine; never on a public one
SECRET_KEY = "only-for-the-example-site"
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
ROOT_URLCONF = "example_project.urls"
WSGI_APPLICATION = "example_project.wsgi.application"
CONTRIB = ["django.contrib.humanize", "django.contrib.messages", "django.contrib.staticfiles"]
APPS = ["django_qbwi", "django_qbwi.contrib.history", "django_qbwi.contrib.schedules"]
INSTALLED_APPS = [*APPS, *CONTRIB, "example_project.gallery"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "example_project.gallery.middleware.RefusalMiddleware",
]
MESSAGE_STORAGE = "django.contrib.messages.storage.cookie.CookieStorage"
CONTEXT = {"context_processors": ["django.contrib.messages.context_processors.messages"]}
ENGINE = "django.template.backends.django.DjangoTemplates"
TEMPLATES = [{"BACKEND": ENGINE, "APP_DIRS": True, "OPTIONS": CONTEXT}]
SQLITE = {"timeout": 20, "transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL"}
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": VAR / "db.sqlite3", "OPTIONS": SQLITE}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
RETRY = {"max_attempts": 4, "on": ["OSError"], "backoff": {"first": 1.0, "longest": 30.0}}
TASKS = {"default": {"BACKEND": "django_qbwi.backend.WorkItemBackend", "OPTIONS": {"RETRY": RETRY}}}
TIME_ZONE, STATIC_URL = "UTC", "/static/"
MEDIA_ROOT, MEDIA_URL = VAR / "media", "/media/"

MAIL, TO_FILES = "django_qbwi.contrib.mail.BackgroundEmailBackend", "django.core.mail.backends.filebased.EmailBackend"
GALLERY_DIRECT = {}  # how an item sends that is tried again itself
if django.VERSION >= (6, 1):
    BOX, GALLERY_DIRECT = {"file_path": VAR / "mail"}, {"using": "direct"}
    MAILERS = {"default": {"BACKEND": MAIL, "OPTIONS": BOX}, "direct": {"BACKEND": TO_FILES, "OPTIONS": BOX}}
else:
    EMAIL_BACKEND, EMAIL_FILE_PATH = MAIL, VAR / "mail"

QBWI = {"MAX_WORKERS": 4, "SHUTDOWN_TIMEOUT": 90.0, "EMAIL_BACKEND": TO_FILES, "POOLS": {"mail": {"MAX_WORKERS": 2}}}
GALLERY_ENGINE = None  # the alias of TASKS that takes what a shutdown interrupts: settings_durable.py has one
GALLERY_PAUSE = 1.0  # seconds: one count, and what a slow mail server or a large picture would take

LINE = {"format": "%(asctime)s [%(process)d] %(levelname)-7s %(message)s", "datefmt": "%H:%M:%S"}
CONSOLE = {"handlers": ["console"], "level": "INFO"}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": LINE},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {"django_qbwi": CONSOLE, "example_project": CONSOLE},
}
