"""G42: wrong calls of the public names; a line with an ignore has to be an error for mypy and for pyright; never run.

An ignore that is not needed is an error itself, so a call that begins to be accepted is seen.
"""

import functools
from datetime import timedelta
from threading import Thread

from django_qbwi import (
    CancellationToken,
    Retry,
    WorkItemHandle,
    background_work_item,
    exponential,
    queue_background_work_item,
    queue_on_commit,
    track,
)
from django_qbwi.contrib.schedules import schedule


def ship(token: CancellationToken, order: int) -> None: ...


async def ship_async(token: CancellationToken, order: int) -> None: ...


def no_token(order: int) -> None: ...


def keyword_only(token: CancellationToken, *, order: int) -> None: ...


class Shop:
    def close(self, token: CancellationToken, at: int) -> None: ...

    @background_work_item
    def open(self, token: CancellationToken, at: int) -> str:
        return f"{at}"

    @background_work_item(name="tidying", timeout=5)
    async def tidy(self, token: CancellationToken, *, thoroughly: bool = False) -> None: ...


@background_work_item
def decorated(token: CancellationToken, order: int) -> None: ...


def wrong_arguments(shop: Shop) -> None:
    queue_background_work_item(ship, "x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    queue_background_work_item(ship)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    queue_background_work_item(ship, 1, 2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    queue_background_work_item(ship_async, "x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    queue_background_work_item(shop.close, "x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    queue_background_work_item(decorated, "x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    queue_background_work_item(no_token, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    queue_background_work_item(keyword_only, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    queue_background_work_item(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    queue_background_work_item(ship_async(CancellationToken.none(), 1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    queue_on_commit(ship, "x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    queue_on_commit(ship)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def wrong_tracking() -> None:
    track(ship)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    track(ship_async(CancellationToken.none(), 1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    track()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    track(Thread(), "name")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    track(Thread(), name=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    track(Thread(), timeout=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def wrong_options() -> None:
    queue_background_work_item(ship, 1, nmae="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    queue_background_work_item(ship, order=1)  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]
    queue_background_work_item(ship, 1, name=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    queue_background_work_item(ship, 1, timeout="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    queue_on_commit(ship, 1, usign="other")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    background_work_item(nmae="x")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


def wrong_retries() -> None:
    Retry(3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Retry(max_attempts="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Retry(attempts=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Retry(on=ValueError())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Retry(on=[ValueError])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Retry(on=(int,))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Retry(backoff=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Retry(backoff=lambda attempt: 5)  # type: ignore[arg-type, misc]  # pyright: ignore[reportArgumentType]
    Retry(backoff=exponential)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Retry().max_attempts = 5  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    exponential(first="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    exponential(frist=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    background_work_item(pool=3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    decorated.using(pool=b"mail")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    queue_background_work_item(ship, 1, pool="mail")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    background_work_item(retry=3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    background_work_item(retry=Retry)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    decorated.using(retry={"max_attempts": 3})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    queue_background_work_item(ship, 1, retry=Retry())  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def wrong_executors() -> None:
    background_work_item(executor="gpu")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    decorated.using(executor=True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    queue_background_work_item(ship, 1, executor="gpu")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def wrong_methods(shop: Shop) -> None:
    shop.open.queue("noon")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    shop.open.queue()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    shop.open(5)  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]
    shop.tidy.queue(thoroughly="yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Shop.open.queue(shop, 5)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    decorated.delay(5)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    decorated.using(nmae="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    background_work_item(no_token)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]


def wrong_reports(token: CancellationToken) -> None:
    token.report()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    token.report("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    token.report(3, "page 3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    token.report(3, text=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    token.report(3, out_of=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def accepted(shop: Shop) -> list[WorkItemHandle]:
    """What stands beside the wrong calls is right."""
    queue_on_commit(ship, 1, using="other", name="x", timeout=5)
    return [
        queue_background_work_item(ship, 1, name="x", timeout=5),
        queue_background_work_item(ship_async, 1),
        queue_background_work_item(shop.close, 1),
        queue_background_work_item(decorated, 1),
        queue_background_work_item(shop.open, 1),
        queue_background_work_item(functools.partial(ship, order=1)),
        queue_background_work_item(functools.partial(keyword_only, order=1)),
        queue_background_work_item(lambda token: token.wait(1)),
        shop.open.queue(5),
        shop.open.using(timeout=5).queue(at=5),
        shop.tidy.queue(thoroughly=True),
    ]


def schedules(at_night: str) -> None:
    schedule()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    schedule(every=600)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    schedule(every=timedelta(hours=1), cron="0 3 * * *")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    schedule(every=timedelta(hours=1), timezone="UTC")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    schedule(cron=at_night)(ship)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    schedule(cron=at_night)(no_token)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    schedule(cron=at_night)(at_night)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
