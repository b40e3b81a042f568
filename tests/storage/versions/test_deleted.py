"""A deleted version is gone for all readers, its number is never used again, and its neighbours are named."""

from contextlib import suppress
from pathlib import Path

import pytest

from stoker.pipelines.stages.publish import ingest
from stoker.storage.errors import AlreadyExists, CorruptShard, NotFound, StorageUnavailable
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.verification.verify import verify
from stoker.storage.versions import catalog, layout, orphans
from stoker.storage.versions.deleted import Deleted, delete_corpus, delete_version, encode, load_deleted
from stoker.storage.versions.manifest import load_manifest, publish
from stoker.storage.versions.orphans import ReferencedKeys
from tests.fakes import FailingCalls, context, recipe
from tests.storage.published import CORPUS, make_version
from tests.storage.remembered import remember

AT = "2026-11-27T03:04:05+00:00"
GOLDEN = (
    b'{"checksum":"0d714ed7a3cc2941b5cbacbe911a47860f31d126d074b7b6f02140a95c68ee37","corpus":"digits",'
    b'"deleted_at":"2026-11-27T03:04:05+00:00","schema":1,"version":2}\n'
)


@pytest.fixture
def store() -> MemoryStore:
    """Versions 1, 2 and 3, of which 2 is deleted."""
    store = MemoryStore()
    for version in (1, 2, 3):
        make_version(store, version)
    delete_version(store, CORPUS, 2, at=AT)
    return store


def test_a_marker_is_these_bytes() -> None:
    assert encode(Deleted(CORPUS, 2, AT)) == GOLDEN


def test_a_deleted_version_is_listed_no_more_and_its_neighbours_are_named(store: MemoryStore) -> None:
    assert catalog.versions(store, CORPUS) == [1, 3]
    assert catalog.numbers(store, CORPUS).deleted == [2]
    with pytest.raises(NotFound, match=r"digits@2 was deleted on 2026-11-27; its neighbours: digits@1 and digits@3$"):
        load_manifest(store, "digits@2")
    assert load_manifest(store, CORPUS).version == 3


def test_the_versions_beside_it_are_intact(store: MemoryStore) -> None:
    """Version 3 names the deleted one as the version before it."""
    for version in (1, 3):
        assert verify(store, load_manifest(store, CORPUS, version)).problems == ()


def test_of_a_corpus_without_any_version_left_that_is_told(store: MemoryStore) -> None:
    for version in (1, 3):
        delete_version(store, CORPUS, version, at=AT)
    assert catalog.corpora(store) == []
    with pytest.raises(NotFound, match="all versions of digits were deleted; the last one was digits@3"):
        load_manifest(store, CORPUS)
    with pytest.raises(NotFound, match="digits@3 was deleted on 2026-11-27; no other is left"):
        load_manifest(store, "digits@3")


def test_its_number_is_never_used_again(tmp_path: Path) -> None:
    store = MemoryStore()
    first = ingest(recipe(("a", "b")), store, context(tmp_path)).manifest
    delete_version(store, "words", 1, at=AT)
    with pytest.raises(AlreadyExists, match="words@1 was deleted, and its number is never used again"):
        publish(store, first)
    assert catalog.versions(store, "words") == []
    again = ingest(recipe(("a", "b")), store, context(tmp_path)).manifest
    assert (again.version, again.parent) == (2, None)
    assert verify(store, again).problems == ()


@pytest.mark.parametrize("payload", [b"", GOLDEN[:-9], GOLDEN.replace(b":2}", b":3}")])
def test_gc_keeps_a_manifest_beside_a_marker_that_is_damaged(store: MemoryStore, payload: bytes) -> None:
    marker = layout.deleted(CORPUS, 3)
    store.write(marker, payload)
    referenced = ReferencedKeys(store)
    referenced.refresh()
    assert layout.version(CORPUS, 3) not in [
        key for one in orphans.find(store, CORPUS, referenced.of(CORPUS)) for key in one.keys
    ]
    assert any("gc keeps its manifest" in one for one in verify(store, load_manifest(store, CORPUS, 1)).problems)
    store.delete(marker)
    assert verify(store, load_manifest(store, CORPUS, 3)).problems == ()


@pytest.mark.parametrize("payload", [b"", GOLDEN[:-9]])
def test_gc_keeps_what_a_version_needs_whose_marker_is_damaged(store: MemoryStore, payload: bytes) -> None:
    store.write(layout.deleted(CORPUS, 3), payload)
    store.write(layout.version(CORPUS, 3), b"{")  # what it needs is not known
    with pytest.raises(CorruptShard, match=r"versions/00000003\.json"):
        ReferencedKeys(store).refresh()


def test_what_never_was_cannot_be_deleted(store: MemoryStore) -> None:
    with pytest.raises(NotFound):
        delete_version(store, CORPUS, 4, at=AT)
    assert catalog.numbers(store, CORPUS).last == 3


@pytest.mark.parametrize("cut", range(0, len(GOLDEN), 7))
def test_a_damaged_marker_is_found_and_its_version_stays_deleted(store: MemoryStore, cut: int) -> None:
    key = layout.deleted(CORPUS, 2)
    sound = store.read(key)
    for payload in (
        sound[:cut],
        *(bytes([*sound[:cut], sound[cut] ^ 1 << bit, *sound[cut + 1 :]]) for bit in range(8)),
    ):
        store.write(key, payload)
        with pytest.raises(CorruptShard, match=r"00000002\.deleted: .*; restore the marker from a copy, or remove it"):
            load_deleted(store, CORPUS, 2)
        with pytest.raises(NotFound, match="digits@2 was deleted; its neighbours"):
            load_manifest(store, "digits@2")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("place", range(1, 5))
def test_a_crash_leaves_the_version_or_its_marker_and_gc_finds_the_rest(place: int, after: bool) -> None:
    store = FailingCalls(after=after)
    for version in (1, 2):
        make_version(store, version)
    store.left = place  # look for a marker, size of the manifest, marker, manifest
    with pytest.raises(StorageUnavailable):
        delete_version(store, CORPUS, 2, at=AT)
    store.left = 10**9
    is_marked = place + after > 3
    assert catalog.versions(store, CORPUS) == ([1] if is_marked else [1, 2])
    referenced = ReferencedKeys(store)
    referenced.refresh()
    found = [(one.kind, one.keys) for one in orphans.find(store, CORPUS, referenced.keys)]
    has_rest = is_marked and place + after < 5
    assert found == ([(orphans.DELETED, [layout.version(CORPUS, 2)])] if has_rest else [])
    if place + after < 5:
        delete_version(store, CORPUS, 2, at=AT)
    assert list(orphans.find(store, CORPUS, referenced.keys)) == []
    assert catalog.numbers(store, CORPUS).manifests == [1]


def test_gc_finds_the_rest_of_a_deletion_that_is_damaged(store: MemoryStore) -> None:
    key = layout.version(CORPUS, 2)
    store.write(key, b"half")
    referenced = ReferencedKeys(store)
    referenced.refresh()
    assert [one.keys for one in orphans.find(store, CORPUS, referenced.keys) if one.kind == orphans.DELETED] == [[key]]
    store.write(layout.version(CORPUS, 3), b"half")
    with pytest.raises(CorruptShard, match="restore it from a copy"):  # what this one needs is unknown
        ReferencedKeys(store).refresh()


@pytest.mark.parametrize("place", range(1, 14))
def test_a_killed_deletion_of_a_corpus_goes_on_with_the_same_call(place: int) -> None:
    store = FailingCalls(after=bool(place % 2))
    make_version(store)
    make_version(store, 2)
    remember(store)
    store.left = place
    with suppress(StorageUnavailable):
        delete_corpus(store, CORPUS, [1, 2], at=AT)
    store.left = 10**9
    delete_corpus(store, CORPUS, catalog.numbers(store, CORPUS).manifests, at=AT)
    assert (catalog.numbers(store, CORPUS).existing, catalog.numbers(store, CORPUS).last) == ([], 2)
    assert list(store.list(layout.ledgers(CORPUS))) == []
