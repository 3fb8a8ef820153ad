"""The keys of an item: what makes two items wait for each other, or be the same one while they wait."""

from __future__ import annotations

from typing import Final

Key = tuple[int, str]
"""The identity of a function, and the text of a key: comparing two of them runs no code of anybody's."""


class Keyed:
    """The keys of one call. Frozen, as a call is."""

    __slots__ = ("function", "limit", "most", "unique")

    def __init__(self, function: object, unique: Key | None = None, limit: Key | None = None, most: int = 1) -> None:
        self.function: Final = function
        """What the keys belong to; kept, so that no other one gets its identity meanwhile."""
        self.unique: Final = unique
        """While an item with the same one waits, no further one is queued; None if each is."""
        self.limit: Final = limit
        """At most `most` with the same one have a worker at a time; None if nothing but the workers limits them."""
        self.most: Final = most

    def __repr__(self) -> str:
        # Without the text of the keys, which is made of the arguments.
        return f"<Keyed unique={self.unique is not None} most={None if self.limit is None else self.most}>"
