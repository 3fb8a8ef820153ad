"""An item that has reported, and other processes that are stood for by a function."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import override_settings

from django_qbwi import CancellationToken, WorkItemHandle, hosting, queue_background_work_item
from django_qbwi.inspection.reader import Answers
from tests.support.gates import PATIENCE, Gate


@pytest.fixture
def gate() -> Gate:
    """Return what ends the item."""
    return Gate()


@pytest.fixture
def reporting(gate: Gate) -> Iterator[WorkItemHandle]:
    """Run an item that has reported 21 of 50, until the gate opens."""

    def work(token: CancellationToken) -> None:
        token.report(21, 50, "page 21")
        with token.register(gate.open):
            gate(token)

    with override_settings(QBWI={}):
        handle = queue_background_work_item(work, name="secret name")
        gate.await_entered()
        yield handle
        gate.open()
        assert handle.wait(PATIENCE)


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Return a function that sets what other processes answer, and gives the list of what they are asked."""

    def say(*answers: Any, **gaps: Any) -> list[Any]:
        asked: list[Any] = []

        def ask_others(request: dict[str, Any], pids: set[int] | None = None) -> Answers | None:
            asked.append((request, pids))
            if answers and isinstance(answers[0], Exception):
                raise answers[0]
            return Answers(answers=list(enumerate(answers, 100)), **{"unresponsive": [], "refused": [], **gaps})

        monkeypatch.setattr(hosting, "ask_others", ask_others)
        return asked

    return say
