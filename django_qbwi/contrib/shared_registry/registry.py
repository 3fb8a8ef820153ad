"""The registry as hosting and operations know it: the heartbeat of this process, and the rows of all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError

from django_qbwi import hosting
from django_qbwi.contrib.shared_registry.heartbeat import BEAT_SECONDS, Heartbeat
from django_qbwi.contrib.shared_registry.store import STALE_AFTER, Store
from django_qbwi.core.exceptions import InspectionError, ProcessUnreachable
from django_qbwi.hosting.identity import sites
from django_qbwi.inspection.records import ProcessRecord
from django_qbwi.inspection.registry import StoredProcess, place_of_this_process
from django_qbwi.inspection.subject import Subject
from django_qbwi.machine.loggers import SafeLogger

logger = SafeLogger("django_qbwi.inspection")


class SharedRegistry:
    """One table for all hosts of a site; implements `django_qbwi.inspection.registry.Registry`."""

    pick_up_seconds = BEAT_SECONDS

    def __init__(self, store: Store | None = None) -> None:
        self._store = Store() if store is None else store
        # By pid, so that a forked child finds none, and without a lock, which it could find taken.
        self._heartbeats: dict[int, Heartbeat] = {}

    def __repr__(self) -> str:
        return f"<SharedRegistry {self._store!r}>"

    @property
    def name(self) -> str:
        """See `Registry.name`."""
        return f"django_qbwi.contrib.shared_registry (database {self._store.database!r})"

    def open(self, subject: Subject) -> None:
        """See `Registry.open`."""
        pid = os.getpid()
        heartbeat = self._heartbeats.get(pid)
        if heartbeat is None:
            made = Heartbeat(subject, self._store, lambda: sites()[0].name, _place)
            heartbeat = self._heartbeats.setdefault(pid, made)
        heartbeat.start()

    def close(self) -> None:
        """See `Registry.close`."""
        heartbeat = self._heartbeats.get(os.getpid())
        if heartbeat is not None:
            heartbeat.stop()

    def before_fork(self) -> None:
        """Keep the fork out of a beat."""
        heartbeat = self._heartbeats.get(os.getpid())
        if heartbeat is not None:
            heartbeat.before_fork()

    def after_fork_in_parent(self) -> None:
        """Let the beats go on."""
        heartbeat = self._heartbeats.get(os.getpid())
        if heartbeat is not None:
            heartbeat.after_fork_in_parent()

    def on_drain_started(self, **kwargs: Any) -> None:
        """Have the other hosts see at once that this process ends."""
        heartbeat = self._heartbeats.get(os.getpid())
        if heartbeat is not None:
            heartbeat.wake()

    def read(self) -> list[StoredProcess]:
        """See `Registry.read`; a row that nobody understands is left out."""
        try:
            rows = self._store.read(site.name for site in sites())
        except (DatabaseError, ImproperlyConfigured) as error:
            raise InspectionError(f"the shared registry could not be read: {error}") from error
        found = []
        for row in rows:
            record = _record(row.state)
            if record is not None:
                found.append(
                    StoredProcess(
                        key=row.key,
                        record=record,
                        place=row.place,
                        age=row.age.total_seconds(),
                        is_stale=row.age > STALE_AFTER,
                    )
                )
        return found

    def request_cancellation(self, wanted: Mapping[str, Iterable[str]], by: str) -> set[str]:
        """See `Registry.request_cancellation`."""
        try:
            return {
                key for key, item_ids in wanted.items() if self._store.request(key, [(item, by) for item in item_ids])
            }
        except (DatabaseError, ImproperlyConfigured) as error:
            raise InspectionError(f"the shared registry could not be written: {error}") from error


def _record(state: str) -> ProcessRecord | None:
    try:
        return ProcessRecord.from_dict(json.loads(state))
    except (ProcessUnreachable, ValueError, RecursionError) as error:
        # Of another version, whose process is stale soon, or written by somebody else.
        logger.debug("A row of the shared registry is no process: %s", error)
        return None


def _place() -> str:
    # Who does not listen, for want of a free file for instance, must not be taken for dead by those who ask around.
    publisher = hosting.this_process().visibility.publisher
    return "" if publisher is None or publisher.address is None else place_of_this_process()
