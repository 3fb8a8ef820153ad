"""Configuration of the documentation: Sphinx with furo, built by `tox run -e docs`."""

from django_qbwi import __version__

project = "django_qbwi"
author = "The django_qbwi contributors"
project_copyright = author
release = version = __version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"django_qbwi {release}"

autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

# A build needs no network, so no foreign inventory: names of others are not links.
nitpick_ignore_regex = [
    (r"py:.*", r"(asgiref|asyncio|collections|concurrent|contextlib|contextvars|datetime|django|typing)\..*"),
    (r"py:.*", r"(BaseException|Exception|RuntimeError|TypeError|ValueError|bool|bytes|dict|float|int|list|str)"),
]
