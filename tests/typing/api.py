"""The types that a user of the public names sees; checked by mypy and pyright, never run."""

import asyncio
import concurrent.futures
import functools
import threading
import uuid
from collections.abc import Awaitable
from datetime import datetime, timedelta
from typing import Any, assert_type

from django.core.mail import EmailMessage
from django.http import HttpRequest, QueryDict

from django_qbwi import (
    CancellationToken,
    CancellationTokenSource,
    CancelReason,
    CapturedRequest,
    HelperDied,
    InvalidWorkItem,
    NotHosted,
    OperationCancelled,
    Progress,
    QBWIError,
    QueueFull,
    RequestSnapshot,
    Retry,
    SchedulerClosed,
    SchedulerDraining,
    UserNotRead,
    WorkItemHandle,
    WorkItemInfo,
    WorkItemRejected,
    WorkItemStatus,
    background_work_item,
    copies_request,
    current_work_item,
    exponential,
    handoff,
    live_items,
    queue_background_work_item,
    queue_on_commit,
    recent_items,
    snapshot_request,
    track,
)
from django_qbwi.contrib.current_user import CurrentUserCarrier
from django_qbwi.contrib.history.models import HistoryEntry
from django_qbwi.contrib.history.testing import written_history
from django_qbwi.contrib.mail import BackgroundEmailBackend, MailRetry, is_transient
from django_qbwi.contrib.schedules import schedule
from django_qbwi.testing import Shutdown, assert_no_work_items_left, simulate_shutdown


def sync_item(token: CancellationToken, address: str) -> None: ...


async def async_item(token: CancellationToken, address: str) -> int:
    return len(address)


def awaitable_item(token: CancellationToken) -> Awaitable[None]:
    return token.cancelled()


class Mailer:
    def send(self, token: CancellationToken, address: str) -> None: ...

    def __call__(self, token: CancellationToken) -> None: ...


def queueing() -> None:
    assert_type(queue_background_work_item(sync_item, "a@example.org"), WorkItemHandle)
    assert_type(queue_background_work_item(async_item, "a@example.org", name="mail", timeout=5), WorkItemHandle)
    assert_type(queue_background_work_item(sync_item, "a@example.org", delay=60, expires=90), WorkItemHandle)
    queue_background_work_item(awaitable_item)
    queue_background_work_item(lambda token: token.wait(1))
    queue_background_work_item(functools.partial(sync_item, address="a@example.org"))
    queue_background_work_item(Mailer().send, "a@example.org")
    queue_background_work_item(Mailer())
    queue_on_commit(sync_item, "a@example.org", using="other", name="mail", timeout=5.0)
    queue_on_commit(sync_item, "a@example.org", delay=0.5, expires=5)
    queue_on_commit(sync_item, "a@example.org", labels={"order": 42})
    assert_type(queue_background_work_item(sync_item, "a", labels={"order": 42, "paid": True}), WorkItemHandle)


def tracking(
    thread: threading.Thread,
    future: concurrent.futures.Future[int],
    task: asyncio.Task[str],
    bare: asyncio.Future[None],
) -> None:
    assert_type(track(thread), WorkItemHandle)
    assert_type(track(future, name="report"), WorkItemHandle)
    assert_type(track(task), WorkItemHandle)
    assert_type(track(bare), WorkItemHandle)


def test_tools() -> None:
    shutdown = simulate_shutdown(0.5, timeout=5, meanwhile=lambda: None, check=False)
    assert_type(shutdown, Shutdown)
    assert_type(shutdown.cancelled, list[WorkItemHandle])
    assert_type(assert_no_work_items_left(timeout=1), None)


@background_work_item
def resize(token: CancellationToken, album_id: int, *, width: int = 100) -> bool:
    return token.wait(0)


@background_work_item(labels={"kind": "tidy"})
def tidy(token: CancellationToken) -> None: ...


@background_work_item(name="report", timeout=120, priority=5, hand_off="durable")
async def report(token: CancellationToken, year: int) -> str:
    await token.cancelled()
    return f"{year}"


def tenant_of(pk: int) -> tuple[str, int]:
    return "tenant", pk


@background_work_item(unique_key=tenant_of, concurrency=2, concurrency_key=tenant_of, pool="search")
def index(token: CancellationToken, pk: int) -> None: ...


class Album:
    """Methods that are work items."""

    @background_work_item
    def publish(self, token: CancellationToken, loud: bool = False) -> str:
        return f"{loud}"

    @background_work_item(timeout=5)
    async def publish_async(self, token: CancellationToken, *, loud: bool) -> str:
        return f"{loud}"

    @background_work_item
    @copies_request
    def visit(self, token: CancellationToken, visit: RequestSnapshot, campaign: str) -> None: ...

    @staticmethod
    @background_work_item
    def tidy(token: CancellationToken, number: int) -> None: ...


def methods(album: Album, request: HttpRequest) -> None:
    assert_type(album.publish.queue(loud=True), WorkItemHandle)
    assert_type(album.publish(CancellationToken.none(), True), str)
    assert_type(Album.publish(album, CancellationToken.none()), str)
    assert_type(album.publish_async.using(timeout=5).queue(loud=True), WorkItemHandle)
    assert_type(queue_background_work_item(album.publish, True), WorkItemHandle)
    assert_type(Album.tidy.queue(5), WorkItemHandle)
    album.publish.queue_on_commit(True)


def this_process() -> None:
    assert_type(live_items(), list[WorkItemInfo])
    assert_type(recent_items(), list[WorkItemInfo])


def decorated() -> None:
    assert_type(resize.queue(1), WorkItemHandle)
    assert_type(index.using(unique_key=str, concurrency=1).queue(1), WorkItemHandle)
    assert_type(index.using(pool="default").queue(1), WorkItemHandle)
    assert_type(index.queue(1).info.pool, str)
    assert_type(resize.queue(1, width=20), WorkItemHandle)
    assert_type(resize.using(labels={"album": 1}).queue(1), WorkItemHandle)
    assert_type(
        resize.using(
            name="again", timeout=5, using="other", delay=5, priority=-5, hand_off="durable", expires=60
        ).queue(1, width=20),
        WorkItemHandle,
    )
    assert_type(resize(CancellationToken.none(), 1, width=20), bool)
    assert_type(handoff.item_id(), uuid.UUID)
    CancellationToken.none().checkpoint(first=1)
    assert_type(CancellationToken.none().report(1), None)
    CancellationToken.none().report(0.5, 1.0, "halfway")
    CancellationToken.none().report(3, total=None, text="three")
    assert_type(CancellationToken.none().progress, Progress | None)
    assert_type(tidy.queue(), WorkItemHandle)
    assert_type(report.queue(2026), WorkItemHandle)
    resize.queue_on_commit(1)
    resize.using(using="other").queue_on_commit(1)

    # What must be an error: an ignore that is not needed is reported.
    resize.queue("one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    resize.queue()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    resize.queue(1, height=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    resize(1)  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]


async def decorated_async() -> None:
    assert_type(await report(CancellationToken.none(), 2026), str)


@background_work_item
@copies_request
def visit_below(token: CancellationToken, visit: RequestSnapshot, campaign: str) -> bool:
    return bool(visit.path and campaign)


@copies_request
@background_work_item(timeout=5)
def visit_above(token: CancellationToken, visit: RequestSnapshot, campaign: str) -> bool:
    return bool(visit.path and campaign)


@background_work_item(name="visit")
@copies_request(headers=("X-Tenant",), post=["title"], tenant=lambda request: request.tenant.pk)
async def visit_with_options(token: CancellationToken, visit: RequestSnapshot) -> str:
    return f"{visit.headers['X-Tenant']} {visit.post['title']} {visit.tenant}"


@copies_request
def visit_alone(token: CancellationToken, visit: RequestSnapshot) -> int:
    return len(visit.path)


def copied(request: HttpRequest, snapshot: RequestSnapshot) -> None:
    assert_type(visit_below.queue(request, "spring"), WorkItemHandle)
    assert_type(visit_above.queue(request, "spring"), WorkItemHandle)
    assert_type(visit_with_options.queue(snapshot), WorkItemHandle)
    assert_type(visit_above.using(timeout=5).queue(snapshot, campaign="spring"), WorkItemHandle)
    assert_type(visit_below(CancellationToken.none(), request, "spring"), bool)
    assert_type(visit_alone(CancellationToken.none(), snapshot), int)
    queue_background_work_item(visit_alone, request)
    queue_background_work_item(functools.partial(visit_below, campaign="spring"), request)
    visit_below.queue_on_commit(request, "spring")
    assert_type(snapshot_request(request, session=("cart_id",)), RequestSnapshot)
    assert_type(snapshot.GET, QueryDict)
    assert_type(snapshot.is_authenticated, bool | None)
    assert_type(snapshot.build_absolute_uri("/"), str)
    assert_type(snapshot.to_dict(), dict[str, Any])
    assert_type(RequestSnapshot.from_dict(snapshot.to_dict()), RequestSnapshot)
    assert_type(RequestSnapshot(path="/", user_id=3).view_kwargs, dict[str, Any])

    visit_below.queue("no request", "spring")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    visit_below.queue(request)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    visit_above.queue(request, 5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def handle_and_info(handle: WorkItemHandle) -> None:
    assert_type(handle.id, str)
    assert_type(handle.name, str)
    assert_type(handle.status, WorkItemStatus)
    assert_type(handle.info, WorkItemInfo)
    assert_type(handle.progress, Progress | None)
    assert_type(handle.info.progress, Progress | None)
    if handle.progress is not None:
        assert_type(handle.progress.fraction, float | None)
        assert_type(handle.progress.done, float)
        assert_type(handle.progress.at, datetime)
    assert_type(handle.cancel(), bool)
    handle.add_done_callback(lambda ended: ended.status)
    assert_type(handle.cancel("no longer wanted"), bool)
    assert_type(handle.wait(timeout=1.0), bool)
    assert_type(handle.exception(), BaseException | None)
    info = await handle
    assert_type(info, WorkItemInfo)
    assert_type(info.status, WorkItemStatus)
    assert_type(info.queued_at, datetime)
    assert_type(info.started_at, datetime | None)
    assert_type(info.finished_at, datetime | None)
    assert_type(info.due_at, datetime | None)
    assert_type(info.expires_at, datetime | None)
    assert_type(info.labels, dict[str, str | int | float | bool | None])
    assert_type(info.timeout, float | None)
    assert_type(info.overdue, bool)
    assert_type(info.cancel_reason, CancelReason | None)
    assert_type(info.to_dict(), dict[str, Any])
    assert_type(current_work_item(), WorkItemHandle | None)


async def fan_out() -> None:
    assert_type(await resize.using(wait_for_room=5).aqueue(1), WorkItemHandle)
    assert_type(await tidy.aqueue(), WorkItemHandle)
    await resize.aqueue("one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def token_and_source(token: CancellationToken) -> None:
    assert_type(token.is_cancellation_requested, bool)
    assert_type(token.reason, CancelReason | None)
    assert_type(token.deadline, float | None)
    assert_type(token.remaining(), float | None)
    assert_type(token.wait(), bool)
    assert_type(token.wait(timeout=1.0), bool)
    await token.cancelled()
    token.raise_if_cancellation_requested()
    with token.register(lambda: None) as registration:
        registration.close()
    with token.cancels_queries() as nothing:
        assert_type(nothing, None)
    source = CancellationTokenSource()
    assert_type(source.token, CancellationToken)
    source.cancel()
    source.cancel(reason=CancelReason.SHUTDOWN)
    source.cancel_after(0.5)
    assert_type(CancellationToken.none(), CancellationToken)


def exceptions(cancelled: OperationCancelled) -> None:
    assert_type(cancelled.token, CancellationToken)
    families: list[type[QBWIError]] = [InvalidWorkItem, WorkItemRejected, UserNotRead]
    invalid: type[InvalidWorkItem] = CapturedRequest
    refusals: list[type[WorkItemRejected]] = [QueueFull, SchedulerDraining, SchedulerClosed, NotHosted]
    type_error: type[TypeError] = InvalidWorkItem
    print(families, refusals, type_error, invalid)


def later(attempt: int, error: BaseException) -> float:
    return 2.0 * attempt if isinstance(error, OSError) else 60.0


RETRY = Retry(max_attempts=4, on=(OSError, KeyError), backoff=exponential(first=1, factor=2.0, longest=60, jitter=0.5))


@background_work_item(retry=RETRY)
def tried_again(token: CancellationToken, address: str) -> None: ...


@background_work_item(retry=Retry(on=OSError, backoff=later))
async def tried_again_async(token: CancellationToken, address: str) -> int:
    return len(address)


@background_work_item(executor="process", retry=Retry(on=HelperDied))
def computed(token: CancellationToken, below: int) -> None: ...


def processes() -> None:
    assert_type(computed.queue(5), WorkItemHandle)
    assert_type(computed.using(executor="thread").queue(5), WorkItemHandle)
    assert_type(queue_background_work_item(computed, 5, executor="process"), WorkItemHandle)
    queue_on_commit(computed, 5, executor="process")
    died: type[RuntimeError] = HelperDied
    print(died)


def attempts() -> None:
    assert_type(RETRY.max_attempts, int)
    assert_type(RETRY.seconds_until_next(1, OSError()), float | None)
    assert_type(exponential()(1, OSError()), float)
    assert_type(tried_again.queue("a@example.org"), WorkItemHandle)
    assert_type(tried_again.using(retry=Retry(max_attempts=1)).queue("a@example.org"), WorkItemHandle)
    assert_type(tried_again_async.using(retry=Retry(backoff=lambda attempt, error: 0)).queue("a"), WorkItemHandle)
    assert_type(tried_again.queue("a@example.org").info.attempt, int)
    Retry()


class PatientBackend(BackgroundEmailBackend):
    retry = MailRetry(max_attempts=8, backoff=lambda attempt, error: 60.0)


def mail(backend: PatientBackend, message: EmailMessage) -> None:
    assert_type(backend.send_messages([message]), int)
    assert_type(is_transient(TimeoutError()), bool)


def history(entry: HistoryEntry) -> None:
    with written_history():
        queue_background_work_item(sync_item, "a@example.org")
    assert_type(entry.to_dict(), dict[str, Any])


class ActingUserCarrier(CurrentUserCarrier):
    def user(self) -> Any:
        return None


@schedule(every=timedelta(minutes=5))
def by_the_clock(token: CancellationToken) -> int:
    return 1


@schedule(cron="0 3 * * *", timezone="Europe/Berlin", overlap=True, name="nightly")
@background_work_item(timeout=60)
async def by_the_clock_async(token: CancellationToken) -> int:
    return 1


@background_work_item
@schedule(every=timedelta(minutes=5), name="below")
def by_the_clock_below(token: CancellationToken) -> None: ...


def scheduled() -> None:
    assert_type(by_the_clock(CancellationToken.none()), int)
    assert_type(by_the_clock_async.queue(), WorkItemHandle)
    assert_type(by_the_clock_below.queue(), WorkItemHandle)
