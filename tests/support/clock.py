"""A clock that moves only when a test says so."""


class FakeClock:
    """Stands in for `time.monotonic`: calling it gives the time, `advance` moves it."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __repr__(self) -> str:
        return f"<FakeClock {self.now}>"

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass at once."""
        self.now += seconds
