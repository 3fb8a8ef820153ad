"""For servers of ASGI, which tell of their begin by the lifespan."""

from django_qbwi.asgi import get_asgi_application

application = get_asgi_application()
