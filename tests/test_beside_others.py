"""What the documentation says of tenacity and stamina beside the retries of an item."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import override_settings

from django_qbwi import CancellationTokenSource, OperationCancelled, Retry, WorkItemStatus, background_work_item
from tests.support.gates import PATIENCE, Gate

tenacity = pytest.importorskip("tenacity", reason="stamina is not installed, nor tenacity below it")
stamina = pytest.importorskip("stamina", reason="stamina is not installed")

S = WorkItemStatus
AT_ONCE = {"wait_initial": 0.0, "wait_max": 0.0, "wait_jitter": 0.0}


def by_tenacity(call: Callable[[], Any]) -> Any:
    """Try a call thrice, by its defaults otherwise."""
    return tenacity.Retrying(stop=tenacity.stop_after_attempt(3))(call)


def by_stamina(call: Callable[[], Any]) -> Any:
    """Try a call thrice, whatever it raises."""
    return stamina.retry(on=Exception, attempts=3, **AT_ONCE)(call)()


@pytest.mark.parametrize("repeat", [by_tenacity, by_stamina])
def test_cancellation_passes(repeat: Callable[..., Any]) -> None:
    """Neither repeats what was cancelled, without being told."""
    calls: list[int] = []
    source = CancellationTokenSource()
    source.cancel()

    def call() -> None:
        calls.append(1)
        source.token.raise_if_cancellation_requested()

    with pytest.raises(OperationCancelled):
        repeat(call)
    assert calls == [1]


def test_pause_inside_of_an_item_holds_its_worker() -> None:
    """Another item has to wait for it, where one that is tried again as a whole lets it go first."""
    gate, order = Gate(), []

    def fail(name: str) -> None:
        order.append(name)
        if order.count(name) == 1:
            raise OSError(name)

    @background_work_item
    def inside(token: Any) -> None:
        tenacity.Retrying(sleep=lambda seconds: gate(token))(lambda: fail("inside"))

    @background_work_item(retry=Retry(backoff=lambda attempt, error: 0.001))
    def whole(token: Any) -> None:
        if "whole" not in order:
            gate(token)
        fail("whole")

    @background_work_item
    def other(token: Any) -> None:
        order.append("other")

    for item, expected in ((inside, ["inside", "inside", "other"]), (whole, ["whole", "other", "whole"])):
        order.clear()
        gate.opened.clear()
        with override_settings(QBWI={"MAX_WORKERS": 1}):
            first = item.queue()
            gate.await_entered()
            second = other.queue()
            gate.open()
            assert first.wait(PATIENCE)
            assert second.wait(PATIENCE)
        assert order == expected


def test_both_together_multiply() -> None:
    """Three attempts of an item around three of a call are nine calls."""
    calls: list[int] = []

    def call() -> None:
        calls.append(1)
        raise OSError

    @background_work_item(retry=Retry(max_attempts=3, backoff=lambda attempt, error: 0))
    def item(token: Any) -> None:
        by_stamina(call)

    handle = item.queue()
    assert handle.wait(PATIENCE)
    assert (handle.status, handle.info.attempt, len(calls)) == (S.FAILED, 3, 9)
