"""F46: error trackers and tracers see a fresh context in each item, and a link where one is wanted."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.test import Client, override_settings

from django_qbwi import CancellationToken, background_work_item, queue_background_work_item
from tests.intake.pages import during

PATIENCE = 30
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=["sync", "async"])
def queue_look(request: pytest.FixtureRequest) -> Any:
    """Return a function that queues an item which calls `look` wherever its code can run; it waits for the item."""

    def run(look: Any) -> Any:
        async def on_loop(token: CancellationToken) -> None:
            look()
            await sync_to_async(look)()
            await sync_to_async(look, thread_sensitive=False)()

        item: Any = on_loop if request.param == "async" else lambda token: look()
        handle = queue_background_work_item(item)
        assert handle.wait(PATIENCE)
        return handle

    return run


# sentry-sdk


@pytest.fixture(scope="module")
def sentry() -> Any:
    """Run two requests with items under sentry-sdk, in a process of its own, and return what the items saw."""
    pytest.importorskip("sentry_sdk")
    command = [sys.executable, "-m", "tests.intake.sentry_program"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_sentry_patches_threads(sentry: Any) -> None:
    """sentry-sdk does what these tests are about: it hands scopes over to threads."""
    assert sentry["patched"]


def test_sentry_tags(sentry: Any) -> None:
    """Tags of a request are seen in no item: not in its own, which starts the threads, and not in one of request B.

    Nor does an item see what one before it has left on the same thread.
    """
    assert sentry["seen"] == [{}, {}, {}, {}]


def test_sentry_events(sentry: Any) -> None:
    """What an item reports carries the tags that it set itself, also from `sync_to_async`, and no others."""
    assert sorted(sentry["events"]) == [[f"from an item of {name}", {"left_by": name}] for name in ("A", "A", "B", "B")]


# OpenTelemetry


class Spans:
    """Keeps the spans that have ended."""

    def __init__(self) -> None:
        self.ended: list[Any] = []

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """Ignore it."""

    def on_end(self, span: Any) -> None:
        """Keep it."""
        self.ended.append(span)

    def _on_ending(self, span: Any) -> None:
        """Ignore it."""

    def shutdown(self) -> None:
        """Have nothing to end."""

    def force_flush(self, timeout_millis: int = 0) -> bool:
        """Have nothing to flush."""
        return True


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Install a tracer provider that keeps its spans, for this test."""
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    spans = Spans()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(spans)  # type: ignore[arg-type]
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return spans


def in_span(name: str, call: Any) -> Any:
    """Call something inside of a span, as OpenTelemetry's instrumentation of Django does; return the span."""
    from opentelemetry import trace

    with trace.get_tracer("tests").start_as_current_span(name) as span:
        during(lambda: Client().get("/page/"), lambda request: call())
    return span


def test_opentelemetry_sees_a_fresh_context(spans: Any, queue_look: Any) -> None:
    """Without the carrier, no span of a request is current in an item."""
    from opentelemetry import trace

    seen: list[bool] = []
    in_span("request", lambda: queue_look(lambda: seen.append(trace.get_current_span().get_span_context().is_valid)))
    assert set(seen) == {False}


@pytest.fixture
def patched_threads() -> Iterator[None]:
    """Have OpenTelemetry hand the context of whoever starts a thread over to it, for one scheduler's threads."""
    instrumentation = pytest.importorskip("opentelemetry.instrumentation.threading")
    instrumentor = instrumentation.ThreadingInstrumentor()
    instrumentor.instrument()
    try:
        with override_settings(QBWI={}):
            yield
    finally:
        instrumentor.uninstrument()


def test_opentelemetry_patches_threads(spans: Any, patched_threads: None) -> None:
    """OpenTelemetry does what the next test is about."""
    from opentelemetry import trace

    seen: list[bool] = []
    thread = threading.Thread(target=lambda: seen.append(trace.get_current_span().get_span_context().is_valid))
    with trace.get_tracer("tests").start_as_current_span("request"):
        thread.start()
        thread.join()
    assert seen == [True]


def test_patched_threads_see_a_fresh_context(spans: Any, patched_threads: None, queue_look: Any) -> None:
    """Though threads that start in a request get its span, no item does: not the first one, nor a later one."""
    from opentelemetry import baggage, context, trace

    seen: list[Any] = []

    def look() -> None:
        seen.append((trace.get_current_span().get_span_context().is_valid, dict(baggage.get_all())))

    for name in ("request A", "request B"):
        token = context.attach(baggage.set_baggage("request", name))
        in_span(name, lambda: queue_look(look))
        context.detach(token)
    assert seen
    assert all(found == (False, {}) for found in seen)


def test_opentelemetry_carrier(spans: Any, queue_look: Any) -> None:
    """With the carrier, an item has a span of its own: kind CONSUMER, linked to the request's, in another trace."""
    from opentelemetry import trace
    from opentelemetry.trace import SpanKind

    seen: list[Any] = []
    handles: list[Any] = []
    with override_settings(QBWI={"CONTEXT": ["django_qbwi.contrib.opentelemetry"]}):
        request_span = in_span(
            "request", lambda: handles.append(queue_look(lambda: seen.append(trace.get_current_span())))
        )
    [span] = [span for span in spans.ended if span.kind is SpanKind.CONSUMER]
    assert (span.name, span.parent) == (handles[0].name, None)
    assert [link.context for link in span.links] == [request_span.get_span_context()]
    assert span.context.trace_id != request_span.get_span_context().trace_id
    assert {current.get_span_context().span_id for current in seen} == {span.context.span_id}
    assert span.attributes["django_qbwi.work_item.id"] == handles[0].id


def test_opentelemetry_span_of_a_failure(spans: Any) -> None:
    """The span of an item that fails has the exception."""

    @background_work_item
    def item(token: CancellationToken) -> None:
        raise LookupError("gone")

    with override_settings(QBWI={"CONTEXT": ["django_qbwi.contrib.opentelemetry"]}):
        in_span("request", lambda: item.queue().wait(PATIENCE))
    [span] = [span for span in spans.ended if span.links]
    assert (span.status.is_ok, span.events[0].name) == (False, "exception")


def test_span_has_no_parent_whatever_is_current(spans: Any) -> None:
    """Even where another carrier has a span current, the item's is a link to the request's and never its child."""
    from opentelemetry import trace

    from django_qbwi.contrib.opentelemetry import OpenTelemetryCarrier

    carrier = OpenTelemetryCarrier()
    with trace.get_tracer("tests").start_as_current_span("request") as request:
        captured = carrier.capture()
        assert captured is not None
        with carrier.restore(captured) as span:
            pass
    assert span.parent is None  # type: ignore[attr-defined]
    assert [link.context for link in span.links] == [request.get_span_context()]  # type: ignore[attr-defined]


def test_opentelemetry_without_a_span(spans: Any, queue_look: Any) -> None:
    """Queued outside of a span, an item gets none either."""
    with override_settings(QBWI={"CONTEXT": ["django_qbwi.contrib.opentelemetry"]}):
        queue_look(lambda: None)
    assert spans.ended == []
