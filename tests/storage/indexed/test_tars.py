"""Finding external tars, and the split of each."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.storage.errors import NotFound, StorageRefused
from stoker.storage.indexed.tars import expand, split_of
from stoker.storage.stores.memory import MemoryStore
from tests.storage.external_tars import indexed, numbered, put, tar


def test_patterns_name_tars_and_a_missing_tar_is_an_error(folder: Path) -> None:
    done = indexed(f"{folder}/train-{{000..001}}.tar")
    assert [shard.key for shard in done.manifest.shards] == ["train-000.tar", "train-001.tar"]
    assert indexed(f"{folder}/{{train,val}}-000.tar", corpus="b").manifest.samples == 7
    assert indexed(f"{folder}/val-000.tar", corpus="c").manifest.samples == 2
    with pytest.raises(NotFound, match=r"train-003\.tar: no such object and 1 more; correct the pattern"):
        indexed(f"{folder}/train-{{000..004}}.tar")
    with pytest.raises(StorageRefused, match=r"stands for more than 1,000,000 names"):
        indexed(f"{folder}/{{0..99999999}}.tar")
    with pytest.raises(StorageRefused, match=r"expected \{000..127\} or \{a,b\}"):
        indexed(f"{folder}/{{abc}}.tar")


@given(st.integers(0, 200), st.integers(0, 30), st.integers(1, 4))
def test_braces_mean_what_they_mean_to_webdataset(first: int, more: int, width: int) -> None:
    braceexpand = pytest.importorskip("braceexpand").braceexpand
    for pattern in (f"a/{{{first:0{width}d}..{first + more:0{width}d}}}.tar", f"{{x,y}}-{{{first}..{first + more}}}"):
        assert list(expand(pattern)) == list(braceexpand(pattern))


def test_compressed_tars_and_folders_without_tars_are_refused_with_what_next(tmp_path: Path) -> None:
    put(tmp_path / "t" / "a.tar", tar(numbered(0, 1)))
    put(tmp_path / "t" / "b.tar.gz", b"")
    with pytest.raises(StorageRefused, match=r"b\.tar\.gz: a compressed tar.*decompress it"):
        indexed(tmp_path / "t")
    put(tmp_path / "u" / "notes.txt", b"")
    with pytest.raises(NotFound, match=r"no \.tar there among 1 object; name the folder that holds the tars"):
        indexed(tmp_path / "u")
    with pytest.raises(StorageRefused, match="no such kind"):
        indexed("https://example.org/a.tar", MemoryStore())


@pytest.mark.parametrize(
    ("key", "chosen", "split"),
    [
        ("00001.tar", [], "train"),
        ("val/00001.tar", [], "validation"),
        ("imagenet-train-000.tar", [], "train"),
        ("test/imagenet-valid-000.tar", [], "validation"),
        ("a/TEST2017/000.tar", [], "test"),
        ("contest-000.tar", [], "train"),
        ("val/00001.tar", ["train"], "train"),
        ("b/1.tar", ["test=b/*"], "test"),
        ("a/1.tar", ["test=b/*"], "train"),
    ],
)
def test_a_tars_split_is_the_first_word_that_names_one(key: str, chosen: list[str], split: str) -> None:
    assert split_of(key, chosen) == split


def test_a_chosen_split_must_be_a_word(folder: Path) -> None:
    with pytest.raises(StorageRefused, match="split 'Tr ain'; expected a short lower-case word"):
        indexed(folder, splits=["Tr ain"])
    assert list(indexed(folder, splits=["extra"]).manifest.splits) == ["extra"]
