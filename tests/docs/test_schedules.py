"""The cron line, the systemd units and the CronJob of the page on schedules do what they say, as far as can be told."""

from __future__ import annotations

import configparser
import contextlib
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from django_qbwi import conf
from django_qbwi.console.options import VERBS, Verb
from tests.docs import pages
from tests.docs.test_code_blocks import build, run
from tests.support.scripts import unexpected

PAGE = "how-to/run-on-schedule.rst"
PATIENCE = 60
PYTHON = "/srv/mysite/.venv/bin/python"


def block(caption: str) -> str:
    """Return the block of the page with this caption."""
    (found,) = (found.text for found in pages.blocks(PAGE) if found.caption and found.caption.endswith(caption))
    return found


def unit(caption: str) -> configparser.ConfigParser:
    """Return a systemd unit."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(block(caption))
    return parser


def cron_job() -> Any:
    """Return the manifest."""
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed here")
    return yaml.safe_load(block("ship-orders.yaml"))


def words_of_cron() -> list[str]:
    """Return the command of the cron line, for a shell."""
    fields = block("/etc/cron.d/mysite").split(None, 6)
    assert [re.fullmatch(r"\*|\d+", field) is not None for field in fields[:5]] == [True] * 5
    assert fields[5] == "mysite"
    here = fields[6].strip().replace("cd /srv/mysite", "true").replace(".venv/bin/python", shlex.quote(sys.executable))
    if shutil.which("flock") is None:
        here = here.replace("flock --nonblock ship_orders.lock ", "")
    return ["sh", "-c", here]


def words_of_systemd() -> list[str]:
    """Return the command of the service."""
    words = shlex.split(unit("ship-orders.service")["Service"]["ExecStart"])
    assert words[0] == PYTHON
    return [sys.executable, *words[1:]]


def words_of_kubernetes() -> list[str]:
    """Return the command of the container."""
    (container,) = cron_job()["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    words: list[str] = container["command"]
    assert words[0] == "python"
    return [sys.executable, *words[1:]]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the project of the page, with its tables."""
    directory = tmp_path_factory.mktemp("project")
    build(PAGE, directory)
    run(directory, "manage.py", "migrate", "--run-syncdb", "-v0")
    return directory


@pytest.fixture
def orders(project: Path) -> Iterator[sqlite3.Connection]:
    """Return its database, with more orders than one run ships."""
    with contextlib.closing(sqlite3.connect(project / "db.sqlite3", isolation_level=None)) as database:
        columns = "email, paid, shipped, express, archived"
        database.execute("DELETE FROM shop_order")
        database.executemany(f"INSERT INTO shop_order ({columns}) VALUES ('', 0, 0, 0, 0)", [()] * 101)
        yield database


@pytest.mark.skipif(shutil.which("sh") is None, reason="there is no shell")
@pytest.mark.parametrize(
    ("words", "says"),
    [(words_of_cron, False), (words_of_systemd, True), (words_of_kubernetes, True)],
    ids=["cron", "systemd", "kubernetes"],
)
def test_the_command_line_runs_the_item(words: Any, says: bool, project: Path, orders: sqlite3.Connection) -> None:
    """In the project of the page, with the paths of this machine; cron hears nothing of a success."""
    result = subprocess.run(
        words(), cwd=project, env=pages.environ(PYTHONDEVMODE=""), capture_output=True, text=True, timeout=PATIENCE
    )
    assert (result.returncode, unexpected(result.stderr)) == (0, "")
    assert result.stdout.startswith("shop.items.ship_orders succeeded after ") is says
    assert (result.stdout == "") is not says
    assert orders.execute("SELECT count(*) FROM shop_order WHERE shipped").fetchall() == [(100,)]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """Nothing in them is unknown, and the time of the timer is one."""
    for name in ("ship-orders.service", "ship-orders.timer"):
        # It looks for the program, which is elsewhere here.
        (tmp_path / name).write_text(block(name).replace(PYTHON, sys.executable), encoding="utf-8")
    assert analyze("verify", *(str(path) for path in sorted(tmp_path.iterdir()))) == ""
    assert "Normalized form" in analyze("calendar", unit("ship-orders.timer")["Timer"]["OnCalendar"])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed here")
def test_a_misspelled_unit_would_be_seen(tmp_path: Path) -> None:
    """`systemd-analyze verify` names what it does not know."""
    path = tmp_path / "wrong.service"
    text = block("ship-orders.service").replace(PYTHON, sys.executable).replace("KillMode", "KilMode")
    path.write_text(text, encoding="utf-8")
    assert "KilMode" in analyze("verify", str(path))


def analyze(*words: str) -> str:
    """Return what systemd-analyze prints, but for what it says of this machine's own units."""
    result = subprocess.run(
        ["systemd-analyze", *words], capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL
    )
    lines = (result.stdout + result.stderr).splitlines()
    return "\n".join(line for line in lines if words[0] != "verify" or "ship-orders" in line or "wrong" in line)


def test_the_service_and_its_timer_belong_together() -> None:
    """Same name; started by the timer alone, once at a time, with time to end."""
    service, timer = unit("ship-orders.service"), unit("ship-orders.timer")
    assert service["Service"]["Type"] == "oneshot"
    assert "Install" not in service
    assert timer["Install"]["WantedBy"] == "timers.target"
    assert float(service["Service"]["TimeoutStopSec"]) > conf.Settings().shutdown_timeout


def test_the_cron_job_is_one() -> None:
    """The fields stand where Kubernetes looks for them; one at a time, not repeated, with time to end."""
    manifest = cron_job()
    assert (manifest["apiVersion"], manifest["kind"]) == ("batch/v1", "CronJob")
    assert (len(manifest["spec"]["schedule"].split()), manifest["spec"]["concurrencyPolicy"]) == (5, "Forbid")
    job = manifest["spec"]["jobTemplate"]["spec"]
    assert (job["backoffLimit"], job["template"]["spec"]["restartPolicy"]) == (0, "Never")
    assert job["template"]["spec"]["terminationGracePeriodSeconds"] > conf.Settings().shutdown_timeout


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed here")
def test_kubectl_reads_the_cron_job(tmp_path: Path) -> None:
    """Its own parser, which needs no cluster, takes the manifest for a resource."""
    (tmp_path / "ship-orders.yaml").write_text(block("ship-orders.yaml"), encoding="utf-8")
    (tmp_path / "kustomization.yaml").write_text("resources: [ship-orders.yaml]\n", encoding="utf-8")
    result = subprocess.run(["kubectl", "kustomize", str(tmp_path)], capture_output=True, text=True, timeout=PATIENCE)
    assert (result.returncode, "kind: CronJob" in result.stdout) == (0, True), result.stderr


@pytest.mark.parametrize("verb", VERBS.values(), ids=list(VERBS))
def test_each_operation_is_in_the_reference(verb: Verb) -> None:
    """With its place in the table of the command."""
    page = (pages.DOCS / "reference" / "command.rst").read_text(encoding="utf-8")
    assert re.search(rf"^   \* - ``{verb.name}\b", page, re.MULTILINE)
