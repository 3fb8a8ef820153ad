"""A link from an item's trace to the request's: QBWI = {"CONTEXT": ["django_qbwi.contrib.opentelemetry"]}.

Each item gets a span of its own, of kind CONSUMER, that is linked to the span of the request and never its child: a
child would stretch the request's trace until long after its response.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, SpanKind

from django_qbwi.core.items import current_item

_NO_PARENT = Context()


class OpenTelemetryCarrier:
    """Starts a span for each item that is queued while a span is current."""

    def capture(self) -> SpanContext | None:
        """Return the identity of the current span, None without one."""
        current = trace.get_current_span().get_span_context()
        return current if current.is_valid else None

    @contextmanager
    def restore(self, captured: SpanContext, /) -> Iterator[Span]:
        """Surround the item by its span, which ends with the item and records what it raises."""
        item = current_item()
        with trace.get_tracer("django_qbwi").start_as_current_span(
            "work item" if item is None else item.name,
            context=_NO_PARENT,
            kind=SpanKind.CONSUMER,
            links=[Link(captured)],
            attributes={} if item is None else {"django_qbwi.work_item.id": item.id},
        ) as span:
            if item is not None:
                own = span.get_span_context()
                # Without an SDK there is none of its own.
                item.run.trace_id = trace.format_trace_id((own if own.is_valid else captured).trace_id)
            yield span


Carrier = OpenTelemetryCarrier
