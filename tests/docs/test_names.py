"""The reference names what the package has, all of it, and as it is."""

from __future__ import annotations

import ast
import dataclasses
import itertools
import re

import pytest

import django_qbwi
from django_qbwi import WorkItemStatus, conf, signals, testing
from django_qbwi.lifecycle.servers import GunicornHost
from django_qbwi.task_backend.checks import OPTIONS
from tests.docs import pages

REFERENCE = pages.DOCS / "reference"


def reference(name: str) -> str:
    """Return the source of a page of the reference."""
    return (REFERENCE / f"{name}.rst").read_text(encoding="utf-8")


def table_rows(text: str) -> list[list[str]]:
    """Return the cells of all list-tables of a page, row by row."""
    rows: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith("   * - "):
            rows.append([line[7:].strip()])
        elif line.startswith("     - "):
            rows[-1].append(line[7:].strip())
        elif line.startswith("       ") and rows:
            rows[-1][-1] += " " + line.strip()
    return rows


def settings_page() -> list[str]:
    """Return the two parts of the page of settings: the keys of QBWI, and the options of the backend for tasks."""
    parts = reference("settings").split(".. _task-options:\n")
    assert len(parts) == 2
    return parts


@pytest.mark.parametrize("name", django_qbwi.__all__)
def test_each_public_name_is_documented(name: str) -> None:
    """Each name of `django_qbwi.__all__` has its entry in the API, or among the errors."""
    directive = re.compile(rf"^\.\. auto(class|exception|function|decorator):: {name}(\(.*\))?$", re.MULTILINE)
    assert directive.search(reference("api") + reference("errors"))


@pytest.mark.parametrize(
    "name", ["immediate_work_items", "captured_work_items", "drain", "simulate_shutdown", "assert_no_work_items_left"]
)
def test_the_tools_for_tests_are_documented(name: str) -> None:
    """So has each public function of `django_qbwi.testing`."""
    assert callable(getattr(testing, name))
    assert f".. autofunction:: {name}\n" in reference("api")


def test_the_settings_are_those_of_the_package() -> None:
    """The table has each key once, in the order of the package, with its default."""
    rows = [row for row in table_rows(settings_page()[0]) if row[0].startswith("``")]
    shown = {row[0].strip("`"): ast.literal_eval(row[1].strip("`")) for row in rows}
    assert shown == {key: getattr(conf.Settings(), field) for key, field in conf.KEYS.items()}
    assert list(shown) == list(conf.KEYS)
    assert [type(value) for value in shown.values()] == [
        type(getattr(conf.Settings(), field.name)) for field in dataclasses.fields(conf.Settings)
    ]


def test_the_options_of_tasks_are_those_of_the_package() -> None:
    """The table of `OPTIONS` has each key that the backend takes, and no other."""
    rows = [row for row in table_rows(settings_page()[1]) if row[0].startswith("``")]
    assert sorted(row[0].strip('`"') for row in rows) == sorted(OPTIONS)


@pytest.mark.parametrize("key", conf.KEYS)
def test_what_is_allowed(key: str) -> None:
    """The column "allowed" says what the package accepts."""
    (row,) = (row for row in table_rows(reference("settings")) if row[0] == f"``{key}``")
    allowed = {
        "1 or more": ([1, 5], [0, -1, 1.5, True, None]),
        "1 or more, or ``None``": ([1, None], [0, -1, 1.5, True]),
        "0 or more": ([0, 3], [-1, "1", True, None]),
        "above 0, or ``None``": ([0.1, 3, None], [0, -1, True]),
        "``True``, ``False``": ([True, False], [0, 1, None]),
        '``"error"``, ``"warn"``, ``"allow"``': (["error", "warn", "allow"], ["ERROR", True, None]),
        "an alias of ``TASKS``, or ``None``": (["durable", None], ["", 5, True]),
        "the path of a directory, or ``None``": (["/var/lib/mysite", None], ["", 5, True]),
        "0 to 19": ([0, 10, 19], [-1, 20, 1.5, True, None]),
        "a path, or ``None``": (["/usr/bin/python3", None], ["", 5, True]),
        "a dict of titles and URLs, or ``None``": (
            [None, {}, {"Logs": "https://logs.example.com/?q={id}"}],
            [[], {"Logs": "logs"}, {"": "https://logs.example.com/"}, {"Logs": "https://logs.example.com/{pid}"}],
        ),
        "a dotted path": (["django.core.mail.backends.smtp.EmailBackend"], ["", 5, None]),
        "a dict of dicts, by the name of the pool": (
            [{}, {"mail": {}}, {"mail": {"MAX_WORKERS": 1}}],
            [[], None, {"mail": 1}, {"mail": {"MAX_WORKERS": 0}}, {"default": {}}],
        ),
        "a list or tuple of dotted paths": ([[], (), ["a.path"]], ["a.path", [5], None]),
    }
    accepted, refused = allowed[row[2]]
    assert [conf.problems({key: value}) for value in accepted] == [[]] * len(accepted)
    assert all(conf.problems({key: value}) for value in refused)


def test_each_check_has_its_anchor() -> None:
    """Each id in the package has an anchor and a headline on the page of the checks, and no other has."""
    source = "".join(path.read_text(encoding="utf-8") for path in pages.PACKAGE.rglob("*.py"))
    used = set(re.findall(r"qbwi\.[EW]\d{3}", source))
    page = reference("checks")
    assert used
    assert set(re.findall(r"^\.\. _(qbwi\.[EW]\d{3}):$", page, re.MULTILINE)) == used
    assert set(re.findall(r"^(qbwi\.[EW]\d{3})$", page, re.MULTILINE)) == used


def test_the_statuses_are_those_of_the_package() -> None:
    """The table has each status once, in order, and the picture has every transition."""
    page = reference("statuses")
    rows = [row[0].strip("`") for row in table_rows(page) if row[0].startswith("``")]
    assert rows == [status.name for status in WorkItemStatus]
    drawn = set()
    for line in re.findall(r"^   ([A-Z]+ -> .*)$", page, re.MULTILINE):
        steps = [step.split(" | ") for step in line.split(" -> ")]
        for ones, others in itertools.pairwise(steps):
            drawn |= set(itertools.product(ones, others))
    possible = set()
    for one in WorkItemStatus:
        for other in WorkItemStatus:
            try:
                one.then(other)
            except RuntimeError:
                continue
            possible.add((one.name, other.name))
    assert drawn == possible


def test_each_signal_is_documented() -> None:
    """Each signal of the package has its entry."""
    names = {name for name, value in vars(signals).items() if type(value).__name__ == "Signal"}
    assert names
    assert set(re.findall(r"^\.\. py:data:: (\w+)$", reference("signals-and-logs"), re.MULTILINE)) == names


def test_each_error_is_in_the_tree() -> None:
    """The tree of exceptions has each one below its base."""
    tree = next(block for block in pages.blocks("reference/errors.rst") if block.language == "text").text
    parents: list[tuple[int, str]] = []
    shown = {}
    for line in tree.splitlines():
        depth, name = len(line) - len(line.lstrip()), line.split()[0]
        parents = [(indent, parent) for indent, parent in parents if indent < depth]
        shown[name] = parents[-1][1] if parents else None
        parents.append((depth, name))
    errors = {
        name: getattr(django_qbwi, name)
        for name in django_qbwi.__all__
        if isinstance(getattr(django_qbwi, name), type) and issubclass(getattr(django_qbwi, name), BaseException)
    }
    assert errors.keys() == shown.keys() - {"Exception", "asyncio.CancelledError", "UserWarning"}
    for name, error in errors.items():
        assert (shown[name] or "").rpartition(".")[2] == error.__bases__[0].__name__


def test_imports_of_the_samples_are_public() -> None:
    """No block imports a name from the package that the reference does not show."""
    documented = reference("api") + reference("errors") + reference("signals-and-logs")
    for block in pages.all_blocks():
        if block.language != "python":
            continue
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "django_qbwi":
                for alias in node.names:
                    assert re.search(rf":: {alias.name}(\(.*\))?$", documented, re.MULTILINE), (
                        f"{block.where}: {alias.name}"
                    )


def test_gunicorns_warning_is_quoted() -> None:
    """The page on gunicorn quotes the warning of a limit that is too short as the package writes it."""

    class Configuration:
        graceful_timeout = 30
        timeout = 30

    (quoted,) = (block.text for block in pages.blocks("how-to/deploy/gunicorn.rst") if block.language == "text")
    assert quoted.strip() in GunicornHost(Configuration(), object()).warnings(conf.Settings().shutdown_timeout)


def test_the_limits_of_a_deployment_stand_in_order() -> None:
    """On every page the server's limit is above the package's, and the supervisor's above the server's."""

    def number(page: str, pattern: str) -> float:
        text = (pages.DOCS / "how-to/deploy" / page).read_text(encoding="utf-8")
        found = {float(value) for value in re.findall(pattern, text)}
        assert len(found) == 1, f"{page}: {pattern} gives {found}"
        return found.pop()

    server = number("gunicorn.rst", r"graceful_timeout = (\d+)")
    assert number("gunicorn.rst", r"--graceful-timeout (9[1-9])") == server
    assert conf.Settings().shutdown_timeout < server
    supervisors = [
        number("systemd.rst", r"TimeoutStopSec=(\d+)"),
        number("docker.rst", r"docker stop -t (\d+)"),
        number("docker.rst", r"stop_grace_period: (\d+)s"),
        number("kubernetes.rst", r"terminationGracePeriodSeconds: (\d+)")
        - number("kubernetes.rst", r'\["sleep", "(\d+)"\]'),
    ]
    assert all(limit > server for limit in supervisors)
