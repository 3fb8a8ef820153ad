"""A MariaDB of our own in a temporary folder, on a private socket; Debian's binaries, if they are there."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PATIENCE = 60


def binaries() -> tuple[str, str] | None:
    """Return the server and the program that makes its tables, None if there are none."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))
    server, install = shutil.which("mariadbd", path=path), shutil.which("mariadb-install-db", path=path)
    return (server, install) if server is not None and install is not None else None


@contextlib.contextmanager
def running() -> Iterator[dict[str, object]]:
    """Start one; give Django's settings for it."""
    found = binaries()
    assert found is not None
    server, install = found
    with tempfile.TemporaryDirectory(prefix="qbwi-my-", ignore_cleanup_errors=True) as name:
        user = "mysql" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
        shutil.chown(name, user)
        data, socket = f"{name}/data", f"{name}/socket"
        command = [install, "--no-defaults", f"--datadir={data}", f"--user={user}", "--skip-test-db"]
        subprocess.run(
            [*command, "--auth-root-authentication-method=normal"], check=True, capture_output=True, timeout=PATIENCE
        )
        command = [server, "--no-defaults", f"--datadir={data}", f"--user={user}", f"--socket={socket}"]
        # No TCP port at all: nobody else can reach it, and nothing can be in its way.
        with subprocess.Popen(
            [*command, "--skip-networking", f"--pid-file={name}/pid"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                end = time.monotonic() + PATIENCE
                while not Path(socket).exists():
                    assert process.poll() is None, "MariaDB has ended"
                    assert time.monotonic() < end, "MariaDB does not start"
                    time.sleep(0.05)
                yield {"ENGINE": "django.db.backends.mysql", "NAME": "mysql", "USER": "root", "HOST": socket}
            finally:
                process.terminate()
                process.wait(PATIENCE)
