"""The current user in an item, for audit trails: QBWI = {"CONTEXT": ["django_qbwi.contrib.current_user"]}.

Takes the primary key of the user along, from whichever of these is installed, and makes the user theirs for the time of
the item: django-crum, django-currentuser, django-simple-history, django-auditlog. The user is fetched when one of them
asks, and once. It names who has caused the change; it is no login, and asks for no permission.

For a user that is kept elsewhere, derive:

    class Carrier(CurrentUserCarrier):
        def user(self):
            return my_middleware.current_user()
"""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.db.models.signals import pre_save
from django.utils.functional import LazyObject, SimpleLazyObject, empty

from django_qbwi.core.exceptions import UserNotRead
from django_qbwi.intake.reading import on_running_loop


class CurrentUserCarrier:
    """Takes the primary key of the current user along.

    In an async item, libraries that keep the user in a thread local (django-crum, django-currentuser) know it in the
    item's thread-sensitive code (the ORM, `sync_to_async`) only: the event loop's thread belongs to all items.
    """

    def user(self) -> Any:
        """Return the user of the caller, None for none; called in the caller's thread."""
        for library in _LIBRARIES:
            if library.module() is not None:
                user = library.user()
                if user is not None:
                    return user
        return None

    def capture(self) -> Any:
        """Return the primary key, None without a user or for an anonymous one.

        Raises:
            UserNotRead: The user was not loaded, and loading it would block the event loop that runs here.
        """
        user = self.user()
        if user is None or not issubclass(type(user), LazyObject):
            return getattr(user, "pk", None)
        if object.__getattribute__(user, "__dict__").get("_wrapped", empty) is empty and on_running_loop():
            raise UserNotRead(
                "the current user was not loaded, and cannot be on a running event loop: in the view, "
                "`await request.auser()` and give it to the library, or queue inside of sync_to_async()"
            )
        return user.pk

    @contextlib.contextmanager
    def restore(self, captured: Any, /) -> Iterator[None]:
        """Make the user the current one of each library, for the time of the item."""
        with _having(SimpleLazyObject(lambda: _fetch(captured)), _LIBRARIES):
            yield

    @contextlib.asynccontextmanager
    async def arestore(self, captured: Any, /) -> AsyncIterator[None]:
        """The same for an async item, thread locals in the thread of its ORM calls."""
        user = SimpleLazyObject(lambda: _fetch(captured))
        in_thread = [library for library in _LIBRARIES if library.keeps_in_thread and library.module() is not None]
        block = contextlib.ExitStack()
        with _having(user, [library for library in _LIBRARIES if not library.keeps_in_thread]):
            if in_thread:
                await sync_to_async(block.enter_context)(_having(user, in_thread))
            try:
                yield
            finally:
                if in_thread:
                    await sync_to_async(block.close)()


class _Library:
    """One that keeps the current user; only looked at where it is in use."""

    name: str
    keeps_in_thread = False

    @classmethod
    def module(cls) -> Any:
        """Return its module, None if nobody has imported it."""
        return sys.modules.get(cls.name)

    @classmethod
    def user(cls) -> Any:
        """Return the current user, None for none; in the caller's thread."""
        raise NotImplementedError

    @classmethod
    def having(cls, user: Any) -> AbstractContextManager[Any]:
        """Return what makes a user the current one, in the thread that enters it."""
        raise NotImplementedError


class _Crum(_Library):
    name = "crum"
    keeps_in_thread = True

    @classmethod
    def user(cls) -> Any:
        return cls.module().get_current_user()

    @classmethod
    def having(cls, user: Any) -> AbstractContextManager[Any]:
        impersonated: AbstractContextManager[Any] = cls.module().impersonate(user)
        return impersonated


class _CurrentUser(_Library):
    name = "django_currentuser.middleware"
    keeps_in_thread = True

    @classmethod
    def user(cls) -> Any:
        return cls.module().get_current_user()

    @classmethod
    def having(cls, user: Any) -> AbstractContextManager[Any]:
        having: AbstractContextManager[Any] = cls.module().SetCurrentUser(types.SimpleNamespace(user=user))
        return having


class _SimpleHistory(_Library):
    name = "simple_history.models"

    @classmethod
    def user(cls) -> Any:
        request = getattr(cls.module().HistoricalRecords.context, "request", None)
        return getattr(request, "user", None)

    @classmethod
    @contextlib.contextmanager
    def having(cls, user: Any) -> Iterator[None]:
        context = cls.module().HistoricalRecords.context
        before = getattr(context, "request", None)
        # Of a request it asks for the user only.
        context.request = types.SimpleNamespace(user=user)
        try:
            yield
        finally:
            context.request = before
            if before is None:
                del context.request


class _AuditLog(_Library):
    name = "auditlog.context"

    @classmethod
    def user(cls) -> Any:
        variable = cls.module().auditlog_value
        value: Any = variable.get(None) or {}
        # It stays there after the request, without effect once its receiver is gone.
        key = value.get("signal_duid")
        return value.get("actor") if any(receiver[0][0] == key for receiver in pre_save.receivers) else None

    @classmethod
    def having(cls, user: Any) -> AbstractContextManager[Any]:
        having: AbstractContextManager[Any] = cls.module().set_actor(user)
        return having


_LIBRARIES: Sequence[type[_Library]] = (_Crum, _CurrentUser, _SimpleHistory, _AuditLog)


@contextlib.contextmanager
def _having(user: Any, libraries: Iterable[type[_Library]]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for library in libraries:
            if library.module() is not None:
                stack.enter_context(library.having(user))
        yield


def _fetch(key: Any) -> Any:
    from django.contrib.auth.models import AnonymousUser  # only where contrib.auth is installed

    # Whoever has done it has done it, also if they were deactivated since.
    return get_user_model()._base_manager.filter(pk=key).first() or AnonymousUser()


Carrier = CurrentUserCarrier
