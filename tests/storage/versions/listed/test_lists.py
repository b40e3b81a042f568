"""The lists of a version are read when they are needed, and what is wrong with one is named with what helps."""

import pickle
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.storage.errors import CorruptObject, CorruptShard, NotFound
from stoker.storage.shards import records
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.verification.verify import verify
from stoker.storage.versions import layout
from stoker.storage.versions.listed import lists
from stoker.storage.versions.listed.lists import ListFile
from stoker.storage.versions.manifest import Manifest, Part, Shard, load_manifest, publish
from tests.storage.published import CORPUS, make_version

KINDS = [kind for kind in lists.KINDS if kind != lists.MASKS]  # of a version without masks


class Counting(MemoryStore):
    """Remembers what was read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []

    def read(self, key: str, *, start: int = 0, size: int | None = None) -> bytes:
        self.reads.append(key)
        return super().read(key, start=start, size=size)


def listed(manifest: Manifest, kind: str) -> ListFile:
    return dict(zip(KINDS, manifest.lists, strict=True))[kind]


def use(manifest: Manifest, kind: str) -> object:
    return list(getattr(manifest, kind))


def test_totals_need_no_list_and_each_list_is_read_once() -> None:
    store = Counting()
    made = make_version(store)
    store.reads.clear()
    manifest = load_manifest(store, CORPUS)
    totals = (manifest.samples, manifest.size, manifest.read, manifest.kept, manifest.rejected, manifest.splits)
    assert totals == (made.samples, made.size, made.read, made.kept, made.rejected, made.splits)
    assert (len(manifest.shards), len(manifest.parts), len(manifest.statistics), manifest.is_indexed) == (
        3,
        2,
        2,
        False,
    )
    assert store.reads == [layout.version(CORPUS, 1)]
    for _ in range(2):
        assert (manifest.shards, manifest.parts, manifest.statistics) == (made.shards, made.parts, made.statistics)
        assert manifest.masks == ()
    assert store.reads[1:] == [file.key for file in manifest.lists]


def test_versions_share_lists_that_did_not_change() -> None:
    store = MemoryStore()
    make_version(store)
    make_version(store, 2)
    first, second = (list(load_manifest(store, CORPUS, number).lists) for number in (1, 2))
    assert first == second
    assert len(list(store.list(f"{CORPUS}/lists/"))) == len(KINDS)


def test_another_process_gets_the_lists_themselves() -> None:
    store = MemoryStore()
    manifest = make_version(store)
    copy = pickle.loads(pickle.dumps(load_manifest(store, CORPUS)))
    assert copy == manifest
    assert isinstance(copy.shards, tuple)


HARM: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda payload: payload[:-1],
    "longer": lambda payload: payload + b"x",
    "flipped": lambda payload: payload[:9] + bytes([payload[9] ^ 1]) + payload[10:],
    "empty": lambda payload: b"",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("harm", HARM)
def test_a_damaged_list_is_named_with_what_helps_and_totals_are_still_told(kind: str, harm: str) -> None:
    store = MemoryStore()
    made = make_version(store)
    file = listed(load_manifest(store, CORPUS), kind)
    store.write(file.key, HARM[harm](store.read(file.key)))
    manifest = load_manifest(store, CORPUS)
    assert manifest.samples == made.samples
    with pytest.raises(CorruptObject, match=rf"{file.key}: .*; restore it from a copy, or ingest again") as told:
        use(manifest, kind)
    assert (told.value.key, "\n" in str(told.value)) == (file.key, False)
    with pytest.raises(CorruptObject):
        manifest.read_lists()
    assert [problem.partition(":")[0] for problem in verify(store, manifest).problems] == [file.key]


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_that_is_gone_is_named_with_what_helps(kind: str) -> None:
    store = MemoryStore()
    make_version(store)
    manifest = load_manifest(store, CORPUS)
    store.delete(listed(manifest, kind).key)
    with pytest.raises(NotFound, match=r"no such object; restore it from a copy, or ingest again"):
        use(manifest, kind)
    assert verify(store, manifest).problems == (f"{listed(manifest, kind).key}: is missing",)


@pytest.mark.parametrize("kind", KINDS)
def test_every_flipped_bit_of_a_list_is_found(kind: str) -> None:
    store = MemoryStore()
    make_version(store)
    file = listed(load_manifest(store, CORPUS), kind)
    payload = store.read(file.key)
    for place in range(0, len(payload) * 8, 61):
        harmed = bytearray(payload)
        harmed[place // 8] ^= 1 << place % 8
        store.write(file.key, bytes(harmed))
        with pytest.raises(CorruptShard):
            use(load_manifest(store, CORPUS), kind)


def test_rows_that_a_foreign_hand_wrote_are_checked() -> None:
    """The checksums are right, the rows are not: as of a manifest that was made by other software."""
    store = MemoryStore()
    payload = records.encode([{"key": "a"}])
    file = ListFile("digits/lists/shards-0.parquet", len(payload), records.sha256(payload), 1)
    store.write(file.key, payload)
    with pytest.raises(CorruptObject, match=r"lacks \['index', .*; restore it"):
        list(lists.read_list(store, lists.SHARDS, file, lambda: "restore it"))
    with pytest.raises(CorruptObject, match="lacks"):
        list(lists.read_list(store, lists.SHARDS, replace(file, rows=2), lambda: "restore it"))


names = st.text(st.characters(exclude_categories=()), max_size=20)  # surrogates too
counts = st.dictionaries(names, st.integers(0, 2**40), max_size=3)


@given(rejected=counts, omitted=counts, partition=st.text(max_size=20), numbers=st.integers(0, 2**62))
def test_what_is_listed_is_read(
    rejected: dict[str, int], omitted: dict[str, int], partition: str, numbers: int
) -> None:
    store = MemoryStore()
    made = make_version(store)
    part = replace(made.parts[0], rejected=rejected, omitted=omitted, partition=partition, read=numbers)
    shard = replace(made.shards[0], size=numbers, split="train")
    publish(store, replace(made, version=2, parts=(part,) * 2, shards=(shard,), statistics={"train": {"é": [numbers]}}))
    found = load_manifest(store, CORPUS, 2)
    assert list(map(_plain, found.parts)) == [_plain(part)] * 2
    assert found.shards == (shard,)
    assert found.statistics == {"train": {"é": [numbers]}}
    assert isinstance(found.parts[0], Part)
    assert isinstance(found.shards[0], Shard)


def _plain(part: Part) -> tuple[object, ...]:
    """Half a surrogate pair is read as its JSON escape says."""
    return part.partition, part.read, dict(part.rejected), dict(part.omitted)
