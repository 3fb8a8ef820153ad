"""What lives in one process only: it is copied as itself, and is not pickled."""

from __future__ import annotations

from typing import NoReturn, Self


class ProcessLocal:
    """Base class of the public objects that others of this process change.

    A copy that nobody changes would say the wrong thing, so a copy is the object itself.
    """

    __slots__ = ()

    pass_instead = ""
    """What can go to another process in its place."""

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} cannot be pickled, since it lives in this process only: pass {self.pass_instead}"
        )
