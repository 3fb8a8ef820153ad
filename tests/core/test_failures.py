"""G1: an exception is looked at, and stripped of its frames, without running a line of its class."""

import pytest

from django_qbwi.core.failures import is_a, traceback_of, without_frames
from django_qbwi.core.records import WorkItemError
from tests.support import hostile


def caught(error: BaseException) -> BaseException:
    """Return it with a traceback."""
    try:
        raise error
    except BaseException as result:
        return result


@pytest.mark.parametrize("name", hostile.NAMES)
def test_g1_frames_go_whatever_the_class_does(name: str) -> None:
    """It loses its traceback, and so does what it was raised from, and what was raised from it."""
    error = hostile.make(name)
    cause = caught(ValueError("before"))
    try:
        raise error from cause
    except BaseException:
        try:
            raise KeyError("after")
        except KeyError as last:
            after: BaseException = last
    frames = [traceback_of(after), traceback_of(error), traceback_of(cause)]
    assert None not in frames
    assert without_frames(after) is after
    assert [traceback_of(after), traceback_of(error), traceback_of(cause)] == [None] * 3


def test_g1_frames_of_a_hostile_groups_members_go() -> None:
    """A group that does not show its members is looked into all the same."""
    member = caught(hostile.Frozen())
    group = hostile.HostileGroup("several", [member])  # type: ignore[list-item]
    without_frames(group)
    assert traceback_of(member) is None


@pytest.mark.parametrize("name", hostile.NAMES)
def test_g1_description_says_where_it_was_raised(name: str) -> None:
    """Type, message and traceback are plain bounded texts; the traceback has the line that raised."""
    described = WorkItemError.of(caught(hostile.make(name)))
    assert {type(described.type), type(described.message), type(described.traceback)} == {str}
    assert described.type.endswith(name)
    assert "raise error" in described.traceback


def test_g1_text_of_a_subclass_of_str_is_kept() -> None:
    """A `__str__` that returns a hostile text is no reason to lose what it says."""
    assert WorkItemError.of(hostile.SaysHostileText()).message == "no such album"


def test_g1_names_of_a_class_are_bounded_and_texts() -> None:
    """A class of any name, or of a module that is no text or not there, is named within 200 characters."""
    vast = type("V" * 1_000_000, (Exception,), {})
    assert len(WorkItemError.of(vast()).type) == 500
    assert WorkItemError.of(hostile.Nameless()).type == "Nameless"
    names: dict[str, type[Exception]] = {}
    exec("Bare = type('Bare', (Exception,), {})", names)
    assert WorkItemError.of(names["Bare"]()).type == "Bare"


def test_g1_error_whose_text_fails_with_a_hostile_error() -> None:
    """The name of what `__str__` raised is read like the rest."""

    class Unprintable(Exception):
        def __str__(self) -> str:
            raise hostile.OfHostileClass

    assert WorkItemError.of(Unprintable()).message == "<unprintable: OfHostileClass>"


def test_g1_kind_is_asked_of_the_type() -> None:
    """An exception that claims another class, or refuses to say, is what its type is."""
    assert is_a(hostile.OwnTraceback(), Exception)
    assert not is_a(hostile.OwnTraceback(), KeyboardInterrupt)
