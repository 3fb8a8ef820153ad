"""How other processes see this one: the channel on this machine, and the registry for all hosts."""

from __future__ import annotations

from collections.abc import Callable

from django.core.exceptions import ImproperlyConfigured

from django_qbwi.hosting.assembly import Assembly
from django_qbwi.hosting.identity import sites
from django_qbwi.inspection.places import Place, find_place
from django_qbwi.inspection.publisher import Publisher
from django_qbwi.inspection.subject import Inspected, Subject
from django_qbwi.machine.primitives import Lock, holding
from django_qbwi.signals import inspection_logger

_SHOWN_LIMITS = ("max_workers", "max_async_in_flight", "max_queued", "item_timeout", "shutdown_timeout")


class Visibility:
    """Shows one process, from its first request or item on, where that is possible and wanted."""

    def __init__(
        self,
        subject: Subject,
        lock: Lock,
        is_wanted: Callable[[], bool],
        share: Callable[[Subject], object],
    ) -> None:
        """Make it, and open nothing.

        Args:
            subject: What can be asked of the process.
            lock: A re-entrant one, held while the channel is opened.
            is_wanted: Returns QBWI["INSPECTION"] as it is now; may raise ImproperlyConfigured.
            share: Called with `subject`, off the items' path, to show it to other hosts.
        """
        self.subject = subject
        self.publisher: Publisher | None = None
        self._lock = lock
        self._is_wanted = is_wanted
        self._share = share

    def __repr__(self) -> str:
        return f"<Visibility publisher={self.publisher!r}>"

    def open(self) -> None:
        """Let others ask; the channel is opened once. Any thread, off the items' path."""
        self._listen()
        try:
            # After it, for a registry tells where this process can be asked.
            if self._is_wanted():
                self._share(self.subject)
        except (RuntimeError, ImproperlyConfigured) as error:
            inspection_logger.debug("Other hosts cannot see this process: %r", error)

    def close(self) -> None:
        """Close the channel; at the exit of the process."""
        if self.publisher is not None:
            self.publisher.close()

    def close_in_child(self) -> None:
        """Leave the channel to the process that has forked this one."""
        if self.publisher is not None:
            self.publisher.close_in_child()

    def _listen(self) -> None:
        if self.publisher is not None:
            return
        try:
            place = find_place()
            if place is None or not self._is_wanted():
                return
            holding(self._lock, self._publish, place)
        except (OSError, RuntimeError, ImproperlyConfigured) as error:
            inspection_logger.debug("Other processes cannot look into this one: %r", error)

    def _publish(self, place: Place) -> None:
        if self.publisher is None:
            publisher = Publisher(place, sites(), self.subject)
            publisher.open()
            self.publisher = publisher


def what_is_shown(assembly: Assembly | None) -> Inspected | None:
    """Return what can be seen of a scheduler, None where there is none yet."""
    if assembly is None:
        return None
    settings = assembly.settings
    return Inspected(
        scheduler=assembly.scheduler,
        limits={name: getattr(settings, name) for name in _SHOWN_LIMITS},
        drain_seconds=settings.shutdown_timeout,
        close_connections=assembly.environment.thread_ended,
    )
