"""Which site this process belongs to, and the keys by which its processes know one another."""

from __future__ import annotations

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from django_qbwi.inspection.channel import Site


def sites() -> list[Site]:
    """Return this site under SECRET_KEY, then under each of SECRET_KEY_FALLBACKS.

    A process listens under the first; it is looked for under all, and accepts the keys of all, so that a key can be
    rotated one process after the other. Sites that share a key are told apart by settings module and ROOT_URLCONF.

    Raises:
        ImproperlyConfigured: There is no SECRET_KEY.
    """
    parts = (getattr(settings, "SETTINGS_MODULE", None) or "", str(getattr(settings, "ROOT_URLCONF", "")))
    secrets = [settings.SECRET_KEY, *getattr(settings, "SECRET_KEY_FALLBACKS", ())]
    if not secrets[0]:
        raise ImproperlyConfigured("SECRET_KEY is empty: the processes of a site know one another by it")
    return [Site.of(_bytes(secret), *parts) for secret in secrets]


def _bytes(secret: str | bytes) -> bytes:
    return secret if isinstance(secret, bytes) else str(secret).encode("utf-8", "surrogatepass")
