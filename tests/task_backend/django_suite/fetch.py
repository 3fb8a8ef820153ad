"""Fetch Django's own tests of tasks, of the Django that is installed: its wheel has none, its source distribution has.

`python tests/task_backend/django_suite/fetch.py FOLDER` puts the package `tasks` into FOLDER.
"""

import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import django


def main(folder: Path) -> None:
    """Unpack them, unless those of this version are there already."""
    version = django.get_version()
    mark = folder / "version"
    if mark.exists() and mark.read_text(encoding="utf-8") == version:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as downloads:
        unpack(download(version, downloads), folder)
    mark.write_text(version, encoding="utf-8")


def download(version: str, downloads: str) -> Path:
    """Return the source distribution, from the index that pip is configured for."""
    # pip asks an archive for its metadata: by the setuptools that are here, which saves it an environment of its own.
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-binary", "Django", "--dest", downloads]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, f"Django=={version}"], check=True)
    (path,) = Path(downloads).glob("*.tar.gz")
    return path


def unpack(path: Path, folder: Path) -> None:
    """Put what is in `tests/tasks` of an archive into `folder`, as `tasks`."""
    with tarfile.open(path) as archive:
        for member in archive:
            # Its first part is name and version.
            place = member.name.partition("/")[2]
            if place.startswith("tests/tasks/"):
                member.name = place.removeprefix("tests/")
                archive.extract(member, folder, filter="data")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
