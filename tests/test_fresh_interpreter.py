"""What only a fresh interpreter can show: imports, processes without the app, and the end of a process."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import django_qbwi
from django_qbwi.machine.primitives import STARTS_NO_THREADS_LATE
from tests.support.scripts import unexpected

CHECKOUT = Path(django_qbwi.__file__).parent.parent

SITE = """
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["django_qbwi"], **QBWI_SETTINGS)
django.setup()
from django_qbwi import *
"""


def run(script: str, *, site: bool = False, status: int = 0, stderr: str = "", **settings: object) -> list[str]:
    """Run a script in a fresh interpreter where every warning is an error; return the lines of its output."""
    begin = SITE.replace("QBWI_SETTINGS", repr(settings)) if site else ""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "PYTEST_"))}
    result = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", begin + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=CHECKOUT,
        env=environ,
    )
    assert result.returncode == status, result.stderr
    assert re.fullmatch(stderr, unexpected(result.stderr)), result.stderr
    return result.stdout.splitlines()


# Imports.


def test_import_is_free() -> None:
    """Importing the package imports no Django and no asgiref, and starts nothing."""
    assert run(
        """
        import sys, threading
        import django_qbwi
        dir(django_qbwi), django_qbwi.__version__, django_qbwi.__all__
        print([name for name in ("django", "asgiref", "asyncio") if name in sys.modules])
        print(threading.active_count())
        """
    ) == ["[]", "1"]


def test_importing_the_names_reads_no_setting() -> None:
    """All public names can be imported before there are any settings."""
    assert run(
        """
        from django_qbwi import *
        from django_qbwi import signals, testing, apps, checks, pytest_plugin
        import threading
        from django.conf import settings
        print(settings.configured, queue_background_work_item.__name__, threading.active_count())
        """
    ) == ["False queue_background_work_item 1"]


def test_pytest_plugin_imports_no_django() -> None:
    """pytest loads the plugin in every project, also in those without Django."""
    assert run(
        """
        import sys
        import django_qbwi.pytest_plugin
        print([name for name in ("django", "asgiref") if name in sys.modules])
        """
    ) == ["[]"]


def test_names_of_the_face() -> None:
    """Every name of `__all__` is there, and one that is not there is an AttributeError."""
    assert all(getattr(django_qbwi, name) for name in django_qbwi.__all__)
    assert set(django_qbwi.__all__) <= set(dir(django_qbwi))
    with pytest.raises(AttributeError, match="no attribute 'queue_work_item'"):
        _ = django_qbwi.queue_work_item


def test_setup_starts_no_thread() -> None:
    """`django.setup()` opens the scheduler without a thread."""
    assert run("import threading; print(threading.active_count())", site=True) == ["1"]


def test_wrong_settings_let_the_site_start() -> None:
    """Wrong settings are said by the first queueing, not by `django.setup()`."""
    lines = run(
        """
        from django.core.exceptions import ImproperlyConfigured
        try:
            queue_background_work_item(print)
        except ImproperlyConfigured as error:
            print(error)
        """,
        site=True,
        QBWI={"MAX_WORKER": 1},
    )
    assert lines == ["QBWI has no key 'MAX_WORKER'. Did you mean \"MAX_WORKERS\"?"]


# NotHosted.

REFUSED = """
from django_qbwi import NotHosted, queue_background_work_item, queue_on_commit, background_work_item
for call in (queue_background_work_item, lambda item: background_work_item(item).queue(), queue_on_commit):
    try:
        call(lambda token: print("ran"))
    except NotHosted as error:
        print(error)
"""
INSTALL = 'There is no scheduler in this process: add "django_qbwi" to INSTALLED_APPS'
SET_UP = (
    "There is no scheduler in this process: django.setup() has not run. Servers and manage.py call it; a script calls "
    "it before it queues, and the module of an app queues nothing when it is imported"
)


@pytest.mark.parametrize(
    ("begin", "cure"),
    [
        pytest.param("", SET_UP, id="no settings"),
        pytest.param("from django.conf import settings; settings.configure()", SET_UP, id="no setup"),
        pytest.param(
            "import django; from django.conf import settings; settings.configure(); django.setup()",
            INSTALL,
            id="not installed",
        ),
    ],
)
def test_not_hosted(begin: str, cure: str) -> None:
    """Without the app, or before `django.setup()`, queueing says what to do, and nothing runs."""
    assert run(begin + REFUSED) == [cure] * 3


WRONG = """
from django_qbwi import InvalidWorkItem, queue_background_work_item, queue_on_commit
for call in (queue_background_work_item, queue_on_commit):
    for wrong in (None, lambda: None):
        try:
            call(wrong)
        except InvalidWorkItem:
            print("invalid")
"""


def test_wrong_call_is_refused_before_anything_else() -> None:
    """What cannot be called is said before the process without a scheduler is, as in the original."""
    assert run(WRONG) == ["invalid"] * 4


def test_queueing_in_ready_of_another_app() -> None:
    """An item queued by an app's `ready()`, after ours, runs."""
    assert run(
        """
        import sys, types, django
        from django.apps import AppConfig
        from django.conf import settings

        class Mine(AppConfig):
            name, path, label = "mine", "/", "mine"
            def ready(self):
                from django_qbwi import queue_background_work_item
                queue_background_work_item(lambda token: print("ran"))

        module = sys.modules["mine"] = types.ModuleType("mine")
        module.Mine = Mine
        settings.configure(INSTALLED_APPS=["django_qbwi", "mine.Mine"])
        django.setup()
        """
    ) == ["ran"]


# The end of a process.

# What `logging` prints of our WARNING where nothing is configured.
REJECTED = r"Work item name=\S+ rejected: [^\n]+\n"


def test_python_that_starts_no_threads_late_is_warned_of_once() -> None:
    """At the first item of a process and never again, not for the next scheduler either; other Pythons are silent."""
    [count] = run(
        """
        import logging
        from django_qbwi import hosting

        records = []
        handler = logging.Handler()
        handler.emit = records.append
        logger = logging.getLogger("django_qbwi.lifecycle")
        logger.addHandler(handler)
        logger.propagate = False
        for _ in range(2):
            assert queue_background_work_item(lambda token: None).wait(30)
            assert hosting.this_process().current.reporter.flush(30)
            hosting.this_process().renew(5.0)
        print(sum("starts no thread" in record.getMessage() for record in records))
        """,
        site=True,
    )
    assert int(count) == STARTS_NO_THREADS_LATE


def test_exit_waits_for_items_undisturbed() -> None:
    """A process that no server hosts waits for its items at its normal end, and cancels none of them."""
    lines = run(
        """
        import asyncio, os

        def item(token):
            os.write(1, f"sync {token.wait(0.2)}\\n".encode())

        async def async_item(token):
            await asyncio.sleep(0.2)
            os.write(1, f"async {token.is_cancellation_requested}\\n".encode())

        queue_background_work_item(item)
        queue_background_work_item(async_item)
        """,
        site=True,
    )
    assert sorted(lines) == ["async False", "sync False"]


@pytest.mark.parametrize("before", ["pass", "queue_background_work_item(lambda token: None)"])
def test_closed_in_atexit(before: str) -> None:
    """An atexit hook comes too late, whether anything was queued before or not: SchedulerClosed (F22)."""
    lines = run(
        f"""
        import atexit

        def late():
            try:
                queue_background_work_item(print)
            except SchedulerClosed as error:
                print(error)

        atexit.register(late)
        {before}
        """,
        site=True,
        stderr=REJECTED,
    )
    assert len(lines) == 1
    assert "builtins.print was not queued: the background work of this process has ended" in lines[0]


def test_closed_for_a_thread_that_outlives_the_end() -> None:
    """A thread that goes on when the main one has ended gets SchedulerClosed (F21)."""
    lines = run(
        """
        import threading
        from django_qbwi import hosting

        def outlive():
            while hosting.scheduler().state != "closed":
                threading.Event().wait(0.01)
            try:
                queue_background_work_item(print)
            except WorkItemRejected as error:
                print(type(error).__name__)

        queue_background_work_item(lambda token: None)
        threading.Thread(target=outlive).start()
        """,
        site=True,
        stderr=REJECTED,
    )
    assert lines == ["SchedulerClosed"]


def test_refused_while_the_interpreter_is_finalized() -> None:
    """A finalizer that queues at the very end gets an exception; nothing runs, hangs or is printed (F23)."""
    lines = run(
        """
        import os

        class Late:
            def __del__(self, queue=queue_background_work_item, error=Exception, write=os.write):
                try:
                    queue(lambda token: write(1, b"ran"))
                except error:
                    write(1, b"refused")

        queue_background_work_item(lambda token: None)
        late = Late()
        """,
        site=True,
    )
    assert lines == ["refused"]


def test_item_queued_by_an_item_during_the_exit_runs() -> None:
    """While the exit waits, an item may still queue what it needs; what that queues is refused (F19)."""
    lines = run(
        """
        import threading
        from django_qbwi import hosting

        def first(token):
            while not hosting.scheduler().final_hold:
                threading.Event().wait(0.01)
            queue_background_work_item(second)

        def second(token):
            print("second", flush=True)
            try:
                queue_background_work_item(print)
            except SchedulerDraining:
                print("refused", flush=True)

        queue_background_work_item(first)
        """,
        site=True,
        # Python 3.12.0 to 3.12.2 start no thread late; the worker that runs goes on.
        stderr=rf"(No further worker thread could be started[^\n]+\n)?{REJECTED}",
    )
    assert lines == ["second", "refused"]


def test_async_items_that_start_during_the_exit() -> None:
    """Async items that start while the exit waits can use their threads, though some Pythons start none then."""
    lines = run(
        """
        import asyncio, os
        from asgiref.sync import sync_to_async
        from django_qbwi import hosting

        async def first(token):
            while not hosting.scheduler().final_hold:
                await asyncio.sleep(0.01)
            for number in range(5):
                queue_background_work_item(second, number)

        async def second(token, number):
            await sync_to_async(os.write)(1, f"{number}\\n".encode())

        queue_background_work_item(first)
        """,
        site=True,
    )
    assert sorted(lines) == ["0", "1", "2", "3", "4"]


def test_exit_gives_up_at_the_limit() -> None:
    """An item that never ends leaves with the process at SHUTDOWN_TIMEOUT, with one record that has its stack."""
    lines = run(
        """
        import logging, sys, threading

        def never_ends(token):
            print("begun", flush=True)
            threading.Event().wait()

        logging.basicConfig(stream=sys.stdout, level="WARNING", format="%(levelname)s %(message)s")
        queue_background_work_item(never_ends, name="stuck")
        queue_background_work_item(print, name="waiting")
        """,
        site=True,
        QBWI={"SHUTDOWN_TIMEOUT": 0.5, "MAX_WORKERS": 1},
        LOGGING_CONFIG=None,
    )
    text = "\n".join(lines)
    assert "begun" in lines
    assert "name=stuck status=abandoned" in text
    assert "in never_ends" in text
    assert "name=waiting status=discarded" in text
