"""The item: one attempt to hand a batch of mails to its server, over one connection.

States of a mail: left -> accepted, or refused for good, or left for the next attempt. They are noted at a checkpoint
before each mail, so that what was accepted is not sent again by another attempt, nor by another engine.
Locks: none; an attempt has its batch for itself.

Five ways in which this could fail, and what stands against each:
- The server refuses one of several mails: the others are sent. For good: a record tells of it, and the item fails at
  its end. For now: the next attempt has that one alone.
- The connection is lost: if it has brought something, a new one is opened at once; else the attempt has failed.
- The process ends while a server refuses for now: what has a cancelled token is tried again in the same attempt, as
  long as there is time.
- It is lost between a mail and the server's reply: nobody can know whether it was accepted, and it is sent again, with
  the same Message-ID.
- A log handler mails what it is told of, also that a mail has failed: see `depth`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections import deque
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from django.core.mail import EmailMessage

from django_qbwi.contrib.mail.plain_messages import from_plain, to_plain
from django_qbwi.contrib.mail.transience import MailRetry, ends_the_connection, is_tried_again
from django_qbwi.contrib.mail.wrapped import fix_headers, make_connection, options_of_alias
from django_qbwi.core.cancellation import CancellationToken, CancelReason, OperationCancelled
from django_qbwi.core.exceptions import QBWIError
from django_qbwi.core.failures import message_of, type_of
from django_qbwi.core.items import current_work_item
from django_qbwi.intake.retries import Retry
from django_qbwi.machine.loggers import SafeLogger
from django_qbwi.work_items import background_work_item

logger = SafeLogger("django_qbwi.mail")

LAST_SECONDS = 2.0
"""At a shutdown no mail is begun that has less time than this."""

depth: ContextVar[int] = ContextVar("django_qbwi_mail_depth", default=0)
"""How many mails this code is about: 0 outside of a delivery, 1 where a mail tells that another one has failed."""


@contextlib.contextmanager
def about(batch: Batch) -> Iterator[None]:
    """Have what is mailed in a block, by log handlers for instance, be about this batch."""
    reset = depth.set(batch.depth + 1)
    try:
        yield
    finally:
        depth.reset(reset)


class MailNotSent(QBWIError):
    """Mails of a batch were refused for good; the others were sent. The message says how many, and why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Letter:
    """One mail of a batch."""

    key: str
    """The part before the @ of its Message-ID, if it has none of its own."""
    date: str
    """When it was given to us, as a header tells it."""
    message: EmailMessage
    """A copy that nobody else has."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one call of `send_messages` has given, and where it is to go."""

    letters: tuple[Letter, ...]
    alias: str | None = None
    """That of settings.MAILERS, None without it."""
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What the backend that sends is made with."""
    depth: int = 0
    retry: Retry = dataclasses.field(default_factory=MailRetry)

    def __repr__(self) -> str:
        # Without the options, which may have a password.
        return f"<Batch of {len(self.letters)} alias={self.alias!r}>"

    def to_plain(self) -> dict[str, Any]:
        """Return it as JSON can hold it: without options, which are those of the alias.

        Raises:
            InvalidWorkItem: One of the messages cannot be held so.
        """
        letters = [[letter.key, letter.date, to_plain(letter.message)] for letter in self.letters]
        return {"alias": self.alias, "depth": self.depth, "letters": letters}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Batch:
        """Return the batch of what `to_plain` has made."""
        letters = tuple(Letter(key, date, from_plain(message)) for key, date, message in plain["letters"])
        alias = plain["alias"]
        return cls(letters=letters, alias=alias, options=options_of_alias(alias), depth=plain["depth"])


def deliver(
    token: CancellationToken, batch: Batch, left: list[int] | None = None, refused: list[str] | None = None
) -> None:
    """Send the mails of a batch, or those of them that an attempt has left."""
    reset = depth.set(batch.depth + 1)
    indices = list(range(len(batch.letters))) if left is None else left
    try:
        Attempt(token, batch, indices, refused or []).run()
    finally:
        if current_work_item() is None:
            # A plain call. An item has a context of its own, in which its records are written behind this.
            depth.reset(reset)


@background_work_item(name="mail")
def deliver_plain(
    token: CancellationToken, plain: dict[str, Any], left: list[int] | None = None, refused: list[str] | None = None
) -> None:
    """Do the same with a batch that can move: in a module under its name, as engines demand."""
    deliver(token, Batch.from_plain(plain), left, refused)


class Attempt:
    """One attempt at a batch."""

    def __init__(self, token: CancellationToken, batch: Batch, left: list[int], refused: list[str]) -> None:
        self._token = token
        self._batch = batch
        self._todo = deque(left)
        self._later: list[int] = []
        """Those that were refused for now."""
        self._refused = list(refused)
        """Why, of those that were refused for good."""
        self._error: Exception | None = None
        """The last refusal for now."""
        self._cause: Exception | None = None
        """The first one for good."""
        self._connection: Any = None
        self._accepted_over_it = 0
        self._passes = 0

    def run(self) -> None:
        """Send; raises what makes the item be tried again, or fail."""
        self._send_what_is_left()
        while self._error is not None:
            # At a shutdown, an item that can move leaves here, rather than to fail.
            self._note()
            pause = self._pause_in_drain(self._error)
            if pause is None:
                raise self._error
            threading.Event().wait(pause)
            self._send_what_is_left()
        self._tell_of_refused()

    def _send_what_is_left(self) -> None:
        self._passes += 1
        self._error = None
        self._todo.extendleft(reversed(self._later))
        self._later.clear()
        try:
            while self._todo:
                self._note()
                self._stop_if_asked()
                self._send(self._todo[0])
        except Exception as error:
            self._error = error
        finally:
            self._close()

    def _pause_in_drain(self, error: Exception) -> float | None:
        """Return the seconds until it is tried again here: what fails once its token is cancelled has no next attempt.

        None if that would be too late, or is not wanted.
        """
        if self._token.reason is not CancelReason.SHUTDOWN:
            return None
        item, retry = current_work_item(), self._batch.retry
        attempt = (1 if item is None else item.info.attempt) + self._passes - 1
        try:
            seconds = retry.seconds_until_next(attempt, error)
        except Exception:
            # A backoff of the user's own; without one there is no next attempt either.
            logger.exception("The pause before the next attempt could not be told")
            return None
        remaining = self._token.remaining()
        if seconds is None or (remaining is not None and remaining - seconds < LAST_SECONDS):
            return None
        return seconds

    def _send(self, index: int) -> None:
        letter = self._batch.letters[index]
        # Not a matter of this mail: what fails here fails the attempt.
        connection = self._opened()
        try:
            fix_headers(connection, letter.message, letter.key, letter.date)
            count = connection.send_messages([letter.message])
        except Exception as error:
            if ends_the_connection(error):
                if not self._accepted_over_it:
                    raise
                self._close()
                return
            if not is_tried_again(self._batch.retry, error):
                self._refuse(letter, error)
            else:
                self._later.append(index)
                self._error = error
        else:
            self._accepted_over_it += 1
            if count == 0:
                logger.warning("Mail %s was not sent, as its backend says, without an error", letter.key)
        self._todo.popleft()

    def _opened(self) -> Any:
        if self._connection is None:
            self._accepted_over_it = 0
            connection = make_connection(self._batch.alias, self._batch.options)
            # Before it is opened: half of it may be, and is to be closed.
            self._connection = connection
            connection.open()
        return self._connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            connection.close()
        except Exception:
            # What was accepted is accepted: a server that is gone at the good-bye changes nothing.
            logger.debug("Closing the connection to the mail server failed", exc_info=True)

    def _note(self) -> None:
        """Note what is left; raises where the rest moves to another engine."""
        left = [*self._later, *self._todo]
        self._token.report(len(self._batch.letters) - len(left), len(self._batch.letters), "mails")
        if left:
            self._token.checkpoint(left=left, refused=list(self._refused))

    def _stop_if_asked(self) -> None:
        try:
            self._token.raise_if_cancellation_requested(unless_remaining=LAST_SECONDS)
        except OperationCancelled:
            for index in [*self._later, *self._todo]:
                letter = self._batch.letters[index]
                logger.error("Mail %s was not sent: its item was cancelled (%s)", letter.key, self._token.reason)
            raise

    def _refuse(self, letter: Letter, error: Exception) -> None:
        self._refused.append(f"{type_of(error)}: {message_of(error)}")
        self._cause = self._cause or error
        if len(self._batch.letters) > 1:
            # Else the item's own record tells of it.
            logger.error("Mail %s was refused: %s", letter.key, self._refused[-1])

    def _tell_of_refused(self) -> None:
        if not self._refused:
            return
        if len(self._batch.letters) == 1 and self._cause is not None:
            raise self._cause
        raise MailNotSent(
            f"{len(self._refused)} of {len(self._batch.letters)} mails were refused; the first one: {self._refused[0]}"
        ) from self._cause
