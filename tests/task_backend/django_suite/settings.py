"""Settings for Django's own tests of tasks: they override TASKS themselves, and their tables are Django's."""

SECRET_KEY = "for the tests only"
USE_TZ = False
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
INSTALLED_APPS = ["django_qbwi"]
# They enqueue inside of an open transaction on purpose.
QBWI = {"WARN_IN_TRANSACTION": False}
