"""What holds for a token after any sequence of acts."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from django_qbwi.core.cancellation import CancellationRegistration, CancellationToken, CancelReason, StopFlag
from tests.support.clock import FakeClock


class TokenMachine(RuleBasedStateMachine):
    """Cancel, stop, register, close and let time pass in any order; compare with what was done first."""

    @initialize()
    def begin(self) -> None:
        self.clock = FakeClock()
        self.stop = StopFlag(self.clock)
        self.token = CancellationToken(self.stop)
        self.reason: CancelReason | None = None
        self.deadlines: list[float] = []
        self.registrations: list[CancellationRegistration] = []
        self.calls: dict[int, int] = {}
        self.closed: set[int] = set()

    @rule(reason=st.sampled_from(CancelReason), message=st.none() | st.text())
    def cancel(self, reason: CancelReason, message: str | None) -> None:
        assert self.token._cancel(reason, message) is (self.reason is None)
        self.reason = self.reason or reason

    @rule()
    def stop_all(self) -> None:
        self.stop.request()
        self.reason = self.reason or CancelReason.SHUTDOWN

    @rule()
    def set_the_flag_only(self) -> None:
        self.stop.requested = True
        self.reason = self.reason or CancelReason.SHUTDOWN

    @rule()
    def register(self) -> None:
        number = len(self.registrations)
        self.calls[number] = 0

        def called() -> None:
            self.calls[number] += 1

        self.registrations.append(self.token.register(called))

    @precondition(lambda self: self.registrations)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.registrations) - 1))
        if not self.calls[number]:
            self.closed.add(number)
        self.registrations[number].close()

    @rule(seconds=st.floats(0, 100), of_drain=st.booleans())
    def set_deadline(self, seconds: float, of_drain: bool) -> None:
        if of_drain:
            self.stop.deadline = self.clock() + seconds
        else:
            self.token._deadline = self.clock() + seconds

    @rule(seconds=st.floats(0, 100))
    def let_time_pass(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def first_reason_stands(self) -> None:
        assert self.token.reason is self.reason
        assert self.token.is_cancellation_requested is (self.reason is not None)

    @invariant()
    def deadline_is_the_earliest(self) -> None:
        known = [value for value in (self.token._deadline, self.stop.deadline) if value is not None]
        assert self.token.deadline == min(known, default=None)
        remaining = self.token.remaining()
        assert remaining is None if not known else remaining is not None and remaining >= 0

    @invariant()
    def callbacks_run_once(self) -> None:
        delivered = self.reason is not None and not self.stop.registrations
        for number, calls in self.calls.items():
            assert calls <= 1
            if number in self.closed:
                assert calls == 0
            elif delivered:
                assert calls == 1


TestToken = TokenMachine.TestCase
