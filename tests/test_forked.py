"""G29: a child that was forked while another thread held a lock of asgiref's."""

import operator
import os
import sys

import pytest

from django_qbwi.hosting.forked import LOCALS
from tests.support.scripts import run_script

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

FORKED = """
import operator, os, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of any fork beside threads
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
import django
django.setup()
from asgiref.sync import sync_to_async
from django.core.cache import caches
from django.urls import get_script_prefix
from django.utils import timezone, translation
from django_qbwi import queue_background_work_item
from django_qbwi.hosting.forked import LOCALS

PATIENCE = 30
ran = []


def look():
    ran.append([translation.get_language(), timezone.get_current_timezone_name()])
    ran[-1] += [get_script_prefix(), caches["default"]]


async def item(token):
    await sync_to_async(look)()


def hold():
    for module, name in LOCALS:
        if module in sys.modules:
            kept = vars(operator.attrgetter(name)(sys.modules[module]))
            for lock in (kept.get("_lock"), kept.get("_thread_lock")):
                if lock is not None:
                    lock.acquire()
                    held.append(lock)
    holding.set()
    done.wait(PATIENCE)
    for lock in held:
        lock.release()


assert queue_background_work_item(item).wait(PATIENCE)
held, holding, done = [], threading.Event(), threading.Event()
holder = threading.Thread(target=hold)
holder.start()
assert holding.wait(PATIENCE)
child = os.fork()
if not child:
    ended = queue_background_work_item(item).wait(PATIENCE)
    os._exit(0 if ended and len(ran) == 2 else 1)
_, status = os.waitpid(child, 0)
done.set()
holder.join()
print(len(held) > 3, status)
"""


@pytest.mark.slow
def test_g29_child_of_a_fork_inside_of_a_local() -> None:
    """G29: the child's async items run, and see language, time zone, script prefix and caches."""
    assert run_script(FORKED) == ["True 0"]


@pytest.mark.parametrize(("module", "name"), LOCALS)
def test_g29_locals_are_where_we_look(module: str, name: str) -> None:
    """G29: each of them is there, or its whole module is not, in this version of Django."""
    if module == "django.tasks" and module not in sys.modules:
        return  # from Django 6.0 on, where it is used
    __import__(module)
    assert type(operator.attrgetter(name)(sys.modules[module])).__module__ == "asgiref.local"
