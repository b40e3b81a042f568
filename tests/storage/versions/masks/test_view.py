"""Views: the next version without some samples, by masks over the tars of the one before."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import stoker
from stoker.storage import open_store
from stoker.storage.errors import AlreadyExists, CorruptShard, SampleNotFound
from stoker.storage.statistics.summary import Summary
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.verification.verify import verify
from stoker.storage.versions import layout, orphans
from stoker.storage.versions.manifest import Manifest, Mask, load_manifest, publish
from stoker.storage.versions.masks.view import with_masks
from stoker.storage.versions.orphans import ReferencedKeys
from tests.storage.external_tars import indexed
from tests.storage.published import CORPUS, make_version

FIRST = ("s-000", "s-007", "s-011")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def keys_of(store: Any, manifest: Manifest) -> list[str]:  # Any: a store
    return [sample.key for sample in stoker.Version(store, manifest)]


def test_a_view_holds_all_but_the_masked_samples(store: MemoryStore) -> None:
    base = make_version(store)
    view = with_masks(store, base, FIRST)
    assert load_manifest(store, CORPUS) == view
    assert (view.reference, view.parent, view.schema, view.is_packed) == ("digits@2", 1, 3, False)
    assert (view.samples, view.masked, view.kept) == (8, 3, 8)
    assert view.parent_checksum == load_manifest(store, CORPUS, 1).checksum
    assert base.is_packed
    assert [(shard.samples, shard.masked, shard.rows) for shard in view.shards] == [(3, 1, 4), (3, 1, 4), (2, 1, 3)]
    assert [shard.stored() for shard in view.shards] == list(base.shards)
    assert keys_of(store, view) == [key for key in keys_of(store, base) if key not in FIRST]
    assert view.decisions.dropped == {"exact_duplicate": 1, "masked": 3}
    assert Summary.from_json(view.statistics["train"]).samples == 6
    assert view.licences == {"CC0-1.0": 4, "unknown": 4}
    assert verify(store, view).problems == ()
    assert verify(store, view).samples == 8
    assert verify(store, base).problems == ()


def test_samples_are_found_and_listed_without_the_masked_ones(store: MemoryStore) -> None:
    view = stoker.Version(store, with_masks(store, make_version(store), FIRST))
    assert "s-000" not in view
    assert view["s-001"].fields["txt"] == b"text 1\n"
    assert view.records(["key"]).read_all()["key"].to_pylist() == [sample.key for sample in view]
    assert view.records(["label"]).read_all().num_rows == len(view) == 8


def test_a_view_of_a_view_has_one_mask_over_the_same_tars(store: MemoryStore) -> None:
    base = make_version(store)
    view = with_masks(store, with_masks(store, base, FIRST[:1]), FIRST[1:])
    assert [mask.group for mask in view.masks] == [base.shards[0].group]
    assert (view.masked, view.reference) == (3, "digits@3")
    assert keys_of(store, view) == [key for key in keys_of(store, base) if key not in FIRST]
    assert verify(store, view).problems == ()


def test_the_same_masks_make_the_same_content(store: MemoryStore) -> None:
    base = make_version(store)
    other = MemoryStore()
    twice = with_masks(store, with_masks(store, base, FIRST[:1]), FIRST[1:])
    once = with_masks(other, make_version(other), FIRST)
    assert (twice.masks, twice.statistics) == (once.masks, once.statistics)
    assert once.content != base.content


def test_whole_shards_can_be_masked(store: MemoryStore) -> None:
    base = make_version(store)
    view = with_masks(store, base, keys_of(store, base)[:4])
    assert [shard.samples for shard in view.shards] == [0, 4, 3]
    assert len(keys_of(store, view)) == 7
    assert verify(store, view).problems == ()


def test_a_key_that_is_not_there_is_named_and_nothing_is_published(store: MemoryStore) -> None:
    view = with_masks(store, make_version(store), FIRST)
    for key in ("s-000", "s-999"):
        with pytest.raises(SampleNotFound, match=f"digits@2 holds no sample '{key}'"):
            with_masks(store, view, ["s-001", key])
    assert load_manifest(store, CORPUS) == view


def test_a_view_without_nothing_is_no_version(store: MemoryStore) -> None:
    base = make_version(store)
    assert with_masks(store, base, []) is base
    assert load_manifest(store, CORPUS) == base


def test_who_comes_second_is_refused(store: MemoryStore) -> None:
    base = make_version(store)
    with_masks(store, base, FIRST)
    with pytest.raises(AlreadyExists, match="digits@1 is not the newest version, that is digits@2"):
        with_masks(store, base, ["s-001"])


def test_a_view_of_external_tars(folder: Path) -> None:
    base = indexed(folder).manifest
    store = open_store(str(folder.parent / "store"))
    gone = keys_of(store, base)[:1] + keys_of(store, base)[-1:]
    view = with_masks(store, base, gone)
    assert (view.schema, view.tars) == (3, base.tars)
    assert (view.samples, sum(view.licences.values())) == (15, 15)
    assert load_manifest(store, view.corpus) == view
    assert keys_of(store, view) == keys_of(store, base)[1:-1]
    assert verify(store, view).problems == ()


def damaged(store: MemoryStore, view: Manifest, harm: str) -> None:
    key = view.masks[0].key
    if harm == "missing":
        store.delete(key)
    elif harm == "flipped":
        store.write(key, store.read(key)[:-1] + b"\0")
    else:
        store.write(key, store.read(key) + b"more")


@pytest.mark.parametrize(
    ("harm", "finding"), [("missing", "is missing"), ("flipped", "sha256 "), ("longer", "sha256 ")]
)
def test_verify_finds_damaged_masks(store: MemoryStore, harm: str, finding: str) -> None:
    view = with_masks(store, make_version(store), FIRST)
    damaged(store, view, harm)
    found = verify(store, view)
    (problem,) = found.problems
    assert problem.startswith(f"{view.masks[0].key}: {finding}")
    assert found.damaged == {view.masks[0].key}


def test_verify_finds_masks_that_are_not_what_the_decisions_drop(store: MemoryStore) -> None:
    base = make_version(store)
    view = with_masks(store, base, ["s-000"])
    other = with_masks(store, view, ["s-001"])
    wrong = replace(view, masks=other.masks, shards=tuple(replace(shard, place=None) for shard in view.shards))
    assert any("it masks 2 rows" in problem for problem in verify(store, wrong).problems)
    undecided = replace(view, decisions=base.decisions)
    assert any("11 samples were kept, but its shards hold 10" in one for one in verify(store, undecided).problems)


def of_another_group(mask: Mask) -> Mask:
    return replace(mask, group="e" * 32, key=layout.mask(CORPUS, "e" * 32, mask.sha256))


def without_counts(view: Manifest) -> Manifest:
    return replace(view, shards=tuple(replace(shard, masked=0, place=None) for shard in view.shards))


@pytest.mark.parametrize(
    "harm",
    [
        lambda view: replace(view, masks=()),
        lambda view: replace(view, masks=view.masks * 2),
        lambda view: replace(view, masks=(of_another_group(view.masks[0]),)),
        without_counts,
    ],
)
def test_masks_that_do_not_belong_to_the_shards_are_corrupt(
    store: MemoryStore, harm: Callable[[Manifest], Manifest]
) -> None:
    publish(store, replace(harm(with_masks(store, make_version(store), FIRST)), version=3))
    with pytest.raises(CorruptShard, match=r"masks, but samples of . groups are masked"):
        _ = load_manifest(store, CORPUS).shards[0]


@pytest.mark.parametrize(
    "key", ["other/decisions/0123456789abcdef.parquet", "digits/versions/00000001.json", "../x", ""]
)
def test_a_mask_under_another_objects_name_is_corrupt_and_nothing_is_written_there(
    store: MemoryStore, key: str
) -> None:
    view = with_masks(store, make_version(store), FIRST)
    publish(store, replace(view, version=3, masks=(replace(view.masks[0], key=key),)))
    found = load_manifest(store, CORPUS, 3)
    before = {stored.key: store.read(stored.key) for stored in store.list()}
    with pytest.raises(CorruptShard, match=r"names '.*' as a mask; expected 'digits/masks/"):
        _ = found.shards[0]
    assert verify(store, found).problems
    assert {stored.key: store.read(stored.key) for stored in store.list()} == before


def test_gc_keeps_the_masks_that_versions_name_and_finds_the_others(store: MemoryStore) -> None:
    view = with_masks(store, make_version(store), FIRST)
    lost = layout.mask(CORPUS, "a" * 32, "b" * 64)
    store.write(lost, b"of no version")
    referenced = ReferencedKeys(store)
    referenced.refresh()
    assert view.masks[0].key in referenced.keys
    assert [(one.kind, one.keys) for one in orphans.find(store, CORPUS, referenced.keys)] == [(orphans.MASK, [lost])]
