"""The router of the site."""

from typing import Any


class ToHistory:
    """Gives the table of the history a database of its own, and that nothing else."""

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        """Choose it."""
        return "history" if model._meta.app_label == "django_qbwi_history" else None

    db_for_read = db_for_write

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        """Make the table there alone."""
        return (db == "history") == (app_label == "django_qbwi_history")
