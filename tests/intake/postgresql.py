"""A PostgreSQL of our own in a temporary folder, on a private socket; Debian's binaries, if they are there."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PATIENCE = 60


def binaries() -> Path | None:
    """Return the folder with initdb and pg_ctl, None if there is none."""
    for candidate in (shutil.which("initdb"), *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")))):
        if candidate is not None:
            folder = Path(candidate).resolve().parent
            if (folder / "pg_ctl").exists() and (folder / "postgres").exists():
                return folder
    return None


@contextlib.contextmanager
def offered() -> Iterator[dict[str, Any]]:
    """Start one as `running` does; skip the test that asks for it where that cannot be."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    if binaries() is None:
        pytest.skip("there are no PostgreSQL binaries (initdb, pg_ctl) on this machine")
    with running() as settings:
        yield settings


@contextlib.contextmanager
def running() -> Iterator[dict[str, object]]:
    """Start one; give Django's settings for it."""
    folder = binaries()
    assert folder is not None
    # A path of a socket may have 107 characters only, which those of pytest's folders can pass.
    with tempfile.TemporaryDirectory(prefix="qbwi-pg-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        owner = _unprivileged()
        if owner is not None:
            shutil.chown(directory, owner.pw_uid, owner.pw_gid)
        data = str(directory / "data")

        def call(program: str, *arguments: str) -> None:
            # Root may not run it, and initdb asks for a name for its uid.
            user = {} if owner is None else {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
            result = subprocess.run(  # type: ignore[call-overload]
                [str(folder / program), *arguments],
                cwd=directory,
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "HOME": name},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=PATIENCE,
                **user,
            )
            assert result.returncode == 0, result.stderr.decode(errors="replace")

        call("initdb", "-D", data, "-U", "qbwi", "-A", "trust", "-E", "UTF8", "--no-sync")
        # No TCP port at all: nobody else can reach it, and nothing can be in its way.
        options = f"-c listen_addresses='' -c unix_socket_directories='{name}' -c fsync=off -c max_connections=100"
        call("pg_ctl", "-D", data, "-w", "-l", str(directory / "log"), "-o", options, "start")
        try:
            yield {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": "postgres",
                "USER": "qbwi",
                "HOST": name,
                "PORT": "5432",
            }
        finally:
            call("pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")


def _unprivileged() -> pwd.struct_passwd | None:
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise AssertionError("PostgreSQL refuses to run as root, and there is no other user")
