"""A skipped sample counts once: in each epoch, at each URL of its store, and after a state of an older release."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from stoker.storage import open_store
from stoker.storage.shards.sample import Sample
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Manifest
from stoker.training import MixedStream, ShardStream, hold_out
from stoker.training.errors import CorruptSample
from stoker.training.reading.samples import Samples
from stoker.training.stream.skipped import SkippedSamples
from tests.training import corpora

BAD = {"s003", "s011", "s012"}


def make(samples: Samples, draws: object) -> list[str]:
    for index, key in enumerate(samples.keys):
        if key in BAD:
            raise CorruptSample(index, f"{key} is bad")
    return samples.keys


def stream(store: Store, manifest: Manifest, folder: Path, **options: Any) -> ShardStream:
    return ShardStream(
        store, manifest, batch_size=4, cache=folder / "cache", make=make, on_corrupt="skip", skip_budget=3, **options
    )


@pytest.fixture
def corpus(tmp_path: Path) -> tuple[Store, Manifest]:
    store = open_store(str(tmp_path / "store"))
    samples = [Sample(f"s{number:03d}", {"txt": b"x%d" % number}, {}) for number in range(20)]
    return store, corpora.version(store, tmp_path, {"train": samples}, per_shard=6)


def read(opened: ShardStream | MixedStream) -> dict[str, Any]:
    try:
        assert sum(len(batch) for batch in opened) % 17 == 0
        return opened.state_dict()
    finally:
        opened.close()


def test_a_store_at_another_url_counts_nothing_again(corpus: tuple[Store, Manifest], tmp_path: Path) -> None:
    store, manifest = corpus
    state = read(stream(store, manifest, tmp_path))
    assert sum(len(rows) for rows in state["skipped"].values()) == 3
    shutil.copytree(tmp_path / "store", tmp_path / "elsewhere" / "copy")
    (tmp_path / "link").symlink_to(tmp_path / "store")
    for url in (tmp_path / "elsewhere" / "copy", (tmp_path / "store").as_uri(), tmp_path / "link"):
        again = stream(open_store(str(url)), manifest, tmp_path)
        again.load_state_dict(state)
        assert read(again)["skipped"] == state["skipped"]
        assert again.counters.sums().get("skipped", 0) == 0


def test_states_of_older_releases_name_shards_by_their_urls(corpus: tuple[Store, Manifest], tmp_path: Path) -> None:
    store, manifest = corpus
    state = read(stream(store, manifest, tmp_path))
    keys = {shard.sha256: shard.key for shard in manifest.shards}
    for root in (store.url, "s3://elsewhere/prefix"):
        old = {**state, "skipped": {f"{root}/{keys[sha256]}": rows for sha256, rows in state["skipped"].items()}}
        again = stream(store, manifest, tmp_path)
        again.load_state_dict(old)
        assert read(again)["skipped"] == state["skipped"]
        mixed = MixedStream(
            {"one": stream(store, manifest, tmp_path)}, batch_size=4, make=make, on_corrupt="skip", skip_budget=3
        )
        mixed.load_state_dict({**mixed.state_dict(), "skipped": old["skipped"]})
        assert read(mixed)["skipped"] == state["skipped"]


def test_a_url_that_no_shard_has_is_kept() -> None:
    skipped = SkippedSamples()
    skipped.load({"skipped": {"s3://gone/a.tar": [1], "s3://b/x.tar": [2]}}, [("s3://c/x.tar", "x.tar", "0" * 64)])
    assert skipped.state() == {"s3://gone/a.tar": [1], "0" * 64: [2]}


def test_a_part_of_a_split_counts_the_numbers_that_samples_have_in_their_tars(
    corpus: tuple[Store, Manifest], tmp_path: Path
) -> None:
    store, manifest = corpus
    whole = read(stream(store, manifest, tmp_path))["skipped"]
    divided = hold_out(store, manifest, "40%", cache=tmp_path / "cache")
    found = set()
    for split in ("train", "held_out"):
        part = stream(store, divided, tmp_path, split=split)
        list(part)
        found |= {(sha256, row) for sha256, rows in part.skipped.state().items() for row in rows}
        part.close()
    assert found == {(sha256, row) for sha256, rows in whole.items() for row in rows}
