"""Django settings of the benchmarks: the app, and nothing that would be measured with it."""

SECRET_KEY = "for the benchmarks only"
INSTALLED_APPS = ["django_qbwi"]
QBWI = {"MAX_QUEUED": 1_000_000, "MAX_DELAYED": 1_000_000}
USE_TZ = True
