"""Packing with checksums of samples: what a release without them wrote is used as it is, and is healed as it was."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from stoker.pipelines.repair import repair
from stoker.pipelines.stages import pack
from stoker.storage.errors import CorruptShard
from stoker.storage.shards import records, row_checksum
from stoker.storage.shards.row_checksum import CHECKSUMS, CRC32C, crc32c
from stoker.storage.shards.shard import TarWriter
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.verification.verify import verify
from stoker.storage.versions import layout
from stoker.storage.versions.manifest import Manifest, Shard
from stoker.storage.versions.version import Version
from tests.system.damage import KINDS, flip, keys
from tests.system.test_damaged_store import WORDS, made, objects, run


def without_checksums(encode: Any) -> Any:  # Any: the function that writes tables
    """As a release before them wrote tables."""

    def older(rows: Sequence[Mapping[str, Any]] | pa.Table) -> bytes:
        table = rows if isinstance(rows, pa.Table) else records.decode(encode(rows))
        return bytes(encode(table.drop_columns([name for name in CHECKSUMS if name in table.column_names])))

    return older


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def older(store: MemoryStore, tmp_path: Path) -> Manifest:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "encode", without_checksums(records.encode))
        manifest = run(store, tmp_path).manifest
    assert all(CRC32C not in index(store, shard).column_names for shard in manifest.shards)
    return manifest


def index(store: MemoryStore, shard: Shard) -> pa.Table:
    return records.decode(store.read(shard.index))


def assert_checksums(store: MemoryStore, shards: Sequence[Shard]) -> None:
    assert shards
    for shard in shards:
        tar, table = store.read(shard.key), index(store, shard)
        spans = zip(table["start"].to_pylist(), table["stop"].to_pylist(), strict=True)
        assert table.schema.field(CRC32C).type == pa.uint32()
        assert table[CRC32C].to_pylist() == [crc32c(tar[start:stop]) for start, stop in spans]


def test_shards_and_raw_parts_have_the_checksums_of_their_samples(store: MemoryStore, tmp_path: Path) -> None:
    manifest = run(store, tmp_path).manifest
    assert_checksums(store, manifest.shards)
    for part in manifest.parts:
        table, tar = records.decode(store.read(part.records)), store.read(part.tar)
        assert {row["reason"] for row in table.to_pylist() if row[CRC32C] is None} - {None} == set(part.rejected)
        rows = [row for row in table.to_pylist() if row["reason"] is None]
        assert [row[CRC32C] for row in rows] == [crc32c(tar[row["start"] : row["stop"]]) for row in rows]
    assert CRC32C not in Version(store, manifest).records().schema.names
    assert all(CRC32C not in split["columns"] for split in manifest.statistics.values())


def test_the_column_alone_makes_no_version(store: MemoryStore, older: Manifest, tmp_path: Path) -> None:
    before = objects(store)
    again = run(store, tmp_path)
    assert (again.new, again.manifest, objects(store)) == (False, older, before)
    assert verify(store, older).problems == ()
    fresh = run(MemoryStore(), tmp_path).manifest
    assert (fresh.content, fresh.statistics) == (older.content, older.statistics)
    assert [shard.sha256 for shard in fresh.shards] == [shard.sha256 for shard in older.shards]
    assert [part.digest for part in fresh.parts] == [part.digest for part in older.parts]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("records", "part", "manifest")])
@pytest.mark.parametrize("by", ["repair", "ingest"])
def test_what_an_older_release_packed_is_healed_as_it_was(
    store: MemoryStore, older: Manifest, tmp_path: Path, kind: str, by: str
) -> None:
    before = objects(store)
    if (by, kind) == ("ingest", "part marker"):
        pytest.skip("an ingest that has nothing to read reads no marker")
    for key in keys(older, kind):
        flip(store, key, 8 * (len(store.read(key)) // 2))
    if by == "repair":
        assert repair(made(), older, verify(store, older).damaged, store, tmp_path) == []
    else:
        assert run(store, tmp_path).manifest == older
    assert verify(store, older).problems == ()
    after = objects(store)
    assert {key: after.get(key) for key in before if not key.endswith(".json")} == {
        key: payload for key, payload in before.items() if not key.endswith(".json")
    }


def test_parts_of_an_older_release_are_packed_with_checksums(
    store: MemoryStore, older: Manifest, tmp_path: Path
) -> None:
    second = run(store, tmp_path, made((*WORDS, "one-more"), digest="two")).manifest
    packed = [shard for shard in second.shards if shard.group not in {one.group for one in older.shards}]
    assert {part.digest for part in second.parts} & {part.digest for part in older.parts}
    assert_checksums(store, packed)
    assert verify(store, second).problems == ()


def test_a_marker_that_is_lost_costs_no_other_index(store: MemoryStore, older: Manifest, tmp_path: Path) -> None:
    for shard in older.shards:
        store.delete(layout.group(older.corpus, shard.group))
    again = run(store, tmp_path)
    assert (again.new, again.manifest) == (False, older)
    assert verify(store, older).problems == ()


def test_a_copy_that_is_altered_while_it_is_packed_is_told(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = pack._read_sample
    monkeypatch.setattr(pack, "_read_sample", lambda tar, sample: read(tar, sample)[:-1] + b"?")
    with pytest.raises(
        CorruptShard, match=r"part-.*\.tar: sample 'word-\d+': CRC-32C .*the same command reads it again"
    ):
        run(store, tmp_path)


def test_verify_names_a_wrong_checksum_of_right_bytes(store: MemoryStore, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TarWriter, "add_bytes", wrong(TarWriter.add_bytes))
        patch.setattr(row_checksum, "check", lambda *_, **__: None)
        manifest = run(store, tmp_path).manifest
    problems = verify(store, manifest).problems
    assert len(problems) == len(manifest.shards)
    assert all(
        problem.startswith(f"{shard.index}: row 0 says ") and "with the CRC-32C" in problem
        for problem, shard in zip(problems, manifest.shards, strict=True)
    )


def wrong(add_bytes: Any) -> Any:  # Any: a method
    return lambda self, encoded: add_bytes(self, encoded) ^ 1
