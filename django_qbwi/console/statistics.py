"""How many items have ended by each name, how many have failed, and how long they waited and ran, of several processes.

Durations are known by buckets, so a percentile is right to within a bucket: a factor of 1.6.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from django_qbwi.console.results import Asked
from django_qbwi.core.exceptions import ProcessUnreachable
from django_qbwi.core.names import printable
from django_qbwi.core.statistics import BOUNDS, MAX_NAMES, OTHER
from django_qbwi.inspection.records import SCHEMA, fields, text, whole

PERCENTS = (50, 95, 99)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """Seconds within which so many of a hundred were done; None if there were none."""

    p50: float | None
    p95: float | None
    p99: float | None

    @classmethod
    def of(cls, buckets: list[int]) -> Percentiles:
        """Estimate them from the counts of buckets."""
        return cls(**{f"p{percent}": percentile(buckets, percent) for percent in PERCENTS})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OfName:
    """The numbers of one name, in all processes that answered."""

    name: str
    count: int
    """Items that have ended since their processes began, however they ended."""
    failures: int
    waiting: Percentiles
    """From queueing to the start, a delay included."""
    running: Percentiles


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """The numbers of all names, those with the most items first."""

    asked: Asked
    names: tuple[OfName, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON; seconds."""
        return {"schema": SCHEMA, **self.asked.to_dict(), "names": [dataclasses.asdict(name) for name in self.names]}


def merged(answers: Iterable[dict[str, dict[str, Any]]]) -> tuple[OfName, ...]:
    """Add up what processes have told by name; beyond 200 names the rarest ones are one."""
    found: dict[str, dict[str, Any]] = {}
    for answer in answers:
        for name, numbers in answer.items():
            _add(found.setdefault(name, _nothing()), numbers)
    names = sorted(found, key=lambda name: (-found[name]["count"], name))
    for name in names[MAX_NAMES:]:
        if name != OTHER:
            _add(found.setdefault(OTHER, _nothing()), found.pop(name))
    rows = [_of_name(name, numbers) for name, numbers in found.items()]
    return tuple(sorted(rows, key=lambda row: (-row.count, row.name)))


def percentile(buckets: list[int], percent: float) -> float | None:
    """Return the seconds within which so many of a hundred were done, None if there were none."""
    wanted = sum(buckets) * percent / 100
    if not wanted:
        return None
    before = 0
    for bucket, count in enumerate(buckets):
        if count and before + count >= wanted:
            return _inside(bucket, (wanted - before) / count)
        before += count
    return BOUNDS[-1]


def from_dict(value: Any) -> dict[str, dict[str, Any]]:
    """Return what another process has told by name.

    Raises:
        ProcessUnreachable: It is nothing of the kind.
    """
    if not isinstance(value, dict) or len(value) > MAX_NAMES + 1:
        raise ProcessUnreachable("a process answered without its numbers by name")
    return {printable(text(name, 200)): fields(numbers, _RULES) for name, numbers in value.items()}


def _nothing() -> dict[str, Any]:
    empty = [0] * (len(BOUNDS) + 1)
    return {"count": 0, "failures": 0, "waiting": empty, "running": empty}


def _add(total: dict[str, Any], numbers: dict[str, Any]) -> None:
    total["count"] += numbers["count"]
    total["failures"] += numbers["failures"]
    for key in ("waiting", "running"):
        further = [*numbers[key], *[0] * len(total[key])]
        total[key] = [one + other for one, other in zip(total[key], further, strict=False)]


def _of_name(name: str, numbers: dict[str, Any]) -> OfName:
    waiting, running = Percentiles.of(numbers["waiting"]), Percentiles.of(numbers["running"])
    return OfName(name=name, count=numbers["count"], failures=numbers["failures"], waiting=waiting, running=running)


def _inside(bucket: int, share: float) -> float:
    if bucket == 0:
        return BOUNDS[0] * share
    if bucket == len(BOUNDS):
        return BOUNDS[-1]
    # As the buckets are spaced.
    return BOUNDS[bucket - 1] * float((BOUNDS[bucket] / BOUNDS[bucket - 1]) ** share)


def _counts(value: Any) -> list[int]:
    if not isinstance(value, list) or len(value) > len(BOUNDS) + 1:
        raise ProcessUnreachable("a process answered without the counts of its buckets")
    return [whole(count) for count in value]


_RULES = {"count": whole, "failures": whole, "waiting": _counts, "running": _counts}
