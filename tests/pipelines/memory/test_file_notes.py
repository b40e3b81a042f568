"""Notes about files hold while these are as they were."""

import json
import os
from pathlib import Path

import pytest

from stoker.pipelines.memory import file_notes as notes_of
from stoker.pipelines.memory.file_notes import file_notes


class Reader:
    """Reads a file by notes, and counts how often it is read."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file, self.reads = folder / "notes", folder / "a.txt", 0

    def __call__(self, *, what: str = "text") -> str:
        with file_notes(self.folder, "of a test") as notes:
            return notes.of(what, [self.file], self.read)

    def read(self) -> str:
        self.reads += 1
        return self.file.read_text()


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    monkeypatch.setattr(notes_of, "SETTLED_S", 0)
    reader = Reader(tmp_path)
    reader.file.write_text("one")
    return reader


def test_a_file_that_is_as_it_was_is_not_read_again(reader: Reader) -> None:
    assert [reader(), reader(), reader()] == ["one"] * 3
    assert reader.reads == 1
    assert reader(what="text of another kind") == "one"
    assert reader.reads == 2


@pytest.mark.parametrize("change", ["content", "same times", "another file"])
def test_a_file_that_changed_is_read_again(reader: Reader, change: str) -> None:
    reader()
    status = reader.file.stat()
    if change == "another file":
        other = reader.file.with_name("b.txt")
        other.write_text("two")
        os.replace(other, reader.file)
    else:
        reader.file.write_text("two")
    if change != "content":  # as a copy that keeps times does
        os.utime(reader.file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert reader() == "two"


def test_what_was_written_a_moment_ago_is_read_again(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes_of, "SETTLED_S", 60)
    assert [reader(), reader()] == ["one", "one"]
    assert reader.reads == 2


@pytest.mark.parametrize("content", [b"", b"[]", b'{"files": {}, "checksum": 1}', b"altered"])
def test_notes_that_are_damaged_are_made_again(reader: Reader, content: bytes) -> None:
    reader()
    [path] = reader.folder.iterdir()
    if content == b"altered":
        content = path.read_bytes().replace(b"one", b"two")
    path.write_bytes(content)
    assert reader() == "one"
    assert reader.reads == 2


def test_notes_of_what_is_not_asked_for_are_forgotten_and_a_block_that_fails_forgets_none(reader: Reader) -> None:
    reader()
    with pytest.raises(ZeroDivisionError), file_notes(reader.folder, "of a test"):
        raise ZeroDivisionError
    [path] = reader.folder.iterdir()
    assert len(json.loads(path.read_bytes())["files"]) == 1
    with file_notes(reader.folder, "of a test"):
        pass
    assert json.loads(path.read_bytes())["files"] == {}
