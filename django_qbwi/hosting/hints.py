"""What a person is told who queues at a wrong place, or in a way that may surprise; each thing once."""

from __future__ import annotations

import sys
from types import FrameType

from django.apps import AppConfig, apps

_APP = "django_qbwi"


def reason_not_ready() -> str:
    """Say why this process has no scheduler yet, and what to do."""
    if not apps.apps_ready:
        return (
            "There is no scheduler in this process: django.setup() has not run. Servers and manage.py call it; a "
            "script calls it before it queues, and the module of an app queues nothing when it is imported"
        )
    if not any(config.name == _APP for config in apps.get_app_configs()):
        return f'There is no scheduler in this process: add "{_APP}" to INSTALLED_APPS'
    if apps.ready:
        return (
            f"There is no scheduler in this process: {_APP} is in INSTALLED_APPS, but its ready() was not called; a "
            "subclass of its app config has to call super().ready()"
        )
    app = _app_being_ready()
    if app is None:
        return (
            "There is no scheduler in this process yet: this was queued while the apps are loaded, at the import of a "
            "module. Queue from ready(), or later"
        )
    return (
        f"There is no scheduler in this process yet: ready() of {app!r} queues, and {app!r} stands above {_APP!r} in "
        f"INSTALLED_APPS. Move {_APP!r} above it"
    )


def _app_being_ready() -> str | None:
    frame: FrameType | None = sys._getframe(1)
    found = None
    while frame is not None:
        config = frame.f_locals.get("self") if frame.f_code.co_name == "ready" else None
        if isinstance(config, AppConfig):
            found = config.name
        frame = frame.f_back
    return found
