"""What the how-to shows is what the tests of the page run with."""

import ast
import re
from pathlib import Path

from django_qbwi.admin import WorkItemAdmin
from tests.admin import policy

DOCS = Path(__file__).parents[2] / "docs"
HOW_TO = (DOCS / "how-to" / "admin.rst").read_text(encoding="utf-8")
SAMPLES = re.findall(r"\.\. code-block:: python3?\n\n((?:   .*\n|\n)+)", HOW_TO)


def test_site_of_ones_own() -> None:
    """The sample makes a site on which the page is registered."""
    names: dict[str, object] = {}
    exec(re.sub("^   ", "", SAMPLES[0], flags=re.MULTILINE), names)
    assert isinstance(names["operations_site"]._registry[names["WorkItem"]], WorkItemAdmin)  # type: ignore[attr-defined]


def test_policy() -> None:
    """The policy that is shown is the one under which the browser's console stays empty."""
    (assignment,) = ast.parse(re.sub("^   ", "", SAMPLES[1], flags=re.MULTILINE)).body
    assert isinstance(assignment, ast.Assign)
    assert ast.literal_eval(assignment.value) == policy.POLICY


def test_pictures_exist() -> None:
    """Each picture is there, and small."""
    pictures = [DOCS / "how-to" / name for name in re.findall(r"\.\. image:: (\S+)", HOW_TO)]
    assert pictures
    assert all(0 < picture.stat().st_size < 100_000 for picture in pictures)
