"""An SMTP server in a process of its own: notes what it has accepted, and refuses some of it the first time.

Its arguments are the port, and the file of subjects. Before it accepts a mail it may answer 451 to it, or hang up. Both
leave no doubt that it has not accepted it.
"""

from __future__ import annotations

import asyncio
import email
import signal
import sys
import zlib
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

SECONDS = 0.02
"""What it takes to accept a mail."""


class Sink:
    """What is done with each mail."""

    def __init__(self, accepted: Path) -> None:
        self._accepted = accepted.open("a", buffering=1)
        self._seen: set[str] = set()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Refuse it for now, hang up, or accept it."""
        content: Any = envelope.content
        mail = email.message_from_bytes(content)
        subject = str(mail["Subject"])
        # The same mails in every run.
        chance = zlib.crc32(subject.encode()) % 10
        if subject not in self._seen:
            self._seen.add(subject)
            if chance == 0:
                return "451 4.7.1 Greylisted"
            if chance == 1:
                assert server.transport is not None
                server.transport.close()
                return "421 4.3.2 Closing"
        await asyncio.sleep(SECONDS)
        self._accepted.write(f"{subject} {mail['Message-ID']}\n")
        return "250 OK"


async def main() -> None:
    """Serve until SIGTERM."""
    sink = Sink(Path(sys.argv[2]))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(sink, hostname="sink"), "127.0.0.1", int(sys.argv[1]))
    print("ready", flush=True)
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
