"""Settings as they are on the first day: nothing of ours but the app."""

SECRET_KEY = "for the tests only"
USE_TZ = True
ROOT_URLCONF = "tests.day_one.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
INSTALLED_APPS = ["django_qbwi", "tests.day_one"]
