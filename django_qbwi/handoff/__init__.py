"""To other engines: what this process cannot finish, or does not start, goes on there under its own id."""

from django_qbwi.handoff.ids import item_id

__all__ = ["item_id"]
