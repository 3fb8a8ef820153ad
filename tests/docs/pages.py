"""The pages of the documentation, read without Sphinx: their code blocks, and the projects that they make up.

A block says by its caption what it is:

- `:caption: shop/items.py`: a file of the page's project; a second block with this caption goes on with the file, and
  `shop/items.py (replaced)` starts it anew. Any other note in brackets is for the reader.
- `:caption: manage.py shell` on a `pycon` block: what is typed into that shell, and what it answers.
- a Python block without a caption: it runs by itself, after the page's other ones, in the page's project.
"""

from __future__ import annotations

import dataclasses
import os
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import django_qbwi

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGE = Path(django_qbwi.__file__).resolve().parent
DOCS = CHECKOUT / "docs"
SKELETON = Path(__file__).parent / "skeleton"

_DIRECTIVE = re.compile(r"^(?P<indent> *)\.\. code-block:: (?P<language>\S+)$")
_OPTION = re.compile(r"^ +:(?P<name>[a-z-]+):(?P<value>.*)$")
_FILE = re.compile(r"^(?P<path>[\w./-]+\.(?:py|html|ini|cfg|toml|txt))(?: \((?P<note>[^)]*)\))?$")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One code block of a page."""

    page: str
    line: int
    language: str
    caption: str | None
    text: str

    @property
    def where(self) -> str:
        """Page and line, for messages."""
        return f"docs/{self.page}:{self.line}"

    @property
    def path(self) -> str | None:
        """The file of the page's project that this is, or None."""
        match = _FILE.match(self.caption or "")
        return None if match is None else match["path"]

    @property
    def starts_anew(self) -> bool:
        """Whether the file is replaced by this block."""
        match = _FILE.match(self.caption or "")
        return match is not None and match["note"] == "replaced"


def environ(**more: str) -> dict[str, str]:
    """Return an environment in which a page's project has only its own settings, and finds the tested package."""
    kept = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    return {**kept, "PYTHONPATH": str(PACKAGE.parent), **more}


def sources() -> list[Path]:
    """Return all pages."""
    return sorted(path for path in DOCS.rglob("*.rst") if "_build" not in path.parts)


def page_name(path: Path) -> str:
    """Return the name of a page below docs/, with its suffix."""
    return path.relative_to(DOCS).as_posix()


def blocks(page: str) -> list[Block]:
    """Return the code blocks of a page, in order."""
    return list(_blocks(page, (DOCS / page).read_text(encoding="utf-8").splitlines()))


def all_blocks() -> list[Block]:
    """Return the code blocks of all pages."""
    return [block for path in sources() for block in blocks(page_name(path))]


def write_files(found: list[Block], directory: Path) -> list[str]:
    """Write the files that `found` shows into `directory`; return their paths, each once."""
    written: dict[str, None] = {}
    for block in found:
        if block.path is None:
            continue
        target = directory / block.path
        target.parent.mkdir(parents=True, exist_ok=True)
        before = target.read_text(encoding="utf-8") + "\n\n" if target.exists() and not block.starts_anew else ""
        target.write_text(before + block.text, encoding="utf-8")
        written[block.path] = None
    return list(written)


def _blocks(page: str, lines: list[str]) -> Iterator[Block]:
    for number, line in enumerate(lines):
        match = _DIRECTIVE.match(line)
        if match is None:
            continue
        body, options = [], {}
        for following in lines[number + 1 :]:
            if following.strip() and len(following) - len(following.lstrip()) <= len(match["indent"]):
                break
            option = _OPTION.match(following)
            if option and not body:
                options[option["name"]] = option["value"].strip()
            elif body or following.strip():
                body.append(following)
        text = textwrap.dedent("\n".join(body)).rstrip() + "\n"
        yield Block(page=page, line=number + 1, language=match["language"], caption=options.get("caption"), text=text)
