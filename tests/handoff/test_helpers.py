"""Items in helper processes move as others do."""

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from django_qbwi import WorkItemStatus
from tests.handoff import helped
from tests.handoff.conftest import end
from tests.support.gates import until

S = WorkItemStatus
pytestmark = pytest.mark.skipif(not hasattr(os, "posix_spawn"), reason="helper processes need POSIX")


def test_running_item_moves_from_its_checkpoint(
    configure: Callable[..., None], rows: list[SimpleNamespace], tmp_path: Path
) -> None:
    """The shutdown reaches it there, its checkpoint reaches the engine, and it leaves its code."""
    configure()
    path = tmp_path / "arrived"
    handle = helped.read.queue(str(path))
    until(path.exists)
    end()
    assert handle.status is S.HANDED_OFF
    assert rows[0].args == ["tests.handoff.helped:read", [str(path), 3], {}, {"name": "pages"}]


def test_engine_of_all_items_gets_it(configure: Callable[..., None], rows: list[SimpleNamespace]) -> None:
    """Where decorated functions run on an engine, no helper is started."""
    configure(ENGINE="durable")
    handle = helped.read.queue("nowhere")
    until(lambda: handle.status.is_terminal)
    assert handle.status is S.HANDED_OFF
    assert rows[0].args[0] == "tests.handoff.helped:read"
