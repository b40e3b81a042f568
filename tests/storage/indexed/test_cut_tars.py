"""The last sample of a tar that was cut between two members is left out and told; whole ones are not."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from stoker.storage import open_store
from stoker.storage.shards import records
from stoker.storage.verification.repair_indexed import repair_indexed
from stoker.storage.verification.verify import verify
from stoker.storage.versions.manifest import publish
from stoker.storage.versions.tar_store import store_of_tars
from tests.storage.external_tars import Members, indexed, numbered, put, tar
from tests.storage.indexed.test_scan import scanned


def cut(members: Members, size: int = 1024) -> bytes:
    """A tar without its end mark: of each small member there are a header and a block."""
    members = list(members)
    return tar(members)[: size * len(members)]


def keys(payload: bytes) -> list[str]:
    found: list[str] = scanned(payload).index["key"].to_pylist()
    return found


@pytest.mark.parametrize("left", [1, 2])
def test_the_last_sample_of_a_cut_tar_is_left_out_and_listed(left: int) -> None:
    payload = cut(list(numbered(0, 4))[: 9 + left])
    assert keys(payload) == ["000000", "000001", "000002"]
    has = {1: "jpg", 2: "cls jpg"}[left]
    assert scanned(payload).losses == (
        f"sample '000003': has {has} alone, and others cls jpg json: the tar was cut short here",
    )
    assert "it ends without an end mark" in scanned(payload).notes[0]
    whole = scanned(payload, keep_cut=True)
    assert whole.index["key"].to_pylist() == ["000000", "000001", "000002", "000003"]


@pytest.mark.parametrize(
    "names",
    [
        ["a.jpg", "a.txt", "b.jpg", "b.txt"],  # cut between samples, or whole
        ["a.jpg", "b.jpg", "b.txt", "c.jpg"],  # others are like it
        ["a.jpg", "a.txt", "b.jpg", "b.cls"],  # it has what none has
        ["a.jpg"],
    ],
)
def test_a_last_sample_that_may_be_whole_is_kept(names: Sequence[str]) -> None:
    payload = cut([(name, b"1") for name in names])
    assert keys(payload) == sorted({name[0] for name in names})
    assert scanned(payload).losses == ()


def test_a_tar_with_its_end_mark_is_not_cut() -> None:
    assert len(keys(tar(list(numbered(0, 4))[:10]))) == 4


def test_versions_of_older_releases_hold_that_sample_and_are_intact(folder: Path) -> None:
    payload = cut(list(numbered(0, 5))[:13])
    put(folder / "train-000.tar", payload)
    store, first = open_store(str(folder.parent / "store")), indexed(folder).manifest
    assert first.shards[0].samples == 4
    # As an older release made it.
    old = scanned(payload, keep_cut=True).index
    old = old.append_column("split", pa.array(["train"] * 5, pa.string()))
    encoded = records.encode(old)
    shard = dataclasses.replace(
        first.shards[0], samples=5, index_size=len(encoded), index_sha256=records.sha256(encoded)
    )
    store.write(shard.index, encoded)
    store.delete(f"theirs/shards/{shard.group}/group.json")
    second = dataclasses.replace(
        first,
        version=2,
        parent=1,
        shards=(shard, *first.shards[1:]),
        licences={"CC0-1.0": 16, "unknown": 1},
        statistics={**first.statistics, "train": {**first.statistics["train"], "samples": 15}},
    )
    publish(store, second)
    assert verify(store, second).problems == ()
    store.write(shard.index, encoded[:-9])
    damaged = verify(store, second).damaged
    assert damaged == {shard.index}
    assert repair_indexed(store, store_of_tars(store, second), second, damaged) == []
    assert verify(store, second).problems == ()


def test_a_record_that_holds_a_name_twice_is_told_and_none_of_its_values_is_a_column() -> None:
    twice = b'{"caption": "no", "label": 1, "label": 2}'
    payload = tar([("a.jpg", b"1"), ("a.json", twice), ("b.jpg", b"2"), ("b.json", b'{"caption": "yes", "label": 3}')])
    result = scanned(payload)
    assert result.losses == ("at byte 1536: values in json of sample 'a': two values for 'label'; none is a column",)
    assert result.index["caption"].to_pylist() == [None, "yes"]
    assert result.index["label"].to_pylist() == [None, "3"]
    assert result.index["fields"].to_pylist() == ["jpg json"] * 2  # the member itself is read as it is
    inner = tar([("a.json", b'{"box": {"x": 1, "x": 2}}')])
    assert "two values for 'x'" in scanned(inner).losses[0]
