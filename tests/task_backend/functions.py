"""What the tasks of the tests do; at module level, as the frameworks demand."""

import contextlib
import contextvars
import threading
from collections.abc import Iterator
from typing import Any

import django
from asgiref.sync import sync_to_async
from django.db import connection

from django_qbwi import Retry, current_work_item
from tests.support.gates import Gate

seen: list[Any] = []
gate = Gate()
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nothing")


def start_afresh() -> None:
    """Forget what tests before this one have left."""
    seen.clear()
    gate.opened.clear()
    while gate.entered.acquire(blocking=False):
        pass


class Carrier:
    """Takes the variable along."""

    def capture(self) -> str:
        return variable.get()

    @contextlib.contextmanager
    def restore(self, captured: str) -> Iterator[None]:
        token = variable.set(captured)
        yield
        variable.reset(token)


def add(first: int, second: int = 0) -> int:
    return first + second


async def aadd(first: int, second: int = 0) -> int:
    return first + second


def give(value: Any) -> Any:
    return value


async def agive(value: Any) -> Any:
    return value


def give_unplain() -> Any:
    return {"number": float("nan")}


def give_unsupported() -> Any:
    return lambda: True


def fail(message: str) -> None:
    raise ValueError(message)


async def afail(message: str) -> None:
    raise ValueError(message)


def leave(status: int) -> None:
    raise SystemExit(status)


def interrupt() -> None:
    raise KeyboardInterrupt


def note(value: Any) -> None:
    seen.append(value)


def change(values: list[Any]) -> list[Any]:
    values.append("more")
    return values


def look(context: Any) -> dict[str, Any]:
    item = current_work_item()
    assert item is not None
    return {
        "attempt": context.attempt,
        "id": context.task_result.id,
        "item": item.id,
        "cancelled": item.token.is_cancellation_requested,
        "status": str(context.task_result.status),
        "thread": threading.current_thread().name,
        "variable": variable.get(),
    }


def name_of_class(context: Any) -> str:
    return f"{type(context).__module__}.{type(context).__qualname__}"


async def alook(context: Any) -> dict[str, Any]:
    return look(context)


def hold() -> str:
    gate(current_work_item().token)  # type: ignore[union-attr]
    return "let go"


async def ahold() -> str:
    await gate.hold(current_work_item().token)  # type: ignore[union-attr]
    return "let go"


def honour() -> None:
    token = current_work_item().token  # type: ignore[union-attr]
    gate.entered.release()
    token.wait()
    token.raise_if_cancellation_requested()


async def ahonour() -> None:
    token = current_work_item().token  # type: ignore[union-attr]
    gate.entered.release()
    await token.cancelled()
    token.raise_if_cancellation_requested()


class _Pause:
    def __await__(self) -> Iterator[None]:
        yield


async def apause() -> None:
    await _Pause()


def query() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return int(cursor.fetchone()[0])


async def aquery() -> int:
    return await sync_to_async(query)()


def stumble(times: int) -> int:
    seen.append(threading.current_thread().name)
    if len(seen) <= times:
        raise ValueError(f"attempt {len(seen)}")
    return len(seen)


async def astumble(times: int) -> int:
    return stumble(times)


def stumble_with_context(context: Any) -> int:
    seen.append(context.attempt)
    if context.attempt == 1:
        raise ValueError("no")
    return int(context.attempt)


def go_on(first: int, last: int = 9, *, size: int = 1) -> int:
    seen.append((first, last, size))
    token = current_work_item().token  # type: ignore[union-attr]
    if len(seen) == 1:
        token.checkpoint(first=3)
    elif len(seen) == 2:
        token.checkpoint(size=4)
    else:
        return first
    raise ValueError("on the way")


def go_nowhere(first: int) -> None:
    current_work_item().token.checkpoint(nobody=1)  # type: ignore[union-attr]


def at_once(attempt: int, error: BaseException) -> float:
    return 0


def badly(attempt: int, error: BaseException) -> float:
    raise RuntimeError("oops")


def much_later(attempt: int, error: BaseException) -> float:
    return 3600


POLICY = Retry(max_attempts=3, on=(ValueError,), backoff=at_once)


if django.VERSION >= (6, 1):
    from django.tasks import task


def hold_one(key: Any, more: Any = None) -> Any:
    seen.append(key)
    gate(current_work_item().token)  # type: ignore[union-attr]
    return key


def key_of(key: Any, more: Any = None) -> Any:
    if isinstance(more, list):
        # What a key does to its arguments is not seen by the task.
        more.append("by the key")
    return key


def key_that_raises(key: Any) -> Any:
    raise RuntimeError("oops")


if django.VERSION >= (6, 1):
    from django.tasks import task

    @task(max_attempts=4, backoff=at_once)
    def named() -> None:
        """Do nothing."""

    @task(expires=60, concurrency=2, unique_key=key_of)
    def turning(key: Any, more: Any = None) -> None:
        """Do nothing, with others beside it."""


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def stumble_without_words() -> None:
    seen.append(1)
    if len(seen) == 1:
        raise Unprintable


async def astumble_as_if_closed() -> None:
    seen.append(1)
    if len(seen) == 1:
        raise GeneratorExit
