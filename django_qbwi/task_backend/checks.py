"""What can be wrong with an alias of `settings.TASKS`."""

from __future__ import annotations

import difflib
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error

from django_qbwi import conf
from django_qbwi.core.exceptions import InvalidWorkItem
from django_qbwi.handoff.engines import Engine, problem_of
from django_qbwi.handoff.frameworks import Framework
from django_qbwi.task_backend.policy import retry_from
from django_qbwi.task_backend.pools import refuse_wrong_pool

OPTIONS = ("HAND_OFF", "ON_COMMIT", "POOL", "RESULTS", "RETRY")
_APP = "django_qbwi"
_EXAMPLE = '{"max_attempts": 3, "on": ["smtplib.SMTPException"], "backoff": {"first": 1.0, "longest": 60.0}}'


def problems(framework: Framework, alias: str, options: Any, queues: set[str]) -> list[CheckMessage]:
    """Return the check messages for one alias, which has these queues; none stands for any."""
    where = f'TASKS["{alias}"]["OPTIONS"]'
    if not isinstance(options, dict):
        return [_error(f"{where} is {options!r}", "Set it to a dict, or leave it out.")]
    found = []
    if not apps.is_installed(_APP):
        found.append(
            _error(f'TASKS["{alias}"] is run by {_APP}, which is not installed', f'Add "{_APP}" to INSTALLED_APPS.')
        )
    found += [_unknown(where, key) for key in options if key not in OPTIONS]
    results, using = options.get("RESULTS", 1), options.get("ON_COMMIT")
    if not isinstance(results, int) or isinstance(results, bool) or results < 0:
        found.append(_error(f'{where}["RESULTS"] is {results!r}', "Set it to an integer of 0 or more."))
    if using is not None and using not in settings.DATABASES:
        found.append(
            _error(
                f'{where}["ON_COMMIT"] is {using!r}',
                f"Set it to an alias of DATABASES: {', '.join(settings.DATABASES)}.",
            )
        )
    found += _refused(where, options.get("RETRY"))
    found += _wrong_pool(where, options.get("POOL"), queues)
    target = options.get("HAND_OFF")
    if target is not None:
        found += _misfits(f'{where}["HAND_OFF"]', Engine(framework, target), queues)
    return found


def _refused(where: str, given: Any) -> list[CheckMessage]:
    try:
        retry_from(given)
    except InvalidWorkItem as error:
        return [_error(f'{where}["RETRY"]: {error}', f"Set it to a dict as in {_EXAMPLE}, or leave it out.")]
    return []


def _wrong_pool(where: str, given: Any, queues: set[str]) -> list[CheckMessage]:
    if conf.problems(getattr(settings, conf.SETTING, {})):
        # Told of by another check.
        return []
    try:
        refuse_wrong_pool(given, conf.load().pools)
    except InvalidWorkItem as error:
        return [_error(f'{where}["POOL"]: {error}', 'Name a pool of QBWI["POOLS"], or leave it out.')]
    strange = sorted(map(repr, set(given) - queues)) if isinstance(given, dict) and queues else []
    hint = f"The queues of the alias are: {', '.join(sorted(queues))}."
    return [_error(f'{where}["POOL"] names no queue of the alias by {name}', hint) for name in strange]


def _misfits(where: str, engine: Engine, queues: set[str]) -> list[CheckMessage]:
    problem = problem_of(engine)
    if problem is not None:
        return [_error(f"{where}: {problem}", "Name an alias of TASKS that has workers of its own.")]
    missing = sorted(name for name in queues if not engine.takes_queue(name))
    if not missing:
        return []
    names = ", ".join(map(repr, missing))
    return [_error(f"{where}: {engine.alias!r} has no queue {names}", "Have both aliases list the same QUEUES.")]


def _unknown(where: str, key: Any) -> CheckMessage:
    close = difflib.get_close_matches(str(key).upper(), OPTIONS, n=1, cutoff=0.5)
    hint = f'Did you mean "{close[0]}"?' if close else f"The options are: {', '.join(OPTIONS)}."
    return _error(f"{where} has no key {key!r}", hint)


def _error(message: str, hint: str) -> CheckMessage:
    return Error(f"{message}.", hint=hint, id="qbwi.E010")
