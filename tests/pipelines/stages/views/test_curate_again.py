"""Curation of a version anew: a view holds what an ingest by the same rules would, and copies nothing."""

import re
import tarfile
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.recipe import Recipe
from stoker.pipelines.rule import Rule
from stoker.pipelines.rules.exact_duplicates import ExactDuplicates
from stoker.pipelines.rules.leak_free_split import LeakFreeSplit
from stoker.pipelines.rules.near_duplicate_images import NearDuplicateImages
from stoker.pipelines.rules.near_duplicate_texts import NearDuplicateTexts
from stoker.pipelines.stages.curate import Judging
from stoker.pipelines.stages.elders import one_split
from stoker.pipelines.stages.publish import ingest
from stoker.pipelines.stages.raw_part import DamagedParts
from stoker.pipelines.stages.views.curate_again import Curated, curate_again
from stoker.pipelines.stages.views.pack_again import pack_again
from stoker.storage.errors import NotFound, StorageUnavailable
from stoker.storage.shards.kinds import INDEX
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.store import Store
from stoker.storage.verification.verify import verify
from stoker.storage.versions.manifest import Manifest, load_manifest
from stoker.storage.versions.masks.mask import Masks
from stoker.storage.versions.verified import verified_table
from tests.fakes import FailingCalls, context
from tests.flows.inspected_corpus import documented, recipe
from tests.pipelines.stages.test_curate import Alike

ELDERS = Judging(elders=True)
SETS: tuple[tuple[Rule, ...], ...] = (
    (),
    (ExactDuplicates(),),
    (NearDuplicateTexts(similarity=0.9),),
    (NearDuplicateTexts(similarity=0.7), NearDuplicateImages(distance=40)),
    (ExactDuplicates(), LeakFreeSplit(distance=60, similarity=0.5)),
)


def by(rules: tuple[Rule, ...]) -> Recipe:
    made = recipe(Alike(60, 25), "alike", rules)
    made = replace(made, splits={"train": 60.0, "validation": 30.0, "test": 10.0})
    return documented(made)


def held(store: Store, manifest: Manifest) -> dict[str, tuple[str, str]]:
    """Split and content of each sample."""
    found: dict[str, tuple[str, str]] = {}
    masks = Masks(store)
    for shard in manifest.shards:
        index = masks.live(shard, verified_table(store, shard.index, INDEX, sha256=shard.index_sha256))
        for key, content in zip(index["key"].to_pylist(), index["content_sha256"].to_pylist(), strict=True):
            assert key not in found
            found[key] = shard.split, content
    return found


def again(rules: tuple[Rule, ...], store: Store, folder: Path, judging: Judging = ELDERS) -> Curated:
    return curate_again(by(rules), store, folder, judging=judging)


def test_a_view_copies_nothing_and_counts_what_it_holds(tmp_path: Path) -> None:
    store = MemoryStore()
    before = ingest(by(SETS[1]), store, context(tmp_path)).manifest
    stored = {one.key: store.read(one.key) for one in store.list("alike/shards")}
    made = again(SETS[3], store, tmp_path)
    after = made.published.manifest
    assert (made.published.new, after.version) == (True, 2)
    assert after.parent_checksum == load_manifest(store, "alike", 1).checksum
    assert {one.key: store.read(one.key) for one in store.list("alike/shards")}.items() >= stored.items()
    assert after.samples == len(held(store, after)) == before.samples - made.dropped + made.added
    assert after.kept == after.samples
    assert after.masked > 0
    assert sum(after.licences.values()) == after.samples
    assert not verify(store, load_manifest(store, "alike", 2)).problems


@settings(max_examples=12, deadline=None)
@given(st.lists(st.sampled_from(SETS), min_size=1, max_size=4))
def test_whatever_rules_came_before_a_view_holds_what_they_decide_and_no_split_moves(
    tmp_path_factory: pytest.TempPathFactory, order: list[tuple[Rule, ...]]
) -> None:
    store, folder = MemoryStore(), tmp_path_factory.mktemp("again")
    seen = held(store, ingest(by(SETS[0]), store, context(folder)).manifest)
    splits = {key: split for key, (split, _) in seen.items()}
    for rules in order:
        now = held(store, again(rules, store, folder).published.manifest)
        assert all(splits[key] == split for key, (split, _) in now.items() if key in splits)
        splits |= {key: split for key, (split, _) in now.items()}
    newest = load_manifest(store, "alike")
    assert not verify(store, newest).problems
    assert newest.decisions.leaks == 0
    # leak_free_split treats what it let in as elders the second time, which may bind others.
    assert LeakFreeSplit in map(type, order[-1]) or not again(order[-1], store, folder).published.new


def test_the_same_rules_make_no_version_and_an_ingest_after_a_view_none_either(tmp_path: Path) -> None:
    store = MemoryStore()
    ingest(by(SETS[1]), store, context(tmp_path))
    assert not again(SETS[1], store, tmp_path).published.new
    view = again(SETS[3], store, tmp_path).published.manifest
    assert not again(SETS[3], store, tmp_path).published.new
    after = ingest(by(SETS[3]), store, context(tmp_path))
    assert (after.new, after.manifest.reference) == (False, view.reference)


def test_rules_that_drop_all_publish_nothing(tmp_path: Path) -> None:
    store = MemoryStore()
    ingest(by(()), store, context(tmp_path))
    with pytest.raises(RecipeError, match="the rules drop all"):
        again((DropAll(),), store, tmp_path)
    assert load_manifest(store, "alike").version == 1


@dataclass(frozen=True)
class DropAll(Rule):
    """Drops all."""

    def decide(self, rows: pa.Table, tools: object) -> pa.Table:
        columns = {"key": rows["key"], "action": pa.repeat("drop", rows.num_rows)}
        return pa.table(columns | {"value": pa.repeat("near_duplicate", rows.num_rows)})


def test_resplit_gives_splits_anew_and_back_again(tmp_path: Path) -> None:
    store = MemoryStore()
    before = held(store, ingest(by(()), store, context(tmp_path)).manifest)
    other = replace(by(()), splits={"train": 10.0, "validation": 30.0, "test": 60.0})
    anew = curate_again(other, store, tmp_path, judging=replace(ELDERS, resplit=True))
    moved = anew.published.manifest
    assert moved.splits["test"].samples > moved.splits["train"].samples
    of_both = held(store, moved)
    assert anew.moved == sum(before[key][0] != split for key, (split, _) in of_both.items() if key in before) > 0
    assert anew.dropped == len(before.keys() - of_both.keys())
    assert anew.added == len(of_both.keys() - before.keys())
    back = curate_again(by(()), store, tmp_path, judging=replace(ELDERS, resplit=True)).published.manifest
    now = held(store, back)
    same = [key for key, place in before.items() if now.get(key) == place]
    assert len(same) > 0.9 * len(before)  # of a content with copies the one stays that came first
    assert not verify(store, load_manifest(store, "alike")).problems


def test_leaks_of_elders_are_mended_for_the_split_that_is_measured_on(tmp_path: Path) -> None:
    def leaking(store: MemoryStore) -> Manifest:
        with patch.object(one_split, "decide", return_value=[]):  # as releases decided that knew no such rule
            return ingest(by(()), store, context(tmp_path)).manifest

    store = MemoryStore()
    before = leaking(store)
    assert before.decisions.leaks > 0
    assert again((), store, tmp_path).published.manifest.decisions.leaks == before.decisions.leaks
    mended = again((), store, tmp_path, replace(ELDERS, mend_leaks=True)).published.manifest
    assert mended.decisions.leaks == 0
    gone = held(store, before).keys() - held(store, mended).keys()
    contents = {content: split for split, content in held(store, mended).values()}
    order = list(by(()).splits)
    for key in gone:
        split, content = held(store, before)[key]
        assert order.index(contents[content]) > order.index(split)


def test_a_view_is_packed_into_the_same_samples_without_masks(tmp_path: Path) -> None:
    store = MemoryStore()
    ingest(by(()), store, context(tmp_path))
    assert not pack_again(store, "alike", tmp_path).new
    again(SETS[3], store, tmp_path)
    again(SETS[2], store, tmp_path)
    view = again(SETS[1], store, tmp_path).published.manifest
    packed = pack_again(store, "alike", tmp_path)
    assert packed.new
    assert (packed.manifest.masked, packed.manifest.version) == (0, view.version + 1)
    assert held(store, packed.manifest) == held(store, view)
    assert packed.manifest.splits.keys() == view.splits.keys()
    names = []
    for shard in packed.manifest.shards:
        with tarfile.open(fileobj=BytesIO(store.read(shard.key))) as tar:
            names += tar.getnames()
    assert {name.partition(".")[0] for name in names} == held(store, view).keys()
    assert not verify(store, load_manifest(store, "alike")).problems
    assert not pack_again(store, "alike", tmp_path, compact=True).new
    assert not again(SETS[1], store, tmp_path).published.new


def test_a_damaged_part_is_told_with_what_reads_it_again_and_an_ingest_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    before = ingest(by(SETS[1]), store, context(tmp_path)).manifest
    part = before.parts[0]
    store.write(part.records, store.read(part.records)[:-1])
    told = f"partition {part.partition!r} is damaged; `stoker ingest` of the recipe reads that again"
    with pytest.raises(DamagedParts, match=re.escape(told)):
        again(SETS[3], store, tmp_path)
    assert caplog.text.count(part.records) == 1
    assert "it is healed" not in caplog.text
    assert ingest(by(SETS[1]), store, context(tmp_path)).manifest.samples == before.samples
    assert again(SETS[3], store, tmp_path).published.new


def test_a_lost_mask_of_the_newest_version_is_told_with_what_helps_and_one_of_an_older_one_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    ingest(by(SETS[1]), store, context(tmp_path))
    view = again(SETS[3], store, tmp_path).published.manifest
    mask = view.masks[0]
    payload = store.read(mask.key)
    store.delete(mask.key)
    with pytest.raises(NotFound, match=f"{mask.key}: .*`stoker verify --repair` of its version heals it"):
        again(SETS[2], store, tmp_path)
    store.write(mask.key, payload)
    packed = pack_again(store, "alike", tmp_path).manifest
    whole = copied(store)
    expected = held(whole, again(SETS[1], whole, tmp_path).published.manifest)
    store.delete(mask.key)
    found = again(SETS[1], store, tmp_path).published.manifest
    assert (packed.masked, found.version) == (0, packed.version + 1)
    assert held(store, found) == expected
    assert "count as what an older version held" in caplog.text


def copied(store: MemoryStore, into: FailingCalls | None = None) -> FailingCalls:
    copy = into or FailingCalls()
    for stored in store.list(""):
        copy.write(stored.key, store.read(stored.key))
    return copy


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
def test_a_curation_that_fails_at_any_call_is_finished_by_the_next_with_the_same_version(
    tmp_path: Path, after: bool
) -> None:
    store = MemoryStore()
    ingest(by(SETS[0]), store, context(tmp_path))
    again(SETS[3], store, tmp_path)
    expected = again(SETS[1], copied(store), tmp_path).published.manifest
    failed = 0
    for left in range(1, 10**3, 9):
        failing = copied(store, FailingCalls(after=after))
        failing.left = left
        try:
            found = again(SETS[1], failing, tmp_path).published.manifest
        except StorageUnavailable:
            failed += 1
            found = again(SETS[1], failing, tmp_path).published.manifest
        was_reached, failing.left = failing.left <= 0, 10**9
        assert (found.version, found.content, found.parent) == (expected.version, expected.content, expected.parent)
        assert found.decisions == expected.decisions
        assert not verify(failing, found).problems
        if not was_reached:
            break
    assert failed > 5
