"""System checks of the settings; what only a running server shows is warned of when the scheduler starts."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from django.apps import apps
from django.apps.config import AppConfig
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from django_qbwi import conf
from django_qbwi.core.exceptions import InvalidWorkItem
from django_qbwi.core.names import name_of, printable
from django_qbwi.handoff.engines import engine
from django_qbwi.inspection.places import Place, find_place
from django_qbwi.intake.carriers import load_carriers
from django_qbwi.intake.decorated import DecoratedFunction
from django_qbwi.intake.options import check_pool
from django_qbwi.lifecycle import servers


def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report everything that is wrong with settings.QBWI."""
    value = getattr(django_settings, conf.SETTING, {})
    found = conf.problems(value)
    if found:
        return [Error(problem.message, hint=problem.hint, id=_error_id(problem)) for problem in found]
    loaded = conf.load()
    try:
        load_carriers(loaded.context)
    except ImproperlyConfigured as error:
        hint = "Give the dotted path of an object or a class with capture() and restore(captured)."
        return [Error(str(error), hint=hint, id="qbwi.E003")]
    python = loaded.process_python
    if python is not None and not (os.path.isfile(python) and os.access(python, os.X_OK)):
        hint = "Give the path of the python of this site, or leave it out."
        return [Error(f'QBWI["PROCESS_PYTHON"] is {python!r}, and no program', hint=hint, id="qbwi.E003")]
    if loaded.cancel_after > 0 and loaded.cancel_after >= loaded.shutdown_timeout:
        return [
            Warning(
                f'QBWI["CANCEL_AFTER"] ({loaded.cancel_after:g} s) is not below QBWI["SHUTDOWN_TIMEOUT"] '
                f"({loaded.shutdown_timeout:g} s): items are abandoned before their tokens are cancelled",
                hint="Lower CANCEL_AFTER, so that items have time to save their work.",
                id="qbwi.W001",
            )
        ]
    return []


def check_engines(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report engines that nothing can be handed off to: QBWI["ENGINE"], and those of decorated functions."""
    value = getattr(django_settings, conf.SETTING, {})
    if conf.problems(value):
        return []
    wanted = {it.hand_off: f"{name_of(it)} has hand_off={it.hand_off!r}" for it in _decorated() if it.hand_off}
    loaded = conf.load()
    for key, setting in (("ENGINE", loaded.engine), ("EMAIL_HAND_OFF", loaded.email_hand_off)):
        if setting is not None:
            wanted[setting] = f'QBWI["{key}"] is {setting!r}'
    found: list[CheckMessage] = []
    for alias, where in wanted.items():
        try:
            engine(alias)
        except ImproperlyConfigured as error:
            hint = "Name an alias of TASKS that has workers of its own."
            found.append(Error(f"{where}: {error}", hint=hint, id="qbwi.E011"))
    return found


def check_pools(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report decorated functions whose pool is none of QBWI["POOLS"]: each of their calls would be refused."""
    if conf.problems(getattr(django_settings, conf.SETTING, {})):
        return []
    pools = conf.load().pools
    found: dict[str, CheckMessage] = {}
    for function in _decorated():
        try:
            check_pool(function.pool, pools)
        except InvalidWorkItem as error:
            message = f"{name_of(function)}: {error}"
            hint = 'Add the pool to QBWI["POOLS"], or name one that is there.'
            found[message] = Error(message, hint=hint, id="qbwi.E015")
    return list(found.values())


def _decorated() -> Iterator[DecoratedFunction]:
    """Yield each decorated function in all modules that are loaded."""
    for module in list(sys.modules.values()):
        # Without `getattr`, which would have lazy modules import others.
        for value in list(getattr(module, "__dict__", {}).values()):
            if issubclass(type(value), DecoratedFunction):
                yield value


def check_mail(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report a backend that is to send mail and does not: it cannot be imported, or queues mail itself."""
    value = getattr(django_settings, conf.SETTING, {})
    if conf.problems(value):
        return []
    wanted = {'QBWI["EMAIL_BACKEND"]': conf.load().email_backend} if "EMAIL_BACKEND" in value else {}
    for alias, mailer in getattr(django_settings, "MAILERS", {}).items():
        own = mailer.get("OPTIONS", {}).get("backend")
        if own is not None and getattr(_imported(mailer.get("BACKEND")), "queues_mail", False):
            wanted[f'MAILERS["{alias}"]["OPTIONS"]["backend"]'] = own
    found: list[CheckMessage] = []
    for where, path in wanted.items():
        backend = _imported(path)
        if isinstance(backend, Exception) or getattr(backend, "queues_mail", False):
            problem = str(backend) if isinstance(backend, Exception) else "it queues mail, and sends none"
            hint = 'Give the backend that sends the mail, as "django.core.mail.backends.smtp.EmailBackend".'
            found.append(Error(f"{where} is {path!r}: {printable(problem)}", hint=hint, id="qbwi.E014"))
    return found


def _imported(path: Any) -> Any:
    """Return what stands at a dotted path, or why there is nothing."""
    try:
        return import_string(path)
    except Exception as error:
        # Importing it runs code of its own.
        return error


def check_deployment(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report settings that belong to tests and not to a deployment (`manage.py check --deploy`)."""
    value = getattr(django_settings, conf.SETTING, {})
    if not conf.problems(value) and conf.load().immediate:
        return [
            Warning(
                'QBWI["IMMEDIATE"] is True: work items run in the request that queues them',
                hint="Set it in test settings only.",
                id="qbwi.W002",
            )
        ]
    return []


def check_inspection(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Report that processes cannot look into one another, where that is wanted and should work."""
    place = find_place()
    if place is None or conf.problems(getattr(django_settings, conf.SETTING, {})) or not conf.load().inspection:
        return []
    try:
        _try(place)
    except Exception as error:
        # Whatever the system, or somebody on it, makes of the search: it must not end `runserver` and `migrate`.
        return [
            Warning(
                f"`manage.py qbwi` and the admin page can only see their own process: {printable(str(error))}",
                hint='Allow local sockets (AF_UNIX) here, or set QBWI["INSPECTION"] to False.',
                id="qbwi.W003",
            )
        ]
    return []


def check_lifespan(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Suggest the application with a lifespan, where the site says that it runs Django's own under an ASGI server.

    A new project has an asgi.py whether it uses it or not: only ASGI_APPLICATION says so. daphne speaks no lifespan.
    """
    name = getattr(django_settings, "ASGI_APPLICATION", None)
    if not isinstance(name, str) or not _may_speak_lifespan():
        return []
    module = name.rpartition(".")[0]
    imported = _imported_by(module)
    others = [found for found in imported if found.split(".")[0] in ("django_qbwi", "channels")]
    if others or not any(found.startswith("django.core.asgi") for found in imported):
        return []
    return [
        Warning(
            f"The server does not tell work items when it begins and ends: {name} is Django's own application",
            hint=f"Import get_asgi_application from django_qbwi.asgi in {module}, in place of django.core.asgi.",
            id="qbwi.W004",
        )
    ]


def _may_speak_lifespan() -> bool:
    return servers.speaks_lifespan(config.name for config in apps.get_app_configs())


def _imported_by(module: str) -> set[str]:
    """Return the names that a module imports, without importing it; none if it cannot be read."""
    try:
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            return set()
        tree = ast.parse(Path(spec.origin).read_bytes())
    except (ImportError, ValueError, OSError, SyntaxError):
        return set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def _try(place: Place) -> None:
    listener, address = place.listen("0" * 16, os.getpid())
    with contextlib.closing(listener):
        try:
            place.find([address.site])
        finally:
            place.forget(address)


def _error_id(problem: conf.Problem) -> str:
    if problem.key is None:
        return "qbwi.E001"
    return "qbwi.E003" if problem.key in conf.KEYS else "qbwi.E002"
