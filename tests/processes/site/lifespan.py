"""The ASGI application with a lifespan; without django_qbwi, Django's own."""

from django.conf import settings

if settings.HOSTED:
    from django_qbwi.asgi import get_asgi_application
else:
    from django.core.asgi import get_asgi_application

application = get_asgi_application()
