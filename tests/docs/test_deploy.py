"""The lines of the deployment pages work: each server is started with them, and finishes an item at its end."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.docs import pages

PATIENCE = 60.0  # seconds

pytestmark = pytest.mark.processes

SITE = """
import threading
import time

from django.http import HttpResponse
from django.urls import path

from django_qbwi import background_work_item


begun = threading.Event()


@background_work_item
def work(token):
    begun.set()
    token.wait()
    time.sleep(1)
    print("finished with", round(token.remaining()), "seconds left", flush=True)


def view(request):
    work.queue()
    # One that begins behind the first sign of the end is undisturbed for half of the time.
    begun.wait()
    return HttpResponse("begun")


urlpatterns = [path("", view)]
"""


def commands_of(page: str, program: str) -> list[list[str]]:
    """Return the arguments of the command lines of a page that start a program, but for those to try it by hand."""
    return [
        shlex.split(line)[2:]
        for block in pages.blocks(page)
        if block.language == "console"
        for line in block.text.splitlines()
        if line.startswith(f"$ {program} ") and not line.endswith("&")
    ]


def command_of(page: str, program: str) -> list[str]:
    """Return those of the first one."""
    return commands_of(page, program)[0]


def serve_and_stop(directory: Path, module: str, arguments: list[str], bind: str) -> tuple[int, str]:
    """Start a server in the project, have it queue an item, stop it by SIGTERM; return status and output."""
    shutil.copytree(pages.SKELETON, directory, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    (directory / "mysite" / "urls.py").write_text(SITE, encoding="utf-8")
    with (directory / "mysite" / "settings.py").open("a", encoding="utf-8") as settings:
        settings.write('ALLOWED_HOSTS = ["127.0.0.1"]\n')
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = [str(Path(sys.executable).parent / module)] if module == "uwsgi" else [sys.executable, "-m", module]
    server = subprocess.Popen(
        [*program, *(argument.replace("{port}", str(port)) for argument in [*arguments, *bind.split()])],
        cwd=directory,
        env=pages.environ(PYTHONDEVMODE="", PYTHONUNBUFFERED="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        fetch(f"http://127.0.0.1:{port}/", server)
        server.terminate()
        output = server.communicate(timeout=PATIENCE)[0]
    finally:
        server.kill()
        server.wait()
    return server.returncode, output


def fetch(address: str, server: subprocess.Popen[str]) -> None:
    """Ask until the server answers."""
    limit = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=PATIENCE):
                return
        except OSError:
            assert server.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.05)


def assert_time_was_left(output: str) -> None:
    """The item had the package's limit, not the 30 seconds of a server: 88 seconds, of which it took one."""
    (left,) = re.findall(r"finished with (\d+) seconds left", output)
    assert 70 <= int(left) <= 87


def test_gunicorn_with_the_file(tmp_path: Path) -> None:
    """The page's gunicorn.conf.py gives an item 88 seconds, and nothing is warned of."""
    page = "how-to/deploy/gunicorn.rst"
    pages.write_files(pages.blocks(page), tmp_path)
    status, output = serve_and_stop(tmp_path, "gunicorn", ["--config", "gunicorn.conf.py"], "--bind 127.0.0.1:{port}")
    assert status == 0
    assert_time_was_left(output)
    assert "SHUTDOWN_TIMEOUT" not in output


def test_gunicorn_with_the_command(tmp_path: Path) -> None:
    """The page's command line does the same."""
    arguments = command_of("how-to/deploy/gunicorn.rst", "gunicorn")
    status, output = serve_and_stop(tmp_path, "gunicorn", arguments, "--bind 127.0.0.1:{port}")
    assert status == 0
    assert_time_was_left(output)


def test_uvicorn_with_the_command(tmp_path: Path) -> None:
    """The page's command line: the item finishes, and the server dies of SIGTERM, as without us."""
    arguments = command_of("how-to/deploy/uvicorn.rst", "uvicorn")
    status, output = serve_and_stop(tmp_path, "uvicorn", arguments, "--port {port}")
    assert status == -15
    assert_time_was_left(output)


FURTHER = [
    # Page and module, program, exit status.
    ("waitress", "waitress-serve", 0),
    ("cheroot", "cheroot", -15),
    ("granian", "granian", 0),
    ("hypercorn", "hypercorn", 0),
    ("daphne", "daphne", 0),
]
COMMANDS = [
    pytest.param(module, arguments, status, id=f"{module} {number}")
    for module, program, status in FURTHER
    for number, arguments in enumerate(commands_of(f"how-to/deploy/{module}.rst", program), 1)
]


@pytest.mark.parametrize(("module", "arguments", "status"), COMMANDS)
def test_further_servers(module: str, arguments: list[str], status: int, tmp_path: Path) -> None:
    """The command lines of the pages on further servers, with a port of the test's, do as they say."""
    pytest.importorskip(module, reason=f"{module} is not installed here")
    with_port = [re.sub(r"^(127\.0\.0\.1:)?8000$", r"\g<1>{port}", argument) for argument in arguments]
    found, output = serve_and_stop(tmp_path, module, with_port, "")
    assert found == status, output
    assert_time_was_left(output)


@pytest.mark.parametrize("worker_class", ["gevent", "uvicorn_worker.UvicornWorker", "asgi"])
def test_further_workers_of_gunicorn(worker_class: str, tmp_path: Path) -> None:
    """The command lines of gunicorn's page for gevent and ASGI."""
    if worker_class != "asgi":
        pytest.importorskip(worker_class.partition(".")[0], reason=f"{worker_class} is not installed here")
    (arguments,) = (found for found in commands_of("how-to/deploy/gunicorn.rst", "gunicorn") if worker_class in found)
    status, output = serve_and_stop(tmp_path, "gunicorn", arguments, "--bind 127.0.0.1:{port}")
    assert status == 0, output
    assert_time_was_left(output)
    assert "SHUTDOWN_TIMEOUT" not in output


def test_uwsgi_with_the_file(tmp_path: Path) -> None:
    """The page's uwsgi.ini: the item has the time of worker-reload-mercy, less the margin."""
    if not (Path(sys.executable).parent / "uwsgi").exists():
        pytest.skip("uwsgi is not installed here")
    (block,) = (block for block in pages.blocks("how-to/deploy/uwsgi.rst") if block.path == "uwsgi.ini")
    (tmp_path / "uwsgi.ini").write_text(re.sub("http-socket.*\n", "", block.text), encoding="utf-8")
    status, output = serve_and_stop(
        tmp_path, "uwsgi", ["--ini", "uwsgi.ini"], f"--home {sys.prefix} --http-socket 127.0.0.1:{{port}}"
    )
    assert status == 0, output
    assert_time_was_left(output)
    assert "SHUTDOWN_TIMEOUT" not in output
