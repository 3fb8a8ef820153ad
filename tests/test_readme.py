"""What the README shows exists, and its commands are those that are checked."""

import ast
import re
from pathlib import Path

import pytest

import django_qbwi
from django_qbwi import conf

CHECKOUT = Path(__file__).parent.parent
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
SAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = re.findall(r"^\$ (.*\.venv/bin/tox .*)$", README, re.MULTILINE)


def nodes(kind: type[ast.AST]) -> list[ast.AST]:
    """Return all syntax nodes of one kind in the samples; a sample with an error in it fails here."""
    return [node for sample in SAMPLES for node in ast.walk(ast.parse(sample)) if isinstance(node, kind)]


def test_imported_names_are_public() -> None:
    """Each name that a sample imports from the package is one of its public names."""
    imports = [node for node in nodes(ast.ImportFrom) if node.module == "django_qbwi"]
    names = {alias.name for node in imports for alias in node.names}
    assert names
    assert names <= set(django_qbwi.__all__)


def test_settings_are_valid() -> None:
    """Each QBWI dict that is shown passes the checks, and shows the defaults."""
    values = [node.value for node in nodes(ast.Assign) if ast.unparse(node.targets) == "QBWI"]
    (shown,) = (ast.literal_eval(value) for value in values)
    assert conf.problems(shown) == []
    assert {key: getattr(conf.Settings(), conf.KEYS[key]) for key in shown} == shown


@pytest.mark.parametrize("part", COMMANDS[-1].split(" && "))
def test_the_command_for_the_tests_is_what_ci_runs(part: str) -> None:
    """`.ci/run` sets up and runs the tests in the README's way."""
    script = (CHECKOUT / ".ci" / "run").read_text(encoding="utf-8").replace(" --quiet", "")
    assert part in script
