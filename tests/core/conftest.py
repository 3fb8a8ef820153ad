"""The fixtures of the core's tests."""

from tests.support.fixtures import clock, gate, manual, runtime, start

__all__ = ["clock", "gate", "manual", "runtime", "start"]
