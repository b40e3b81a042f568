"""A share of a split is held out by the samples' records alone; samples that a model cannot use are left out."""

import hashlib
import json
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stoker.pipelines.stages.forgetting.forget import forget
from stoker.pipelines.stages.forgetting.purge import purge
from stoker.storage.indexed.indexing import index
from stoker.storage.indexed.tars import find_tars
from stoker.storage.shards.sample import Sample
from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.versions.manifest import Manifest, load_manifest
from stoker.testing import sample_corpus
from stoker.training import ShardStream, TextStream, TrainingError, hold_out
from stoker.training.loader.loader import Loader
from stoker.training.stream.subset import HELD_OUT, Needs, share_of, survey, usable
from tests.storage.external_tars import tar
from tests.training import corpora


def texts(count: int, **record: str) -> list[Sample]:
    return [Sample(f"t{number:04d}", {"txt": b"%d" % number}, {"label": "a", **record}) for number in range(count)]


def keys_of(store: MemoryStore | DirectoryStore, manifest: Manifest, split: str, folder: Path) -> list[str]:
    stream = ShardStream(store, manifest, split, batch_size=7, cache=folder / "cache", shuffle=False)
    try:
        return [key for batch in stream for key in batch.keys]
    finally:
        stream.close()


def test_a_share_is_held_out_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    store = MemoryStore()
    manifest = corpora.version(store, tmp_path, {"train": texts(400)}, per_shard=60)
    divided = hold_out(store, manifest, "10%", cache=tmp_path / "cache")
    train, held = (keys_of(store, divided, split, tmp_path) for split in ("train", HELD_OUT))
    assert sorted(train + held) == [sample.key for sample in texts(400)]
    assert 20 < len(held) < 60
    assert (divided.splits["train"].samples, divided.splits[HELD_OUT].samples) == (len(train), len(held))
    again = hold_out(store, manifest, 0.1, cache=tmp_path / "cache")
    assert again == divided
    larger = keys_of(store, hold_out(store, manifest, "30%", cache=tmp_path / "cache"), HELD_OUT, tmp_path)
    assert set(held) < set(larger)


def test_the_same_samples_are_held_out_when_shards_come_on_top_in_whatever_order(tmp_path: Path) -> None:
    store = MemoryStore()
    before = corpora.version(store, tmp_path, {"train": texts(200)}, per_shard=50)
    after = corpora.version(store, tmp_path, {"train": texts(260)[::-1]}, corpus="more", per_shard=33)
    held, held_later = (
        set(keys_of(store, hold_out(store, manifest, "20%", cache=tmp_path / "cache"), HELD_OUT, tmp_path))
        for manifest in (before, after)
    )
    assert held == held_later & {sample.key for sample in texts(200)}
    assert held < held_later


@pytest.mark.parametrize("record", [None, "video"])
@pytest.mark.parametrize("on_top", ["b.tar", "deeper/b.tar"])
@pytest.mark.parametrize("folder", ["tars", "store/tars", "store/tars/deep/tars", "store/a"])
def test_external_tars_keep_their_samples_held_out_when_a_tar_with_the_same_keys_comes_on_top(
    tmp_path: Path, folder: str, on_top: str, record: str | None
) -> None:
    """Keys get the tar's name before them then; the corpus's own store may hold the tars, in any folder."""
    store, tars = DirectoryStore(tmp_path / "store"), tmp_path / folder
    (tars / on_top).parent.mkdir(parents=True)

    def members(name: str, numbers: range) -> Iterator[tuple[str, bytes]]:
        for number in numbers:
            yield f"{number:03d}.txt", f"{name}{number}".encode()
            if record:
                yield f"{number:03d}.json", json.dumps({"group": f"{record} {number // 4}"}).encode()

    def held() -> set[bytes]:
        indexed = index(find_tars(str(tars), store), store, "tars")
        assert indexed is not None
        divided = hold_out(store, indexed.manifest, "20%", cache=tmp_path / "cache")
        stream = ShardStream(store, divided, HELD_OUT, batch_size=1, cache=tmp_path / "cache", shuffle=False)
        texts = {sample.fields["txt"] for batch in range(len(stream)) for sample in stream.batch(0, batch)}
        stream.close()
        return {text for text in texts if text.startswith(b"a")}

    (tars / "a.tar").write_bytes(tar(members("a", range(100))))
    first = held()
    (tars / on_top).write_bytes(tar(members("b", range(50, 90))))
    assert held() == first
    assert 5 < len(first) < 50


def test_a_key_that_begins_like_its_tar_stays_where_it_is_too(tmp_path: Path) -> None:
    store, tars = DirectoryStore(tmp_path / "store"), tmp_path / "store" / "x" / "a"
    tars.mkdir(parents=True)
    first, held = None, set[str]()
    for name in ("a.tar", "b.tar"):
        (tars / name).write_bytes(
            tar([(f"{start}{number}.txt", b"a") for start in ("x/a/a/", "a/", "") for number in range(30)])
        )
        indexed = index(find_tars(str(tars), store), store, "tars")
        assert indexed is not None
        divided = hold_out(store, indexed.manifest, "20%", cache=tmp_path / "cache")
        keys = keys_of(store, divided, HELD_OUT, tmp_path)
        held = {key.removeprefix("a/") for key in keys if not key.startswith("b/")} if first else {*keys}
        first = first or held
    assert held == first


@pytest.mark.parametrize("where", ["tars", "store/tars"])
def test_groups_of_external_tars_stay_together_and_samples_without_one_go_by_their_key(
    tmp_path: Path, where: str
) -> None:
    """Whole numbers are the same group in a tar where some samples have none, or text."""
    store, tars = DirectoryStore(tmp_path / "store"), tmp_path / where
    tars.mkdir(parents=True)

    def members(name: str) -> Iterator[tuple[str, bytes]]:
        for number in range(200):
            group = {"a": number // 10, "b": number // 10 or None, "c": f"{number // 10}", "d": number // 10 + 0.0}[
                name
            ]
            yield f"{name}{number:03d}.txt", b"same text"
            yield f"{name}{number:03d}.json", json.dumps({"group": group, "image_hash": "same"}).encode()

    for name in "abcd":
        (tars / f"{name}.tar").write_bytes(tar(members(name)))
    indexed = index(find_tars(str(tars), store), store, "tars")
    assert indexed is not None
    divided = hold_out(store, indexed.manifest, "30%", cache=tmp_path / "cache")
    held = [key for key in keys_of(store, divided, HELD_OUT, tmp_path) if key[:2] != "b0" or key >= "b010"]
    groups = {int(key[1:]) // 10 for key in held}
    assert len(held) == sum(40 if group else 30 for group in groups)
    assert 2 < len(groups) < 15


@pytest.mark.parametrize(
    "copies", [{"group": "video"}, {"image_hash": "ff", "image_hash_quality": 90}, {"minhash": b"same"}]
)
def test_samples_that_the_corpus_knows_as_belonging_together_stay_together(
    tmp_path: Path, copies: dict[str, object]
) -> None:
    samples = []
    for number in range(300):
        same = {name: f"{value}{number // 10}" if isinstance(value, str) else value for name, value in copies.items()}
        if "minhash" in copies:
            same["minhash"] = hashlib.sha256(b"%d" % (number // 10)).hexdigest()
        samples.append(Sample(f"s{number:03d}", {"txt": b"x"}, same))
    store = MemoryStore()
    manifest = corpora.version(store, tmp_path, {"train": samples}, per_shard=37)
    divided = hold_out(store, manifest, "30%", cache=tmp_path / "cache")
    held = keys_of(store, divided, HELD_OUT, tmp_path)
    groups = {int(key[1:]) // 10 for key in held}
    assert len(held) == 10 * len(groups)
    assert 3 < len(groups) < 20


def test_a_share_that_leaves_nothing_on_one_side_is_refused(tmp_path: Path) -> None:
    store = MemoryStore()
    manifest = corpora.version(store, tmp_path, {"train": texts(50, group="one video")})
    with pytest.raises(TrainingError, match=r"hold_out 1.0000% holds out none of the 50 samples of split 'train'"):
        hold_out(store, manifest, "1%", cache=tmp_path / "cache")
    with pytest.raises(TrainingError, match="holds out all of the 50 samples"):
        hold_out(store, manifest, "99.9%", cache=tmp_path / "cache")
    with pytest.raises(TrainingError, match="no samples in split 'test'"):
        hold_out(store, manifest, "10%", split="test", cache=tmp_path / "cache")


@pytest.mark.parametrize("share", ["0%", "100%", "-1%", "nan", "nan%", "a tenth", "", "10", 1, 0])
def test_what_is_no_share_is_refused(share: str | float) -> None:
    with pytest.raises(TrainingError, match=r"expected a share above 0 and below 1, such as 10% or 0.1"):
        share_of(share)


def test_a_state_of_another_share_is_refused_and_one_of_the_same_goes_on_with_other_ranks(tmp_path: Path) -> None:
    store = MemoryStore()
    manifest = corpora.version(store, tmp_path, {"train": texts(200)}, per_shard=30)

    def stream(share: str, *, rank: int = 0, world_size: int = 1) -> ShardStream:
        divided = hold_out(store, manifest, share, cache=tmp_path / "cache")
        return ShardStream(
            store, divided, batch_size=8, seed=3, rank=rank, world_size=world_size, cache=tmp_path / "cache"
        )

    whole = stream("10%")
    batches = [batch.keys for batch in whole]
    whole.close()
    first = stream("10%")
    assert [next(iter(first)).keys for _ in range(3)] == batches[:3]
    state = pickle.loads(pickle.dumps(first.state_dict()))
    ranks = [stream("10%", rank=rank, world_size=3) for rank in range(3)]
    for rank in ranks:
        rank.load_state_dict(state)
    rest = list(zip(*(Loader(rank, workers=2) for rank in ranks), strict=True))
    assert [[key for part in parts for key in part.keys] for parts in rest] == batches[3:]
    other = stream("20%")
    with pytest.raises(TrainingError, match=r"without 10.000000% of train.* without 20.000000% of train"):
        other.load_state_dict(state)
    for opened in (first, *ranks, other):
        opened.close()


def test_texts_are_streamed_without_what_is_held_out(tmp_path: Path) -> None:
    store = MemoryStore()
    samples = [Sample(f"t{number:03d}", {"txt": bytes([number])}, {}) for number in range(250)]
    manifest = corpora.version(store, tmp_path, {"train": samples}, per_shard=40)
    divided = hold_out(store, manifest, "20%", cache=tmp_path / "cache")
    seen = {}
    for split in ("train", HELD_OUT):
        stream = TextStream(store, divided, split, batch_size=1, window=4, last="pad", cache=tmp_path / "cache")
        seen[split] = sorted(int(token) for _, targets in stream for token in targets.ravel() if 0 <= token < 256)
        stream.close()
    assert sorted(seen["train"] + seen[HELD_OUT]) == list(range(250))
    assert len(seen[HELD_OUT]) == divided.splits[HELD_OUT].samples


def test_samples_without_what_a_model_needs_are_counted_with_keys_and_left_out(tmp_path: Path) -> None:
    store = MemoryStore()
    records: list[dict[str, object]] = [{"label": "a"}, {"label": None}, {}, {"label": " "}, {"label": "b"}]
    samples = [Sample(f"s{number}", {"txt": b"x"}, record) for number, record in enumerate(records)]
    samples.append(Sample("s5", {"bin": b"x"}, {"label": "c"}))
    manifest = corpora.version(store, tmp_path, {"train": samples, "test": samples[1:3]}, per_shard=2)
    needs = Needs(("txt",), "text", label=True)
    found = survey(store, manifest, needs, cache=tmp_path / "cache")
    assert found.labels == {"a", "b"}
    assert found.usable == {"train": 2, "test": 0}
    assert found.left_out == [
        {"split": "train", "reason": "no label", "samples": 3, "keys": ["s1", "s2", "s3"]},
        {"split": "train", "reason": "no text", "samples": 1, "keys": ["s5"]},
        {"split": "test", "reason": "no label", "samples": 2, "keys": ["s1", "s2"]},
    ]
    left = usable(store, manifest, "train", needs, left_out=found.left_out, cache=tmp_path / "cache")
    assert keys_of(store, left, "train", tmp_path) == ["s0", "s4"]
    assert replace(left, shards=manifest.shards) == manifest
    with pytest.raises(TrainingError, match="no sample of split 'test' can be used: each lacks text and label"):
        usable(store, manifest, "test", needs, left_out=found.left_out, cache=tmp_path / "cache")


def test_what_was_purged_is_no_sample_without_a_label_and_leaves_its_hole(tmp_path: Path) -> None:
    store, whole = sample_corpus(8)
    needs = Needs(("txt",), "text", label=True, labels=frozenset("012"))
    before = survey(store, whole, needs, cache=tmp_path / "cache")
    known = usable(store, whole, "train", needs, left_out=before.left_out, cache=tmp_path / "cache")
    forget(store, "numbers", [("key", "n0001")])
    purge(store, "numbers", scratch=tmp_path)
    purged = load_manifest(store, "numbers", 1)
    found = survey(store, purged, needs, cache=tmp_path / "cache")
    assert (found.left_out, found.usable) == (before.left_out, {"train": 5})
    left = usable(store, purged, "train", needs, left_out=found.left_out, cache=tmp_path / "cache")
    assert left.splits["train"].samples == known.splits["train"].samples == 6
    assert keys_of(store, left, "train", tmp_path) == ["n0000", "n0002", "n0004", "n0005", "n0006"]
