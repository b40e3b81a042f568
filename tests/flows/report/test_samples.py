"""Fields that the page shows are compared with what their index says, also those of tars in place."""

from pathlib import Path

import pytest

from stoker.flows.report import samples
from stoker.flows.report.report import report
from stoker.flows.report.samples import SampleReader
from stoker.storage.errors import CorruptShard, NotFound
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.versions import layout
from stoker.storage.versions.listed import lists
from stoker.storage.versions.manifest import load_manifest
from stoker.testing import sample_corpus
from tests.storage.external_tars import indexed, numbered, put, tar
from tests.storage.published import CORPUS, make_version


def test_a_field_of_a_tar_in_place_is_compared(tmp_path: Path) -> None:
    path, store = tmp_path / "tars" / "train-0.tar", MemoryStore()
    put(path, tar(numbered(0, 3)))
    manifest = indexed(path.parent, store).manifest
    reader = SampleReader(store)
    entry = reader.find(manifest, "000001")
    assert "members_crc32c" not in entry.record
    member = entry.member("jpg")
    assert member is not None
    proof, key = entry.proof(member, manifest), manifest.shards[0].key
    assert proof
    assert reader.read(key, member, most=4, of=manifest, proof=proof) == b"\xff\xd811"
    assert not entry.proof(member, manifest, most=50), "it would cost reading the whole sample"
    put(path, path.read_bytes().replace(b"number 1", b"number 7"))
    with pytest.raises(CorruptShard, match=r"train-0\.tar: sample '000001': CRC-32C .*`stoker verify --repair`"):
        reader.read(key, member, most=4, of=manifest, proof=proof)
    other = reader.find(manifest, "000002")
    assert (
        reader.read(key, other.members[1], most=9, of=manifest, proof=other.proof(other.members[1], manifest)) == b"2"
    )


def test_a_field_without_a_hash_of_its_own_is_compared_with_its_sample() -> None:
    store, manifest = sample_corpus(3)
    reader = SampleReader(store)
    entry = reader.page(manifest, size=9).entries[1]
    assert "crc32c" not in entry.record
    (member,) = (member for member in entry.members if member.extension == "txt")
    assert entry.checksum(member, manifest) == ""
    assert reader.read(manifest.shards[0].key, member, most=9, of=manifest, proof=entry.proof(member, manifest)) == b"1"


def test_a_version_that_is_read_again_keeps_the_lists_that_were_read(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    make_version(store)
    monkeypatch.setattr(samples, "_MANIFEST_TTL_S", 1e-9)
    reader = SampleReader(store)
    first = reader.manifest(CORPUS, 1)
    shards = list(first.shards)
    store.delete(next(file.key for file in first.lists if f"/{lists.SHARDS}-" in file.key))
    assert list(reader.manifest(CORPUS, 1).shards) == shards
    store.delete(layout.version(CORPUS, 1))
    with pytest.raises(NotFound):
        reader.manifest(CORPUS, 1)


def test_a_report_needs_no_list_of_shards() -> None:
    store = MemoryStore()
    made = make_version(store)
    manifest = load_manifest(store, CORPUS)
    store.delete(next(file.key for file in manifest.lists if f"/{lists.SHARDS}-" in file.key))
    assert report(manifest) == report(made)
