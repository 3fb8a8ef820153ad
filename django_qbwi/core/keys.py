"""The keys of an item: what makes two items wait for each other, or be the same one while they wait."""

from __future__ import annotations

from typing import Final

Key = tuple[int, str]
"""The identity of a function, and the text of a key: comparing two of them runs no code of anybody's."""


class Keyed:
    """The keys of one call. Frozen, as a call is.

    They keep nothing of it alive: a function has its identity as long as an item waits for it or runs it.
    """

    __slots__ = ("limit", "most", "unique")

    def __init__(self, unique: Key | None = None, limit: Key | None = None, most: int = 1) -> None:
        self.unique: Final = unique
        """While an item with the same one waits, no further one is queued; None if each is."""
        self.limit: Final = limit
        """At most `most` with the same one have a worker at a time; None if nothing but the workers limits them."""
        self.most: Final = most

    def __repr__(self) -> str:
        # Without the text of the keys, which is made of the arguments.
        return f"<Keyed unique={self.unique is not None} most={None if self.limit is None else self.most}>"
