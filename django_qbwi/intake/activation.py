"""Language, time zone, script prefix and URLconf of a snapshot, active for the time of a block.

Set through Django's own functions, never by copying a context: asgiref's Locals know their thread since 3.12, and a
value that came along with a copied context would not be seen.
"""

from __future__ import annotations

import contextlib
import datetime
import re
import zoneinfo
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from contextvars import copy_context
from typing import Any

from django.urls import get_script_prefix, get_urlconf, set_script_prefix, set_urlconf
from django.utils import timezone, translation

from django_qbwi.core.items import current_item
from django_qbwi.intake.snapshot import RequestSnapshot

Surroundings = AbstractContextManager[Any] | AbstractAsyncContextManager[Any]

_OFFSET = re.compile(r"UTC([+-])(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{6}))?)?")


@contextlib.contextmanager
def active(snapshot: RequestSnapshot) -> Iterator[None]:
    """Make what the snapshot says active in this thread and context; what it leaves open is not touched."""
    with contextlib.ExitStack() as stack:
        if snapshot.language is not None:
            stack.enter_context(translation.override(snapshot.language))
        if snapshot.time_zone is not None:
            stack.enter_context(timezone.override(_zone(snapshot.time_zone)))
        stack.callback(set_script_prefix, get_script_prefix())
        set_script_prefix(snapshot.script_name or "/")
        if snapshot.urlconf is not None:
            stack.callback(set_urlconf, get_urlconf())
            set_urlconf(snapshot.urlconf)
        yield


def remember_context() -> None:
    """Keep what is in force now for the record of the current item's end, if this is the code of one."""
    item = current_item()
    if item is not None and item.runs:
        item.run.context = copy_context()


class SurroundedAwaitable:
    """An awaitable that is awaited inside of a context manager; one that is never awaited can be closed.

    For what a plain function returned: it ran in a worker's thread, and the awaitable runs on the event loop's, where
    thread locals and asgiref's Locals of the worker are not seen.
    """

    __slots__ = ("_awaitable", "_enter")

    def __init__(self, awaitable: Awaitable[Any], enter: Callable[[], Surroundings]) -> None:
        self._awaitable = awaitable
        self._enter = enter

    def __await__(self) -> Generator[Any, None, Any]:
        return self._run().__await__()

    def close(self) -> None:
        """Close the awaitable, which is not going to be awaited."""
        close = getattr(self._awaitable, "close", None)
        if close is not None:
            close()

    async def _run(self) -> Any:
        surroundings = self._enter()
        if isinstance(surroundings, AbstractAsyncContextManager):
            async with surroundings:
                return await self._wait()
        with surroundings:
            return await self._wait()

    async def _wait(self) -> Any:
        try:
            return await self._awaitable
        finally:
            remember_context()


def _zone(name: str) -> datetime.tzinfo:
    offset = _OFFSET.fullmatch(name)
    if offset is None:
        return zoneinfo.ZoneInfo(name)
    sign, *parts = offset.groups()
    hours, minutes, seconds, microseconds = (int(part or 0) for part in parts)
    span = datetime.timedelta(hours=hours, minutes=minutes, seconds=seconds, microseconds=microseconds)
    return datetime.timezone(-span if sign == "-" else span)
