"""One table, which the harness creates."""

from __future__ import annotations

from django.db import models


class Note(models.Model):
    """A line that an item writes."""

    text = models.CharField(max_length=100)

    class Meta:
        db_table = "note"

    def __str__(self) -> str:
        return self.text
