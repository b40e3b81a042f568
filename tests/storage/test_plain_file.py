"""Files that others named: ordinary ones are opened, all else is told at once."""

import os
from pathlib import Path

import pytest

from stoker.storage.plain_file import NotPlain, check_plain, describe_missing, open_plain


def test_an_ordinary_file_is_opened_also_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"here")
    (tmp_path / "b").symlink_to("a")
    for name in "ab":
        with open_plain(tmp_path / name) as file:
            assert file.read() == b"here"


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for look in (open_plain, check_plain):
        with pytest.raises(NotPlain, match="a pipe; expected an ordinary file"):
            look(tmp_path / "pipe")
    with pytest.raises(IsADirectoryError):
        open_plain(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_plain(tmp_path / "nothing")
    with pytest.raises(NotPlain, match="a device"):
        open_plain(Path("/dev/null"))


def test_what_lies_in_place_of_a_file_has_a_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    names = {name: describe_missing(tmp_path / name) for name in ("", "pipe", "nothing", "a\0b")}
    assert list(names.values()) == ["a folder", "a pipe", "no such file", "no such file"]
