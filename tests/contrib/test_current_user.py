"""`django_qbwi.contrib.current_user`: who has caused a change that an item makes (G55)."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import AnonymousUser, User
from django.test import override_settings
from django.utils.functional import SimpleLazyObject

from django_qbwi import queue_background_work_item
from django_qbwi.contrib.current_user import CurrentUserCarrier
from django_qbwi.core.exceptions import UserNotRead

PATIENCE = 30
ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("crum", "simple_history", "auditlog")
kept_elsewhere: ContextVar[Any] = ContextVar("kept_elsewhere", default=None)


class OwnCarrier(CurrentUserCarrier):
    """Finds the user where this project keeps it."""

    def user(self) -> Any:
        """Return it."""
        return kept_elsewhere.get()


@pytest.fixture
def crum(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """As much of django-crum as is used, and none of the other libraries."""
    module: Any = types.ModuleType("crum")
    local = threading.local()

    @contextlib.contextmanager
    def impersonate(user: Any) -> Iterator[None]:
        before = getattr(local, "user", None)
        local.user = user
        try:
            yield
        finally:
            local.user = before

    module._thread_locals = local
    module.get_current_user = lambda: getattr(local, "user", None)
    module.impersonate = impersonate
    for name in ("django_currentuser.middleware", "simple_history.models", "auditlog.context"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "crum", module)
    with override_settings(QBWI={"CONTEXT": ["django_qbwi.contrib.current_user"], "MAX_WORKERS": 1}):
        yield module


def seen_by(crum: Any) -> Any:
    """Return whom the library knows in an item."""
    seen: list[Any] = []
    handle = queue_background_work_item(lambda token: seen.append(str(crum.get_current_user())))
    assert handle.wait(PATIENCE)
    assert handle.info.error is None
    return seen[0]


@pytest.mark.django_db(transaction=True)
def test_g55_user_is_taken_along(crum: Any) -> None:
    """The item sees the user of its caller, fetched afresh; the next one, queued by nobody, sees none."""
    ada = User.objects.create(username="ada")
    with crum.impersonate(ada):
        User.objects.update(username="countess")
        assert seen_by(crum) == "countess"
    assert seen_by(crum) == "None"


@pytest.mark.django_db(transaction=True)
def test_g55_user_that_is_gone(crum: Any) -> None:
    """Of a user who is gone by then nobody is made; one who was deactivated has still done it."""
    ada = User.objects.create(username="ada")
    with crum.impersonate(ada):
        User.objects.update(is_active=False)
        assert seen_by(crum) == "ada"
        User.objects.all().delete()
        assert seen_by(crum) == "AnonymousUser"


@pytest.mark.django_db(transaction=True)
def test_g55_no_user(crum: Any) -> None:
    """An anonymous user is not taken along."""
    with crum.impersonate(AnonymousUser()):
        assert seen_by(crum) == "None"


@pytest.mark.django_db(transaction=True)
def test_g55_async_item_and_thread_locals(crum: Any) -> None:
    """The thread local of the loop's thread, which all async items share, is left alone; that of its ORM calls is
    set, and empty again for the next item."""
    ada = User.objects.create(username="ada")
    seen: list[Any] = []

    async def item(token: object) -> None:
        seen.append(crum.get_current_user())
        seen.append(await sync_to_async(lambda: str(crum.get_current_user()))())

    with crum.impersonate(ada):
        assert queue_background_work_item(item).wait(PATIENCE)
    assert queue_background_work_item(item).wait(PATIENCE)
    assert seen == [None, "ada", None, "None"]


@pytest.mark.django_db(transaction=True)
def test_g55_lazy_user_on_a_loop(crum: Any) -> None:
    """On a running event loop a user who was not loaded is not loaded: refused, with the cure."""
    User.objects.create(username="ada")
    lazy = SimpleLazyObject(lambda: User.objects.get())

    async def view() -> None:
        with crum.impersonate(lazy):
            with pytest.raises(UserNotRead, match=r"await request\.auser\(\)"):
                queue_background_work_item(lambda token: None)
            await sync_to_async(str)(lazy)
            assert await queue_background_work_item(lambda token: None)

    async_to_sync(view)()


@pytest.mark.django_db(transaction=True)
def test_g55_user_that_is_kept_elsewhere(crum: Any) -> None:
    """A carrier that is derived says where the user of the caller is."""
    token = kept_elsewhere.set(User.objects.create(username="ada"))
    with override_settings(QBWI={"CONTEXT": [f"{__name__}.OwnCarrier"]}):
        assert seen_by(crum) == "ada"
    kept_elsewhere.reset(token)


@pytest.mark.slow
def test_g55_real_libraries() -> None:
    """With the real ones: nobody without the carrier, in a thread and at the call alike; with it, the user.

    Of a further attempt too, of what a transaction's commit queues, and of what an item queues.
    """
    for package in PACKAGES:
        pytest.importorskip(package, reason=f"{package} is not installed")
    command = [sys.executable, "-m", "tests.contrib.current_user_program"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert result.returncode == 0, result.stderr
    played = json.loads(result.stdout)
    optional = ("currentuser",) if importlib.util.find_spec("django_currentuser") else ()
    libraries = ("crum", "history", "auditlog", *optional)
    assert len(played) == 11
    everybody = dict.fromkeys(libraries, "ada")
    for case, seen in played.items():
        if case.endswith("without"):
            assert seen == dict.fromkeys(libraries, ""), case
        else:
            assert seen == everybody, case
