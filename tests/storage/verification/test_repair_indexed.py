"""Indexes of external tars are made again from them; a tar itself is named with what helps."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from stoker.storage import open_store
from stoker.storage.indexed import scan as scanning
from stoker.storage.shards import records
from stoker.storage.stores.store import Store
from stoker.storage.verification.repair_indexed import repair_indexed
from stoker.storage.verification.verify import verify
from stoker.storage.versions import layout
from stoker.storage.versions.manifest import Manifest, publish
from stoker.storage.versions.tar_store import store_of_tars
from stoker.storage.versions.version import Version
from tests.storage.external_tars import indexed, numbered, put, tar


def lose(store: Store, key: str) -> None:
    store.delete(key)


def flip(store: Store, key: str) -> None:
    payload = bytearray(store.read(key))
    payload[len(payload) // 2] ^= 1
    store.write(key, bytes(payload))


def cut(store: Store, key: str) -> None:
    store.write(key, store.read(key)[:-9])


def repaired(store: Store, manifest: Manifest) -> list[str]:
    return repair_indexed(store, store_of_tars(store, manifest), manifest, verify(store, manifest).damaged)


@pytest.mark.parametrize("prefixed", [False, True])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("harm", [lose, flip, cut])
def test_an_index_has_its_old_bytes_again(
    folder: Path, harm: Callable[[Store, str], None], own: bool, prefixed: bool
) -> None:
    store = open_store(str(folder.parent)) if own else open_store(str(folder.parent / "store"))
    if prefixed:
        put(folder / "deep" / "same.tar", tar(numbered(0, 3)))
    done = indexed(folder, store)
    assert done.prefixed == prefixed
    manifest = done.manifest
    for again in (repaired, lambda store, manifest: [] if not indexed(folder, store).new else ["a version"]):
        for shard in manifest.shards[:2]:
            harm(store, shard.index)
        assert verify(store, manifest).problems
        assert again(store, manifest) == []
        assert verify(store, manifest).problems == ()


@pytest.mark.parametrize("harm", [lose, flip, cut])
def test_decisions_have_their_old_bytes_again(folder: Path, harm: Callable[[Store, str], None]) -> None:
    store, manifest = open_store(str(folder.parent / "store")), indexed(folder).manifest
    for again in (repaired, lambda store, manifest: [] if not indexed(folder, store).new else ["a version"]):
        harm(store, manifest.decisions.key)
        assert verify(store, manifest).problems
        assert again(store, manifest) == []
        assert verify(store, manifest).problems == ()


def test_a_new_version_does_not_name_damaged_decisions(folder: Path) -> None:
    store, first = open_store(str(folder.parent / "store")), indexed(folder).manifest
    flip(store, first.decisions.key)
    put(folder / "train-009.tar", tar(numbered(90, 2)))
    second = indexed(folder).manifest
    assert (second.version, verify(store, second).problems) == (2, ())


def test_decisions_in_bytes_of_another_release_are_named_with_what_helps(folder: Path) -> None:
    store, first = open_store(str(folder.parent / "store")), indexed(folder).manifest
    other = replace(first.decisions, key=layout.decisions("theirs", "0" * 64), sha256="0" * 64)
    second = replace(first, version=2, parent=1, decisions=other)
    publish(store, second)
    (advice,) = repaired(store, second)
    assert f"{other.key}: this release makes other bytes" in advice
    assert f"`stoker index {folder} --as theirs --again`" in advice
    third = indexed(folder, again=True).manifest
    assert (third.version, verify(store, third).problems) == (3, ())


@pytest.mark.parametrize("prefixed", [False, True])
def test_a_damaged_marker_is_removed_and_written_again_by_the_next_index(folder: Path, prefixed: bool) -> None:
    store = open_store(str(folder.parent / "store"))
    if prefixed:
        put(folder / "deep" / "same.tar", tar(numbered(0, 3)))
    manifest = indexed(folder).manifest
    key = layout.group("theirs", manifest.shards[0].group)
    whole = store.read(key)
    flip(store, key)
    assert len(verify(store, manifest).problems) == 1
    assert repaired(store, manifest) == []
    assert verify(store, manifest).problems == ()
    assert (indexed(folder).manifest, store.read(key)) == (manifest, whole)


@pytest.mark.parametrize("harm", [lose, flip])
def test_a_damaged_index_behind_keys_with_names_is_made_again(folder: Path, harm: Callable[[Store, str], None]) -> None:
    store = open_store(str(folder.parent / "store"))
    put(folder / "deep" / "same.tar", tar(numbered(0, 3)))
    first = indexed(folder).manifest
    bare = {stored.key for stored in store.list("theirs/shards/") if stored.key.endswith(".parquet")}
    for key in bare - {shard.index for shard in first.shards}:
        harm(store, key)
    put(folder / "deep" / "more.tar", tar(numbered(1, 3)))
    second = indexed(folder).manifest
    assert (second.version, verify(store, second).problems) == (2, ())


def test_a_damaged_marker_costs_reading_its_tar_again(folder: Path) -> None:
    store = open_store(str(folder.parent / "store"))
    first = indexed(folder)
    for payload in (b"", b"[]", b"{}", b"[" * 100_000, b'{"shard": 1}'):
        store.write(layout.group("theirs", first.manifest.shards[0].group), payload)
        again = indexed(folder)
        assert (again.new, again.manifest, again.read) == (False, first.manifest, 1)


def test_a_damaged_tar_is_named_with_what_helps(folder: Path) -> None:
    store = open_store(str(folder.parent / "store"))
    manifest = indexed(folder).manifest
    whole = (folder / "train-000.tar").read_bytes()
    put(folder / "train-000.tar", whole[:-512])
    (advice,) = repaired(store, manifest)
    assert "train-000.tar: Stoker did not write it; put back the file whose SHA-256 is" in advice
    assert f"`stoker index {folder} --as theirs --again` makes a version of the tars as they are now" in advice
    assert (folder / "train-000.tar").read_bytes() == whole[:-512]
    put(folder / "train-000.tar", whole)
    assert verify(store, manifest).problems == ()
    (folder / "train-000.tar").unlink()
    assert len(repaired(store, manifest)) == 1
    assert indexed(folder).new  # a version of what is there


@pytest.mark.parametrize("prefixed", [False, True])
def test_an_index_that_an_older_release_wrote_stays_as_it_is(folder: Path, prefixed: bool) -> None:
    if prefixed:
        put(folder / "deep" / "same.tar", tar(numbered(0, 3)))
    store = open_store(str(folder.parent / "store"))
    encode = records.encode
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            records,
            "encode",
            lambda rows: encode(
                rows.drop_columns(["members_crc32c"]) if "members_crc32c" in rows.column_names else rows
            ),
        )
        first = indexed(folder, store).manifest
    told = [(sample.key, dict(sample.fields)) for sample in Version(store, first)]
    assert verify(store, first).problems == ()
    for again in (False, True):
        result = indexed(folder, store, again=again)
        assert (result.new, result.manifest) == (False, first)
        for healed in (repaired, lambda store, manifest: [] if not indexed(folder, store).new else ["a version"]):
            for shard in first.shards[:2]:
                flip(store, shard.index)
            assert healed(store, first) == []
            assert verify(store, first).problems == ()
    assert [(sample.key, dict(sample.fields)) for sample in Version(store, first)] == told
    put(folder / "z-new.tar", tar(numbered(500, 3)))
    second = indexed(folder, store).manifest
    columns = [records.decode(store.read(shard.index)).column_names for shard in second.shards]
    assert ["members_crc32c" in names for names in columns] == [shard not in first.shards for shard in second.shards]
    assert verify(store, second).problems == ()


def test_a_wrong_checksum_of_right_bytes_is_named_and_mended(folder: Path) -> None:
    store = open_store(str(folder.parent / "store"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scanning, "members_crc32c", lambda checksums: 7)
        manifest = indexed(folder, store).manifest
    problems = verify(store, manifest).problems
    assert [problem.partition(": ")[0] for problem in problems] == [shard.index for shard in manifest.shards]
    assert all("row 0 has not the checksum of" in problem for problem in problems)
    assert all("`stoker index" in advice for advice in repaired(store, manifest))
