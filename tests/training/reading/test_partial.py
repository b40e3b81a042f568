"""Shards of which only some samples are read: streams over views have every promise, and no masked sample."""

import itertools
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoker.storage.errors import CorruptShard
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Manifest
from stoker.storage.versions.masks.view import with_masks
from stoker.training.errors import TrainingError
from stoker.training.stream.documents import DocumentStream
from stoker.training.stream.mixing import MixedStream
from stoker.training.stream.stream import ShardStream
from stoker.training.stream.subset import HELD_OUT, Needs, hold_out, survey, usable
from stoker.training.stream.text import TextStream
from tests.training import corpora
from tests.training.conftest import Small
from tests.training.stream.going_on import key_of, stop_and_go_on, stream

LETTERS = "abcdefghijklmnopqrstuvwxyz"
# Whole shards, first and last rows, all but one sample, nothing; and any.
MASKED = st.sampled_from(["", LETTERS[:7], LETTERS[7:21], "aguz", LETTERS[1:], LETTERS[:-1]]) | st.sets(
    st.sampled_from(LETTERS), max_size=25
).map(lambda chosen: "".join(sorted(chosen)))


def copied(store: Store) -> MemoryStore:
    other = MemoryStore()
    for stored in store.list():
        other.write(stored.key, store.read(stored.key))
    return other


def view_of(small: Small, masked: Collection[str]) -> Small:
    """The version without these samples, made in two steps, in a store of its own."""
    store, keys = copied(small.store), sorted(masked)
    first = with_masks(store, small.manifest, keys[::2])
    return Small(store, with_masks(store, first, keys[1::2]), small.folder)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(masked=MASKED, batch_size=st.integers(3, 9), window=st.integers(1, 5), shuffle=st.booleans())
def test_an_epoch_has_every_sample_that_is_not_masked_once(
    letters: Small, masked: str, batch_size: int, window: int, shuffle: bool
) -> None:
    made = stream(view_of(letters, masked), batch_size=batch_size, window=window, shuffle=shuffle)
    epochs = [list(itertools.chain(*made)) for _ in range(2)]
    live = [letter for letter in LETTERS if letter not in masked]
    assert [sorted(epoch) for epoch in epochs] == [live, live]
    assert shuffle or epochs[0] == live
    assert made.samples == len(live)
    made.close()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    masked=MASKED,
    batch_size=st.integers(3, 9),
    window=st.integers(1, 3),
    seed=st.integers(0, 9),
    before=st.integers(1, 3),
    after=st.integers(1, 3),
    stop=st.integers(0, 6),
    last=st.sampled_from(["short", "drop", "pad"]),
)
def test_stopping_anywhere_and_going_on_with_other_ranks_changes_no_global_batch(
    letters: Small,
    masked: str,
    batch_size: int,
    window: int,
    seed: int,
    before: int,
    after: int,
    stop: int,
    last: str,
) -> None:
    stop_and_go_on(view_of(letters, masked), batch_size, window, seed, before, after, stop, last)


def test_a_state_of_the_version_without_the_mask_is_refused(letters: Small) -> None:
    state = stream(letters, batch_size=4).state_dict()
    with pytest.raises(TrainingError, match="resume with the same version"):
        stream(view_of(letters, "a"), batch_size=4).load_state_dict(state)


def test_a_split_of_masked_samples_alone_is_told(letters: Small) -> None:
    with pytest.raises(TrainingError, match=r"has no samples in split 'train'; its splits: train \(0\)"):
        stream(view_of(letters, LETTERS))


def test_samples_tell_their_rows_in_the_tar(letters: Small) -> None:
    made = ShardStream(*_of(view_of(letters, "aceh")), batch_size=22, shuffle=False, cache=letters.cache)
    samples = made.batch(0, 0)
    assert samples.keys == [letter for letter in LETTERS if letter not in "aceh"]
    assert [bytes(text or b"") for text in samples.column("txt")] == [key.encode() * 3 for key in samples.keys]
    assert [samples.identity(place)[1] for place in range(4)] == [1, 3, 5, 6]
    assert [sample.record["label"] for sample in samples] == samples.keys


def _of(small: Small) -> tuple[Store, Manifest]:
    return small.store, small.manifest


def test_masks_are_read_only_for_shards_that_are_read(letters: Small) -> None:
    view = view_of(letters, "az")
    read: list[str] = []

    class Noting(MemoryStore):
        def read(self, key: str, *, start: int = 0, size: int | None = None) -> bytes:
            read.append(key)
            return view.store.read(key, start=start, size=size)

        def iter_bytes(self, key: str, *, start: int = 0) -> Any:
            return view.store.iter_bytes(key, start=start)

    def made(**options: Any) -> ShardStream:
        folder = letters.folder / "other-cache"
        return ShardStream(Noting(), view.manifest, batch_size=3, window=1, shuffle=False, cache=folder, **options)

    first = made()
    assert first.batch(0, 6).keys == list("hij")
    first.close()
    assert [key for key in read if key.endswith(".mask")] == []
    second = made()
    assert second.batch(0, 0).keys == list("bcd")
    second.close()
    assert [key for key in read if key.endswith(".mask")] == [view.manifest.masks[0].key]
    view.store.delete(view.manifest.masks[0].key)  # it is in the cache folder, as indexes are
    third = made()
    assert third.batch(0, 0).keys == list("bcd")
    third.close()


def test_a_damaged_mask_ends_the_stream(letters: Small) -> None:
    view = view_of(letters, "az")
    key = view.manifest.masks[0].key
    view.store.write(key, view.store.read(key)[:-1] + b"\0")
    made = stream(view, batch_size=5, shuffle=False)
    with pytest.raises(CorruptShard, match=r"\.mask: sha256 .* `stoker verify --repair`"):
        made.batch(0, 0)


def test_a_wholly_masked_shard_is_not_fetched(letters: Small) -> None:
    view = view_of(letters, LETTERS[:7])
    view.store.delete(view.manifest.shards[0].key)
    view.store.delete(view.manifest.shards[0].index)
    assert sorted(itertools.chain(*stream(view, batch_size=4))) == list(LETTERS[7:])


def test_a_damaged_shard_is_skipped_by_the_numbers_of_its_stored_rows(letters: Small) -> None:
    view = view_of(letters, "ac")
    key = view.manifest.shards[0].key
    view.store.write(key, bytes(len(view.store.read(key))))
    made = stream(view, batch_size=24, shuffle=False, on_corrupt="skip")
    assert list(itertools.chain(*made)) == list(LETTERS[7:])
    assert made.counters.sums()["skipped"] == 5


def test_parts_of_a_view_are_parts_of_what_it_holds(letters: Small) -> None:
    view = view_of(letters, "abcy")
    divided = hold_out(view.store, view.manifest, 0.4, cache=view.cache)
    parts = {
        split: sorted(itertools.chain(*stream(replace(view, manifest=divided), batch_size=5, split=split)))
        for split in ("train", HELD_OUT)
    }
    assert sorted(parts["train"] + parts[HELD_OUT]) == [letter for letter in LETTERS if letter not in "abcy"]
    whole = hold_out(letters.store, letters.manifest, 0.4, cache=view.cache)
    held = sorted(itertools.chain(*stream(replace(letters, manifest=whole), batch_size=5, split=HELD_OUT)))
    assert parts[HELD_OUT] == [letter for letter in held if letter not in "abcy"]
    needs = Needs(("txt",), "text", label=True)
    assert survey(view.store, divided, needs, cache=view.cache).labels == set(LETTERS) - set("abcy")
    assert usable(view.store, view.manifest, "train", needs, left_out=[{"split": "train"}]).samples == 22


def test_mixes_documents_and_texts_are_without_masked_samples(handbook: Small) -> None:
    topics = [sample.key for sample in corpora.texts()[:12]]
    gone = [topics[0], topics[4], topics[11]]
    view = view_of(handbook, gone)
    sizes = {sample.key: len(sample.fields["txt"]) for sample in corpora.texts()[:12]}
    live = sum(size + 1 for key, size in sizes.items() if key not in gone)
    texts = TextStream(view.store, view.manifest, batch_size=2, window=16, cache=view.cache)
    assert texts.tokens == live
    assert sum(len(rows) for rows, _ in texts) == 2 * texts.batches
    texts.close()
    documents = DocumentStream(view.store, view.manifest, batch_size=4, cache=view.cache)
    lengths = sorted(itertools.chain(*(batch.lengths.tolist() for batch in documents)))
    assert lengths == sorted(size for key, size in sizes.items() if key not in gone)
    documents.close()
    mixed = MixedStream({"view": stream(view), "all": stream(handbook)}, batch_size=3, decode=key_of, exhaustion="drop")
    counts = [key for batch in mixed for key in batch]
    assert sorted(counts) == sorted([*topics, *(key for key in topics if key not in gone)])
    mixed.close()
