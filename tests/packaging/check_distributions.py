"""Look into the built distributions, install the wheel far from the checkout and use it there.

Run by `tox run -e package`, after `python -m build`; the argument is the folder with both files.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Iterable
from pathlib import Path

SCRIPT = '''
"""A process that no server hosts: its exit waits for what it queued."""
import sys
import time

import django
from django.conf import settings

if __name__ == "__main__":
    settings.configure(INSTALLED_APPS=["django_qbwi"], USE_TZ=True)
    django.setup()

    from django_qbwi import background_work_item, queue_background_work_item

    assert "site-packages" in sys.modules["django_qbwi"].__file__, sys.modules["django_qbwi"].__file__

    def sync_item(token, text):
        time.sleep(0.2)
        print(text, flush=True)

    @background_work_item(name="async")
    async def async_item(token, text):
        print(text, flush=True)

    queue_background_work_item(sync_item, "sync item done")
    async_item.queue("async item done")
    print("end of the script", flush=True)
'''

USER_TESTS = '''
"""The test suite of a user, with the fixtures that the installed package brings."""
from django_qbwi import queue_background_work_item


def test_immediate(immediate_work_items):
    ran = []
    queue_background_work_item(lambda token, n: ran.append(n), 1)
    assert ran == [1]


def test_captured(captured_work_items):
    ran = []
    queue_background_work_item(lambda token, n: ran.append(n), 1)
    assert ran == []
    captured_work_items.run_all()
    assert ran == [1]
'''

USER_SETTINGS = """
SECRET_KEY = "for this test only"
INSTALLED_APPS = ["django_qbwi"]
USE_TZ = True
"""


def main(folder: Path) -> None:
    """Check everything, and say so in one line."""
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    check_wheel(wheel)
    check_sdist(sdist)
    with tempfile.TemporaryDirectory(prefix="qbwi-package-") as elsewhere:
        use_elsewhere(wheel, Path(elsewhere))
    print(f"{wheel.name} and {sdist.name} are complete; the wheel works where it was installed")


def check_wheel(path: Path) -> None:
    """Refuse a wheel with too much or too little in it, or with other requirements than the two."""
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        (metadata_name,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = wheel.read(metadata_name).decode().partition("\n\n")[0].splitlines()
    info = metadata_name.rpartition("/")[0]
    strange = [name for name in names if not name.startswith(("django_qbwi/", info))]
    require(not strange, f"the wheel holds files of other packages: {strange}")
    files = (name for name in Path().glob("django_qbwi/**/*") if name.is_file() and name.parent.name != "__pycache__")
    sources = [name.as_posix() for name in files]
    wanted = [f"{info}/entry_points.txt", f"{info}/licenses/LICENSE", *sources]
    require_all(wanted, names, path)
    requirements = {line for line in metadata if line.startswith("Requires-Dist:") and "extra ==" not in line}
    require(
        requirements == {"Requires-Dist: Django>=5.2", "Requires-Dist: asgiref>=3.8.1"},
        f"unexpected requirements: {sorted(requirements)}",
    )


def check_sdist(path: Path) -> None:
    """Refuse a source distribution that could not be tested."""
    root = path.name.removesuffix(".tar.gz")
    with tarfile.open(path) as sdist:
        names = sdist.getnames()
    wanted = ["CHANGELOG.md", "LICENSE", "README.md", "tox.ini", "tests/settings.py", "docs/conf.py"]
    require_all([f"{root}/{name}" for name in wanted], names, path)


def use_elsewhere(wheel: Path, folder: Path) -> None:
    """Install the wheel into an environment of its own, run a script and a user's tests with it."""
    home = folder / "venv"
    venv.create(home, with_pip=True)
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    run(folder, python, "-m", "pip", "install", "--quiet", f"{wheel.resolve()}", "pytest", "pytest-django")

    (folder / "script.py").write_text(SCRIPT)
    output = run(folder, python, "-X", "dev", "script.py")
    lines = sorted(output.splitlines())
    require(lines == ["async item done", "end of the script", "sync item done"], f"the script printed {output!r}")

    (folder / "settings.py").write_text(USER_SETTINGS)
    (folder / "test_user.py").write_text(USER_TESTS)
    options = ("-p", "no:cacheprovider", "-W", "error", "--ds=settings", "-o", "pythonpath=.")
    print(run(folder, python, "-m", "pytest", *options, "test_user.py"))


def run(folder: Path, *command: str | Path) -> str:
    """Run a command in the folder and return what it printed; leave with its output if it fails or complains."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    result = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=300)
    talk = result.stdout + result.stderr
    require(result.returncode == 0, f"{command} ended with status {result.returncode}:\n{talk}")
    if "pip" not in command:
        require(not result.stderr, f"{command} complained:\n{talk}")
    return result.stdout


def require_all(wanted: Iterable[str], names: Iterable[str], path: Path) -> None:
    """Leave with a message that names what is missing."""
    missing = sorted(set(wanted) - set(names))
    require(not missing, f"{path.name} lacks {missing}")


def require(truth: bool, message: str) -> None:
    """Leave with the message unless it is true."""
    if not truth:
        sys.exit(message)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
