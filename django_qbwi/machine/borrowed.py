"""Every private or undocumented name of CPython, asgiref and Django that the package uses: which, where, and why.

A list and nothing else: whoever uses a name imports it from its own place, and the machine knows no Django. The tests
resolve each name on every version of the matrix, and refuse the use of one that is not listed here.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Borrowed:
    """One name, and what it is needed for."""

    module: str
    """The module that has it, as it is imported."""
    name: str
    """The dotted path within the module, "" for the module itself. The last part may be set on instances only."""
    why: str
    since: tuple[int, ...] = ()
    """The first version that has it, of Python or of the package it is in; empty for all that are supported."""
    until: tuple[int, ...] = ()
    """The first version without it."""
    platform: str = ""
    """The `os.name` that has it; "" for all."""


_CHILDREN = "processes of items, whatever the event loop policy has to say of children"

BORROWED = (
    # CPython
    Borrowed("_thread", "", "the locks and threads below those that gevent replaces"),
    Borrowed("_thread", "_local", "thread locals below those that gevent replaces"),
    Borrowed("_thread", "RLock", "its `_at_fork_reinit`"),
    Borrowed("_thread", "RLock._at_fork_reinit", "locks in a forked child whose holder does not exist there"),
    Borrowed("_signal", "", "handlers and masks without making an enum of each number, on the path of an item"),
    Borrowed("_socket", "", "sockets below those that gevent replaces"),
    Borrowed("_socket", "socket._accept", "to accept without a wrapper of gevent's"),
    Borrowed("threading", "_register_atexit", "the exit is held before the interpreter joins threads"),
    Borrowed("threading", "Thread._delete", "the last moment of a thread that somebody else has started"),
    Borrowed("threading", "Thread._invoke_excepthook", "what has left it"),
    Borrowed("threading", "_DummyThread", "one that nobody sees the end of"),
    Borrowed("sys", "_getframe", "the first caller outside of the package; whether a thread is ours"),
    Borrowed("sys", "_current_frames", "stacks of other threads"),
    Borrowed("os", "_exit", "the last resort of a process that does not end"),
    Borrowed("asyncio.unix_events", "_sighandler_noop", "that an event loop handles a signal", platform="posix"),
    Borrowed("asyncio.unix_events", "_UnixSubprocessTransport", _CHILDREN, until=(3, 14), platform="posix"),
    Borrowed("asyncio.unix_events", "_UnixSubprocessTransport._wait", _CHILDREN, until=(3, 14), platform="posix"),
    Borrowed("asyncio", "SelectorEventLoop._child_watcher_callback", _CHILDREN, until=(3, 14), platform="posix"),
    Borrowed("asyncio", "_get_running_loop", "the mark that an item left in its thread"),
    Borrowed("asyncio", "_set_running_loop", "to take that mark away"),
    Borrowed("asyncio", "SelectorEventLoop._ready", "the copy of a loop in a forked child takes no further step"),
    Borrowed("asyncio", "SelectorEventLoop._scheduled", "the same, for its timers"),
    Borrowed("asyncio", "SelectorEventLoop._selector", "to replace one that an item has closed"),
    Borrowed("asyncio", "SelectorEventLoop._ssock", "to be woken through the new one"),
    Borrowed("asyncio", "SelectorEventLoop._csock", "the other end of it"),
    Borrowed("asyncio", "SelectorEventLoop._make_self_pipe", "to make both anew"),
    Borrowed("asyncio", "SelectorEventLoop._read_from_self", "what reads there"),
    Borrowed("asyncio", "SelectorEventLoop._thread_id", "a loop whose thread was killed goes on in another one"),
    Borrowed("asyncio", "SelectorEventLoop._closed", "one that could not be made has nothing to say at its end"),
    Borrowed("asyncio", "SelectorEventLoop._signal_handlers", "who has taken SIGTERM on a running loop"),
    Borrowed("inspect", "_is_coroutine_marker", "functions marked by inspect.markcoroutinefunction", since=(3, 12)),
    Borrowed("asyncio.coroutines", "_is_coroutine", "the same, marked by asgiref", until=(3, 12)),
    Borrowed("enum", "Enum._value_", "the value of a status without a descriptor"),
    # asgiref
    Borrowed("asgiref.sync", "SyncToAsync.threadlocal", "the loop of the caller, in the threads of sync_to_async"),
    Borrowed("asgiref.sync", "SyncToAsync.context_to_thread_executor", "an item's own executor, before asgiref 3.13"),
    Borrowed("asgiref.sync", "SyncToAsync.single_thread_executor", "where sync code of an immediate item runs"),
    Borrowed("asgiref.sync", "AsyncToSync.executors", "the same, below async_to_sync; its lock in a forked child"),
    Borrowed("asgiref.local", "_storage", "the context variable of a `Local`"),
    Borrowed("asgiref.local", "_data", "the same"),
    Borrowed("asgiref.local", "_lock", "its lock, in a forked child", since=(3, 13)),
    Borrowed("asgiref.local", "_thread_lock", "the same", until=(3, 13)),
    # Django
    Borrowed("django.utils.autoreload", "file_changed", "the reload that follows"),
    Borrowed("django.utils.autoreload", "autoreload_started", "whether the reloader runs"),
    Borrowed("django.dispatch", "Signal._live_receivers", "to call sync receivers on a running loop"),
    Borrowed("django.tasks.base", "TaskResult._return_value", "the value of a task that has ended", since=(6, 0)),
    Borrowed("django.test.utils", "_TestState", "whether a test run is under way"),
    Borrowed("django.test.testcases", "_from_testcase", "the transaction of a test from any other one"),
    Borrowed("django.db.models.base", "ModelBase._meta", "what is a model; the type of its key"),
    Borrowed("django.db.models.base", "ModelBase._base_manager", "rows without the filters of a project"),
    Borrowed("django.db.models.query", "QuerySet._raw_delete", "to delete rows without loading them"),
    Borrowed("django.http", "HttpRequest._get_raw_host", "the host of a request without validating it"),
    Borrowed("django.http", "QueryDict._mutable", "to freeze a copied one"),
    Borrowed("django.contrib.sessions.backends.base", "SessionBase._session_cache", "whether a session is loaded"),
    Borrowed("django.utils.functional", "LazyObject._wrapped", "whether a lazy user is loaded"),
    Borrowed("django.utils.functional", "SimpleLazyObject._setupfunc", "who will load it"),
    Borrowed("django.contrib.auth.middleware", "_cached_user", "the user that a request has loaded"),
    Borrowed("django.contrib.auth.middleware", "_acached_user", "the same, on a loop"),
    Borrowed("django.utils.translation.trans_real", "_active", "the active language; its lock in a forked child"),
    Borrowed("django.utils.timezone", "_active", "the active time zone; its lock in a forked child"),
    Borrowed("django.urls.base", "_prefixes", "its lock in a forked child"),
    Borrowed("django.urls.base", "_urlconfs", "its lock in a forked child"),
    # Where they are installed
    Borrowed("django_tasks.base", "TaskResult._return_value", "the value of a task that has ended"),
    Borrowed("_pytest", "", "whether pytest is what runs"),
    Borrowed("rest_framework.request", "_request", "the request within that of Django REST framework"),
    Borrowed("rest_framework.request", "_user", "its user, where it is known"),
    Borrowed("crum", "_thread_locals", "emptied for items that run at the call, as in the modules below"),
    Borrowed("threadlocals.threadlocals", "_threadlocals", "the same"),
)
