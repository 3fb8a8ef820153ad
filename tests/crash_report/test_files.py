"""The files of the crash report: what is written is read, and what makes no sense in one hurts nobody."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from django_qbwi import queue_background_work_item
from django_qbwi.crash_report import journal as journals
from django_qbwi.crash_report import reader, slots
from django_qbwi.crash_report.journal import Journal

PLACE = st.text(max_size=200)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """One with room for two items."""
    journal = Journal(str(tmp_path), 2)
    yield journal
    for at in (0, slots.SIZE):
        with contextlib.suppress(ValueError):
            journal.leave(at)
    journal.close()


def content(journal: Journal) -> list[slots.LostItem]:
    """Read it as the next process would."""
    return slots.read(journal.path.read_bytes(), 7)


def test_states_of_a_slot(journal: Journal) -> None:
    """It is free, waits, runs, waits again, runs and is free."""
    assert content(journal) == []
    at = journal.enter(100.5, "id", "app.item", "/buy/", "r1")
    assert at is not None
    assert content(journal) == [slots.LostItem("id", "app.item", 100.5, None, "/buy/", "r1", 7)]
    journal.begin(at, 101.5)
    assert content(journal)[0].started_at == 101.5
    journal.wait_again(at)
    assert content(journal)[0].started_at is None
    journal.leave(at)
    assert content(journal) == []


def test_no_room(journal: Journal) -> None:
    """One more than there are slots is not noted; a slot that is free again is taken."""
    first = journal.enter(1.0, "a", "app.item", None, None)
    assert first is not None
    assert journal.enter(1.0, "b", "app.item", None, None) is not None
    assert journal.enter(1.0, "c", "app.item", None, None) is None
    journal.leave(first)
    assert journal.enter(1.0, "c", "app.item", None, None) == first


@given(name=PLACE.filter(str.strip), origin=PLACE, request_id=PLACE)
def test_texts_of_any_kind(name: str, origin: str, request_id: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """They are cut to their place, between characters or not, and never reach that of another."""
    memory = bytearray(2 * slots.SIZE)
    encoded = [text.encode("utf-8", "replace") for text in (name, origin, request_id)]
    slots.write(memory, slots.SIZE, 5.0, b"id", *encoded)
    assert not any(memory[: slots.SIZE])
    for found in slots.read(bytes(memory), 7):
        assert name.rstrip("\0").startswith(found.name.rstrip("�")) or "�" in found.name
        assert found.queued_at == 5.0


@given(st.binary(max_size=3 * slots.SIZE))
def test_files_of_any_kind(data: bytes) -> None:
    """Whatever stands there, reading it raises nothing, and what is found can be shown."""
    for found in slots.read(b"\1" + data, 7):
        assert found.name
        assert 0 <= found.queued_at < 1e12


def test_living_process(tmp_path: Path, journal: Journal) -> None:
    """Its file is left alone: it holds the lock. (Of this process itself the name is known.)"""
    journal.enter(1.0, "a", "app.item", None, None)
    assert reader.read(str(tmp_path)) == []
    assert journal.path.exists()


def test_file_that_is_just_being_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads the directory in that moment, in another thread of the process, leaves it alone."""
    read: list[object] = []
    monkeypatch.setattr(journals, "_reserve", lambda fd, size: read.append(reader.read(str(tmp_path))))
    with pytest.raises(ValueError, match="mmap length"):
        # As the file is empty: nothing was reserved.
        Journal(str(tmp_path), 2)
    assert read == [[]]
    assert list(tmp_path.iterdir()) == []


def test_end_in_good_order(journal: Journal) -> None:
    """The file goes when nothing is in it, and stays when something is."""
    at = journal.enter(1.0, "a", "app.item", None, None)
    assert at is not None
    journal.close()
    assert journal.path.exists()
    journal.leave(at)
    journal.close()
    assert not journal.path.exists()


def left(directory: Path, name: str = "app.item", count: int = 1) -> Path:
    """Write what a process of number 7 may have left, with items that ran."""
    memory = bytearray(count * slots.SIZE)
    for number in range(count):
        slots.write(memory, number * slots.SIZE, 5.0, f"id{number}".encode(), name.encode(), b"/buy/", b"")
        slots.begin(memory, number * slots.SIZE, 6.0)
    path = directory / f"7-abc{journals.SUFFIX}"
    path.write_bytes(memory)
    return path


def test_function_with_attributes_of_any_kind(tmp_path: Path, outside_of_tests: None) -> None:
    """It is accepted, and runs; that its name is no key of anything is the report's affair."""

    def odd(token: object) -> None:
        """Do nothing."""

    odd.__module__ = ["not", "hashable"]  # type: ignore[assignment]
    with override_settings(QBWI={"CRASH_REPORT": tmp_path}):
        handle = queue_background_work_item(odd)
        assert handle.wait(30)
        assert handle.status == "succeeded"


def test_records(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One for each item that is lost, up to a hundred, and one for the rest."""
    path = left(tmp_path, count=103)
    assert len(reader.read(str(tmp_path))) == 103
    assert not path.exists()
    records = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(records) == 101
    assert (
        "name=app.item was lost: process 7 ended without a word, with the item running for" in records[0].getMessage()
    )
    assert records[0].getMessage().endswith("by /buy/")
    assert records[-1].getMessage() == "3 more work items were lost by processes that ended without a word"


def test_name_with_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file cannot write lines of its own into the log."""
    left(tmp_path, "app.item\nERROR forged")
    reader.read(str(tmp_path))
    assert not any("\n" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("name", ["x-abc", "-", ""])
def test_name_of_a_file_without_a_process(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    """It costs a DEBUG record."""
    caplog.set_level(logging.DEBUG, "django_qbwi")
    (tmp_path / f"{name}{journals.SUFFIX}").write_bytes(b"")
    assert reader.read(str(tmp_path)) == []
    assert [record.levelname for record in caplog.records] == ["DEBUG"]


@pytest.mark.parametrize("kind", ["symlink", "fifo", "directory"])
def test_what_is_no_file(tmp_path: Path, kind: str) -> None:
    """It is not followed, not waited for, and not removed."""
    target = tmp_path / "target"
    target.write_bytes(left(tmp_path).read_bytes())
    (tmp_path / f"7-abc{journals.SUFFIX}").unlink()
    path = tmp_path / f"7-other{journals.SUFFIX}"
    if kind == "symlink":
        path.symlink_to(target)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert reader.read(str(tmp_path)) == []
    assert target.exists()
    assert path.is_symlink() or path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_file_of_another_user(tmp_path: Path) -> None:
    """Nobody else puts words into our mouth."""
    path = left(tmp_path)
    os.chown(path, 12345, 12345)
    assert reader.read(str(tmp_path)) == []


@pytest.mark.parametrize("text", ["", "{", "7", '[["a"], 5]', '[["a"], ["a"], ["a"]]' * 2, "[1, 2, 3]"])
def test_count_that_makes_no_sense(tmp_path: Path, text: str) -> None:
    """It begins anew."""
    (tmp_path / "crashes.json").write_text(text)
    left(tmp_path)
    assert len(reader.read(str(tmp_path))) == 1
    assert json.loads((tmp_path / "crashes.json").read_text())[-1] == ["app.item"]


def test_directory_that_is_not_there(tmp_path: Path) -> None:
    """It costs a DEBUG record."""
    assert reader.read(str(tmp_path / "missing")) == []
