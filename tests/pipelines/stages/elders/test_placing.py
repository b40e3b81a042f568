"""Nothing moves: what a version holds stays in the next one, and in its split, whatever happens to the source."""

import io
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from stoker.flows.cli.show import print_version
from stoker.pipelines.partition import Partition, cut
from stoker.pipelines.rule import Rule
from stoker.pipelines.rules.exact_duplicates import ExactDuplicates
from stoker.pipelines.rules.leak_free_split import LeakFreeSplit
from stoker.pipelines.rules.near_duplicate_images import NearDuplicateImages
from stoker.pipelines.rules.near_duplicate_texts import NearDuplicateTexts
from stoker.pipelines.source import Candidate, Context, Source
from stoker.pipelines.stages.publish import Published, ingest
from stoker.pipelines.stages.splits import split_of
from stoker.pipelines.stages.why import find_lineages
from stoker.storage.shards import records
from stoker.storage.shards.sample import Sample
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.store import Store
from stoker.storage.verification.verify import verify
from stoker.storage.versions.manifest import Manifest, load_manifest
from tests.fakes import context, recipe
from tests.pipelines.pictures import packed, pixels

SPLITS = {"train": 50.0, "test": 50.0}


class Note(NamedTuple):
    """A text, or the picture of a number."""

    key: str
    content: str
    group: str = ""
    label: str | None = None


@dataclass(frozen=True)
class Notes(Source):
    """The notes, in this order."""

    planning: ClassVar[frozenset[str]] = frozenset({"notes"})

    notes: tuple[Note, ...]

    def partitions(self, context: Context) -> Iterator[Partition]:
        for number, run in enumerate(cut(self.notes, lambda note: note.key, target=4)):
            yield Partition(f"notes {number} from {run[0].key}", {"notes": [list(note) for note in run]})

    def read(self, partition: Partition, context: Context) -> Iterator[Candidate]:
        for key, content, group, label in partition.payload["notes"]:
            fields = {"png": picture(content)} if content.startswith("picture ") else {"txt": content.encode()}
            yield Candidate(Sample(key, fields, {"group": group, "label": label}))


@cache
def picture(content: str) -> bytes:
    """Of one seed the same picture; of another variant with a little noise."""
    _, seed, variant = content.split()
    noise = np.random.default_rng(int(variant)).integers(-3, 4, (64, 96, 3)) * (variant != "0")
    array = np.clip(pixels(96, 64, seed=int(seed)).astype(np.int64) + noise, 0, 255)
    return packed(Image.fromarray(array.astype(np.uint8)), "PNG")


def text(topic: int, variant: int = 0) -> str:
    """Of one topic nearly the same text."""
    words = [f"word{topic}x{place}" for place in range(100)]
    if variant:
        words[random.Random(variant).randrange(100)] = f"other{variant}"
    return " ".join(words)


def run(
    store: Store, folder: Path, notes: Sequence[Note], rules: tuple[Rule, ...] = (), corpus: str = "notes"
) -> Published:
    made = replace(recipe((), rules=rules, corpus=corpus), source=Notes(tuple(notes)), splits=SPLITS)
    return ingest(made, store, replace(context(folder), now=lambda: datetime(2026, 1, 1, tzinfo=UTC)))


def splits_of(store: Store, manifest: Manifest) -> dict[str, str]:
    found: dict[str, str] = {}
    for shard in manifest.shards:
        found |= dict.fromkeys(records.decode(store.read(shard.index))["key"].to_pylist(), shard.split)
    return found


def named(split: str, prefix: str) -> str:
    """A name that begins so and is in this split."""
    return next(name for n in range(100) if split_of(name := f"{prefix}{n}", SPLITS) == split)


def test_a_newcomer_that_sorts_first_does_not_move_a_trained_sample(tmp_path: Path) -> None:
    store = MemoryStore()
    old, new = named("train", "m"), named("test", "a")
    rules = (LeakFreeSplit(),)
    before = run(store, tmp_path, [Note(old, text(1))], rules).manifest
    assert splits_of(store, before) == {old: "train"}
    after = run(store, tmp_path, [Note(new, text(1, 1)), Note(old, text(1))], rules).manifest
    assert splits_of(store, after) == {old: "train", new: "train"}
    assert verify(store, after).problems == ()


@pytest.mark.parametrize("rule", [NearDuplicateTexts(), ExactDuplicates()])
def test_kept_samples_are_not_dropped_for_newer_copies_on_top(tmp_path: Path, rule: Rule) -> None:
    store = MemoryStore()
    variant = 1 if isinstance(rule, NearDuplicateTexts) else 0
    old = [Note(f"old{topic}", text(topic)) for topic in range(30)]
    new = [Note(f"copy{topic}", text(topic, variant)) for topic in range(0, 30, 2)]
    before = splits_of(store, run(store, tmp_path, old, (rule,)).manifest)
    after = run(store, tmp_path, [*new, *old], (rule,)).manifest
    assert splits_of(store, after) == before
    lineage = find_lineages(store, after, "copy2")[0]
    assert (lineage.state, lineage.duplicate_of, lineage.stays) == ("dropped", "old2", "old2")


def test_pictures_too(tmp_path: Path) -> None:
    store = MemoryStore()
    rules = (NearDuplicateImages(),)
    old = [Note(f"old{seed}", f"picture {seed} 0") for seed in range(8)]
    new = [Note(f"copy{seed}", f"picture {seed} {seed + 1}") for seed in range(8)]
    before = splits_of(store, run(store, tmp_path, old, rules).manifest)
    after = run(store, tmp_path, [*new, *old], rules).manifest
    assert splits_of(store, after) == before
    assert after.rejected == {"near_duplicate": 8}


def test_the_same_bytes_under_two_names_are_in_one_split_without_any_rule(tmp_path: Path) -> None:
    store = MemoryStore()
    names = [named("train", "a"), named("test", "b"), named("test", "c"), named("train", "d")]
    first = run(store, tmp_path, [Note(name, "same") for name in names[:3]]).manifest
    assert splits_of(store, first) == dict.fromkeys(names[:3], "train")
    grown = run(store, tmp_path, [Note(name, "same") for name in reversed(names)]).manifest
    assert splits_of(store, grown) == dict.fromkeys(names, "train")


def test_a_copy_out_of_a_group_that_lies_elsewhere_is_dropped_and_a_whole_copy_follows(tmp_path: Path) -> None:
    store = MemoryStore()
    one, other, whole = named("train", "film-a"), named("test", "film-b"), named("test", "film-c")
    notes = [Note(f"a{n}", f"frame {n}", one) for n in range(3)]
    notes += [Note("b0", "frame 0", other), Note("b1", "its own", other)]
    notes += [Note(f"c{n}", f"frame {n}", whole) for n in range(3)]
    manifest = run(store, tmp_path, notes).manifest
    found = splits_of(store, manifest)
    assert found == {
        "a0": "train",
        "a1": "train",
        "a2": "train",
        "b1": "test",
        "c0": "train",
        "c1": "train",
        "c2": "train",
    }
    (lineage,) = find_lineages(store, manifest, "b0")
    assert (lineage.reason, lineage.rejected_by, lineage.duplicate_of) == ("split_conflict", "one_split", "a0")
    assert verify(store, manifest).problems == ()
    assert not run(store, tmp_path, notes).new


def test_leaks_of_an_older_release_stay_are_counted_and_get_no_more_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    names = [named("train", "a"), named("test", "b")]
    notes = [*(Note(name, "same") for name in names), Note("other", "other")]
    with monkeypatch.context() as older:
        older.setattr("stoker.pipelines.stages.elders.one_split.decide", lambda *_: [])
        before = run(store, tmp_path, notes).manifest
    after = run(store, tmp_path, [Note("copy", "same"), *notes]).manifest
    assert splits_of(store, after) == splits_of(store, before)
    assert after.rejected == {"split_conflict": 1}
    assert load_manifest(store, "notes").decisions.leaks == 1
    console = Console(file=io.StringIO(), width=200)
    print_version(load_manifest(store, "notes"), console)
    assert isinstance(console.file, io.StringIO)
    assert "The same bytes in several splits: 1 content" in console.file.getvalue()
    alone = run(store, tmp_path, [notes[0], notes[2]]).manifest
    assert alone.decisions.leaks == 1, "what the source no longer has stays"


def test_what_is_renamed_stays_in_its_split_and_is_no_newcomer(tmp_path: Path) -> None:
    store = MemoryStore()
    old = [Note(f"old{topic}", text(topic)) for topic in range(20)]
    before = splits_of(store, run(store, tmp_path, old, (NearDuplicateTexts(),)).manifest)
    new = [Note(f"new{topic}", text(topic)) for topic in range(20)]
    near = [Note(f"a{topic}", text(topic, 1)) for topic in range(20)]
    after = splits_of(store, run(store, tmp_path, [*near, *new], (NearDuplicateTexts(),)).manifest)
    assert after == before, "what the source no longer has stays, and its new names are copies"


def test_a_page_that_was_edited_keeps_its_split(tmp_path: Path) -> None:
    store = MemoryStore()
    rules = (LeakFreeSplit(),)
    a, b = named("train", "a"), named("test", "b")
    before = splits_of(store, run(store, tmp_path, [Note(a, text(1)), Note(b, text(1, 1))], rules).manifest)
    assert before == {a: "train", b: "train"}
    edited = [Note(a, text(2)), Note(b, text(3))]
    assert splits_of(store, run(store, tmp_path, edited, rules).manifest) == before


def test_a_growing_group_keeps_the_split_of_its_elders(tmp_path: Path) -> None:
    store = MemoryStore()
    rules = (LeakFreeSplit(),)
    one, film = named("train", "a"), named("test", "film")
    notes = [Note(one, text(1)), Note("f1", text(1, 1), film)]
    assert splits_of(store, run(store, tmp_path, notes, rules).manifest) == {one: "train", "f1": "train"}
    grown = [Note("f0", text(5), film), *notes]
    assert splits_of(store, run(store, tmp_path, grown, rules).manifest)["f0"] == "train"
    alone = [Note("f0", text(5), film), Note("f2", text(6), film)]  # the sample is gone that moved it
    assert splits_of(store, run(store, tmp_path, alone, rules).manifest)["f2"] == "train"


def test_a_newcomer_near_elders_of_two_splits_is_rejected(tmp_path: Path) -> None:
    store = MemoryStore()
    words = [f"w{n}" for n in range(100)]
    left, right = " ".join(words[:75]), " ".join(words[25:])
    notes = [Note(named("train", "a"), left), Note(named("test", "b"), right)]
    rules = (LeakFreeSplit(similarity=0.6),)
    assert set(splits_of(store, run(store, tmp_path, notes, rules).manifest).values()) == {"train", "test"}
    after = run(store, tmp_path, [Note("middle", " ".join(words[10:90])), *notes], rules).manifest
    assert after.rejected == {"split_conflict": 1}


def test_other_rules_judge_all_in_order_of_age_and_splits_stay(tmp_path: Path) -> None:
    store = MemoryStore()
    old, newer = named("train", "z"), named("test", "a")
    run(store, tmp_path, [Note(old, text(1)), Note("other", text(2))])
    second = run(store, tmp_path, [Note(newer, text(1, 1)), Note(old, text(1)), Note("other", text(2))]).manifest
    before = splits_of(store, second)
    assert (before[old], before[newer]) == ("train", "test")
    notes = [Note(newer, text(1, 1)), Note("other", text(2)), Note(old, text(1))]
    after = run(store, tmp_path, notes, (NearDuplicateTexts(),)).manifest
    assert splits_of(store, after) == {old: "train", "other": before["other"]}
    assert find_lineages(store, after, newer)[0].stays == old


def test_other_percentages_move_nothing(tmp_path: Path) -> None:
    store = MemoryStore()
    notes = tuple(Note(f"n{n}", text(n)) for n in range(40))
    before = splits_of(store, run(store, tmp_path, notes).manifest)
    made = replace(recipe((), corpus="notes"), source=Notes(notes), splits={"train": 5.0, "test": 95.0})
    after = ingest(made, store, context(tmp_path)).manifest
    assert splits_of(store, after) == before
    assert after.decisions.moved > 10
    assert verify(store, after).problems == ()
    named_anew = replace(made, splits={"train": 50.0, "held_out": 50.0})
    last = splits_of(store, ingest(named_anew, store, context(tmp_path)).manifest)
    assert {key: split for key, split in last.items() if before[key] == "train"} == {
        key: split for key, split in before.items() if split == "train"
    }
    assert len(last) == 40


def test_a_damaged_index_of_the_parent_moves_nothing(tmp_path: Path) -> None:
    store = MemoryStore()
    rules = (LeakFreeSplit(),)
    old, new = named("train", "m"), named("test", "a")
    before = run(store, tmp_path, [Note(old, text(1))], rules).manifest
    for shard in before.shards:
        store.write(shard.index, b"damaged")
    after = run(store, tmp_path, [Note(new, text(1, 1)), Note(old, text(1))], rules).manifest
    assert splits_of(store, after)[old] == "train"


def test_a_damaged_manifest_of_the_parent_moves_nothing(tmp_path: Path) -> None:
    store = MemoryStore()
    rules = (LeakFreeSplit(),)
    old, new = named("train", "m"), named("test", "a")
    run(store, tmp_path, [Note(old, text(1))], rules)
    run(store, tmp_path, [Note(old, text(1)), Note("other", text(9))], rules)
    store.write("notes/versions/00000002.json", b"damaged")
    after = run(store, tmp_path, [Note(new, text(1, 1)), Note(old, text(1)), Note("other", text(9))], rules).manifest
    assert (after.version, splits_of(store, after)[old]) == (3, "train")


def test_lost_decisions_are_made_again_against_the_version_that_they_were_made_against(tmp_path: Path) -> None:
    store = MemoryStore()
    rules = (LeakFreeSplit(), NearDuplicateTexts(similarity=0.9))
    notes = [Note(f"n{n}", text(n // 3, n % 3), f"g{n % 7}") for n in range(40)]
    run(store, tmp_path, notes[10:], rules)
    second = run(store, tmp_path, notes, rules).manifest
    payload = store.read(second.decisions.key)
    store.delete(second.decisions.key)
    again = run(store, tmp_path, notes, rules)
    assert (again.new, store.read(second.decisions.key)) == (False, payload)


ALWAYS = (Note("a-text", "of its own"), Note("a-picture", "picture 9 0"))
NOTE = st.builds(
    Note,
    key=st.sampled_from([f"k{n}" for n in range(12)]),
    content=st.one_of(
        st.builds(text, st.integers(0, 3), st.integers(0, 2)),
        st.builds("picture {} {}".format, st.integers(0, 2), st.integers(0, 2)),
    ),
    group=st.sampled_from(["", "", "g1", "g2"]),
    label=st.sampled_from([None, None, "cat", "dog"]),
)
RULES: dict[str, tuple[Rule, ...]] = {
    "none": (),
    "exact": (ExactDuplicates(),),
    "near": (ExactDuplicates(conflicts="keep"), NearDuplicateTexts(), NearDuplicateImages()),
    "leak free": (LeakFreeSplit(),),
    "all": (ExactDuplicates(), NearDuplicateTexts(similarity=0.9), NearDuplicateImages(), LeakFreeSplit()),
}


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
@settings(max_examples=10, deadline=None)
@given(sources=st.lists(st.lists(NOTE, min_size=1, max_size=14), min_size=2, max_size=4))
def test_whatever_is_done_to_a_source_nothing_moves_or_vanishes(
    sources: list[list[Note]], rules: tuple[Rule, ...], tmp_path_factory: pytest.TempPathFactory
) -> None:
    stores, folder = (MemoryStore(), MemoryStore()), tmp_path_factory.mktemp("history")
    split_of_key: dict[str, str] = {}
    split_of_content: dict[str, str] = {}
    for notes in sources:
        notes = [*notes, *ALWAYS]
        first, _ = (run(store, folder, notes, rules) for store in stores)
        store, manifest = stores[0], first.manifest
        found, contents = splits_of(store, manifest), contents_of(store, manifest)
        for key, content in contents.items():
            assert split_of_content.get(content, split_of_key.get(key, found[key])) == found[key]
        for key in {note.key for note in notes} & split_of_key.keys() - found.keys():
            assert find_lineages(store, manifest, key)[0].reason
        assert len({(content, found[key]) for key, content in contents.items()}) == len(set(contents.values()))
        split_of_key, split_of_content = found, {content: found[key] for key, content in contents.items()}
        assert verify(store, manifest).problems == ()
        assert not run(store, folder, notes, rules).new
    assert objects(stores[0]) == objects(stores[1])


def contents_of(store: Store, manifest: Manifest) -> dict[str, str]:
    found: dict[str, str] = {}
    for shard in manifest.shards:
        table = records.decode(store.read(shard.index))
        found |= dict(zip(table["key"].to_pylist(), table["content_sha256"].to_pylist(), strict=True))
    return found


def objects(store: Store) -> dict[str, bytes]:
    return {one.key: store.read(one.key) for one in store.list()}
