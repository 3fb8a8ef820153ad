"""Configuration of the documentation: Sphinx with furo, built by `tox run -e docs`."""

from typing import Any

from django_qbwi import __version__

project = "django_qbwi"
author = "The django_qbwi contributors"
project_copyright = author
release = version = __version__

# myst_parser reads the changelog, which stands at the root of the repository in Markdown.
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
# Two pages go on where a file of the repository's root ends, and have the title of both.
suppress_warnings = ["myst.header"]
# Docstrings write names in single backticks, as they are read in an editor.
default_role = "literal"
html_theme = "furo"
html_title = f"django_qbwi {release}"

# Constructors are internal, users get objects from functions: set apart here, and skipped below.
autodoc_class_signature = "separated"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

# A build needs no network, so no foreign inventory: names of others are not links.
nitpick_ignore_regex = [
    (
        r"py:.*",
        r"(_asyncio|asgiref|asyncio|collections|concurrent|contextlib|contextvars|datetime|django|threading|typing|uuid)\..*",
    ),
    (r"py:.*", r"(BaseException|Exception|RuntimeError|TypeError|ValueError|bool|bytes|dict|float|int|list|str)"),
    # The type variables of the decorator: parameters and result of the decorated function.
    (r"py:class", r"~?(django_qbwi\.work_items\.)?[PRS]"),
    (r"py:class", r"django_qbwi\.contrib\.schedules\.declared\.F"),
    # What it makes of methods, for type checkers.
    (r"py:class", r"django_qbwi\.(decorator\.BackgroundMethod|work_items\.Decorator)"),
    # What copies_request takes and returns, for type checkers; and Django's names as docstrings write them.
    (r"py:class", r"django_qbwi\.intake\.copier\.([PQRS]|Queueable|RequestCopier|MethodCopier|Decorator)"),
    # Shown with its longer path: nobody imports it.
    (r"py:exc", r"CheckpointReached"),
    (r"py:.*", r"AbstractBaseUser|AnonymousUser|ContentFile|DisallowedHost"),
]

_attribute_docstrings: dict[str, list[str]] = {}


def _keep(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    if what in {"attribute", "property"}:
        _attribute_docstrings[name] = list(lines)


def _restore(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    if what in {"attribute", "property"}:
        lines[:] = _attribute_docstrings.pop(name)


def _skip(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    return True if name in {"__init__", "__new__"} else None


def _shorten(app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None) -> Any:
    return (signature.replace(", **unknown", ""), returns) if signature and "**unknown" in signature else None


def setup(app: Any) -> None:
    """Connect what autodoc leaves to us.

    - napoleon must not take what stands before a colon in an attribute's docstring for its type: ours are sentences.
    - Constructors are not shown. Neither is `**unknown`, which is there to be refused.
    """
    app.connect("autodoc-process-docstring", _keep, priority=400)
    app.connect("autodoc-process-docstring", _restore, priority=600)
    app.connect("autodoc-skip-member", _skip)
    app.connect("autodoc-process-signature", _shorten)
