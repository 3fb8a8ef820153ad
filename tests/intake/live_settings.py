"""Settings of the site for real servers; without a database."""

SECRET_KEY = "for the tests only"
ALLOWED_HOSTS = ["example.org", "127.0.0.1"]
ROOT_URLCONF = "tests.intake.live_site"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGES = [("en", "English"), ("de", "German")]
LANGUAGE_CODE = "en"
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
USE_X_FORWARDED_HOST = True
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "django_qbwi"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
