"""The files of a cache folder that others may write into."""

import os
import time
from pathlib import Path

import pytest

from stoker.training.reading.cache_files import CacheFiles

SHA256 = "0" * 64


@pytest.mark.parametrize("name", [f"coming-{SHA256}-4", ".stoker-lock"])
def test_a_link_that_somebody_planted_is_not_written_through(name: str, tmp_path: Path) -> None:
    """The name of a file that is being written can be known before: it holds the shard's checksum and size."""
    cache = tmp_path / "cache"
    cache.mkdir()
    (tmp_path / "mine").write_bytes(b"mine")
    (cache / name).symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match="symbolic links"):
        CacheFiles(cache, 1 << 20).start_write(SHA256, 4)
    assert (tmp_path / "mine").read_bytes() == b"mine"


def test_a_small_file_replaces_a_link(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (tmp_path / "mine").write_bytes(b"mine")
    (cache / f"{SHA256}.index").symlink_to(tmp_path / "mine")
    CacheFiles(cache, 1 << 20).write_index(SHA256, b"index")
    assert (tmp_path / "mine").read_bytes() == b"mine"
    assert (cache / f"{SHA256}.index").read_bytes() == b"index"


def test_who_makes_room_leaves_the_small_files_that_others_are_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, replace = tmp_path / "cache", os.replace

    def make_room_first(source: str, target: Path) -> None:
        assert CacheFiles(cache, 1 << 20)._make_room(1, "")
        replace(source, target)

    monkeypatch.setattr(os, "replace", make_room_first)
    CacheFiles(cache, 1 << 20).write_index(SHA256, b"index")
    assert (cache / f"{SHA256}.index").read_bytes() == b"index"


def test_small_files_of_dead_writers_are_removed(tmp_path: Path) -> None:
    files = CacheFiles(tmp_path, 1 << 20)
    (tmp_path / "coming-note-dead").write_bytes(b"half")
    os.utime(tmp_path / "coming-note-dead", (time.time(), time.time() - 100))
    assert files._make_room(1, "")
    assert not list(tmp_path.iterdir())
