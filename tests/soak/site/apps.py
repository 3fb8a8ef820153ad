"""The app, which keeps the ledger: a line for each item that was accepted, and for each terminal status."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig

from django_qbwi import signals
from tests.processes.site.report import report


class SoakConfig(AppConfig):
    """Connects the ledger to the signals of items."""

    name = "tests.soak.site"
    label = "soak"

    def ready(self) -> None:
        signals.work_item_queued.connect(_accepted)
        signals.work_item_finished.connect(_ended)
        signals.work_item_rejected.connect(_refused)
        signals.work_item_retried.connect(_retried)
        signals.drain_finished.connect(_drained)


def _accepted(info: Any, **kwargs: Any) -> None:
    report("accepted", info.name, id=info.id)


def _ended(info: Any, **kwargs: Any) -> None:
    report("ended", info.name, id=info.id, status=str(info.status), reason=str(info.cancel_reason or ""))


def _refused(info: Any, **kwargs: Any) -> None:
    report("refused", info.name)


def _retried(info: Any, **kwargs: Any) -> None:
    report("retried", info.name, id=info.id)


def _drained(**kwargs: Any) -> None:
    report("drained", elapsed=kwargs["elapsed"])
