"""Which Python runs a helper. Where it is embedded (uWSGI, mod_wsgi), `sys.executable` is the server's program."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator


def find_python(given: str | None = None) -> str:
    """Return the path of the Python interpreter of this process, or the one that was given.

    Raises:
        FileNotFoundError: There is none to be found; the message says what to set.
    """
    looked = [given] if given is not None else list(dict.fromkeys(_candidates()))
    for path in looked:
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    raise FileNotFoundError(
        f"no Python interpreter was found for a helper process (looked for {', '.join(looked)}): set "
        'QBWI["PROCESS_PYTHON"] to the path of the python of this site'
    )


def _candidates() -> Iterator[str]:
    """Yield where it may be, the environment of the site first: there are the packages."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if _is_python(sys.executable):
        yield sys.executable
    names = (f"python{version}", f"python{sys.version_info.major}", "python")
    for prefix in (sys.prefix, sys.exec_prefix):
        yield from (os.path.join(prefix, "bin", name) for name in names)
    for folder in (sysconfig.get_config_var("BINDIR"), os.path.join(sys.base_prefix, "bin")):
        if folder:
            yield from (os.path.join(folder, name) for name in names)


def _is_python(path: str | None) -> bool:
    return os.path.basename(str(path)).lower().startswith(("python", "pypy"))
