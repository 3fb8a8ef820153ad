"""The locks of other libraries that a forked child inherits, maybe from a thread that held one at that moment.

Python makes its own anew in the child (logging, threading, concurrent.futures), and so do we. asgiref does not: a child
that was forked while another thread was in a `Local` would wait for ever, at the first async item or the first look at
the active language.
"""

from __future__ import annotations

import operator
import sys
from typing import Any

LOCALS = (
    ("asgiref.sync", "AsyncToSync.executors"),
    ("django.core.cache", "caches._connections"),
    ("django.db", "connections._connections"),
    ("django.tasks", "task_backends._connections"),
    ("django.urls.base", "_prefixes"),
    ("django.urls.base", "_urlconfs"),
    ("django.utils.timezone", "_active"),
    ("django.utils.translation.trans_real", "_active"),
)
"""The `Local` objects of asgiref and Django that belong to no instance: module and name, in no order."""

_LOCKS = ("_lock", "_thread_lock")  # since asgiref 3.9, and before


def free_locals() -> None:
    """Make the locks of `LOCALS` anew; in the child, which has only this thread."""
    for module, name in LOCALS:
        found = sys.modules.get(module)
        if found is None:
            continue
        try:
            local = operator.attrgetter(name)(found)
        except AttributeError:  # not in this version
            continue
        for lock in map(vars(local).get, _LOCKS):
            _make_anew(lock)


def _make_anew(lock: Any) -> None:
    reinit = getattr(lock, "_at_fork_reinit", None)
    if reinit is not None:
        reinit()
