"""What a manifest says of the whole version is counted again: every altered field is found."""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from stoker.storage.errors import CorruptShard
from stoker.storage.shards import records
from stoker.storage.statistics.summary import Summary, summarise
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.verification.recount import Recount
from stoker.storage.verification.verify import verify
from stoker.storage.versions import layout
from stoker.storage.versions.listed import lists
from stoker.storage.versions.manifest import Shard, load_manifest
from stoker.storage.versions.sealed import seal
from stoker.storage.versions.top_values import with_one_kind, with_top_values
from tests.storage.published import CORPUS, make_version, old_json

Change = Callable[[dict[str, Any]], object]
CHANGES: dict[str, Change] = {
    "licences": lambda content: content.update(licences={"CC0-1.0": 4, "unknown": 7}),
    "names of licences": lambda content: content["licences"].update({"CC1-1.0": content["licences"].pop("CC0-1.0")}),
    "content": lambda content: content.update(content="0" * 32),
    "parent": lambda content: content.update(parent=5),
    "no parent": lambda content: content.update(parent=None),
    "created_at, later": lambda content: content.update(created_at="2126-01-02T03:04:05+00:00"),
    "created_at, earlier": lambda content: content.update(created_at="2025-01-02T03:04:05+00:00"),
    "created_at, no time": lambda content: content.update(created_at="yesterday"),
    "group": lambda content: content["shards"][1].update(group="e" * 32),
    "count of a category": lambda content: (
        _column(content, "label")["categories"]["counts"].update(a=9)
        if "counts" in _column(content, "label")["categories"]
        else _column(content, "label").update(count=7)
    ),
    "minimum": lambda content: _column(content, "size")["moments"].update(minimum=3),
    "mean": lambda content: _column(content, "size")["moments"].update(mean=3.5),
    "nulls": lambda content: _column(content, "size").update(nulls=1),
    "a column": lambda content: content["statistics"]["train"]["columns"].pop("label"),
    "another column": lambda content: content["statistics"]["train"]["columns"].update(more=_column(content, "label")),
    "a split": lambda content: content["statistics"].pop("validation"),
}


def _column(content: dict[str, Any], name: str) -> dict[str, Any]:
    column: dict[str, Any] = content["statistics"]["train"]["columns"][name]
    return column


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    make_version(store, 1)
    make_version(store, 2)
    return store


def altered(store: MemoryStore, change: Change, *, old: bool) -> None:
    """The second version, altered, its checksum right; ``old``: in the JSON of earlier releases, which has none."""
    key = layout.version(CORPUS, 2)
    content = old_json(load_manifest(store, CORPUS, 2))
    if old:
        change(content)
    else:
        head = json.loads(store.read(key))
        head.pop("checksum", None)
        content["content"] = head["content"]
        change(content)
        head |= {name: content[name] for name in head.keys() & content.keys() - {"schema", "tars"}}
        statistics = [{"split": split, "summary": summary} for split, summary in content["statistics"].items()]
        for kind, rows in (
            (lists.SHARDS, [{"masked": 0, **shard} for shard in content["shards"]]),
            (lists.STATISTICS, statistics),
        ):
            file, payload = lists.encode_list(CORPUS, kind, rows)
            store.write(file.key, payload)
            head["lists"][kind] = asdict(file)
        content = head
    store.write(key, json.dumps(content).encode() if old else seal(content))


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("name", CHANGES)
def test_an_altered_field_is_found_where_no_checksum_tells_it(store: MemoryStore, name: str, old: bool) -> None:
    assert verify(store, load_manifest(store, CORPUS, 2)).problems == ()
    altered(store, lambda content: None, old=old)
    assert verify(store, load_manifest(store, CORPUS, 2)).problems == ()
    altered(store, CHANGES[name], old=old)
    with suppress(CorruptShard):  # what names tell is found when the manifest is read
        assert verify(store, load_manifest(store, CORPUS, 2)).problems != ()
    assert verify(store, load_manifest(store, CORPUS, 1)).problems == ()


HEAD: dict[str, Change] = {
    **{name: CHANGES[name] for name in ("licences", "content", "parent", "created_at, later")},
    "recipe": lambda content: content["recipe"].update(corpus="digitz"),
    "recipe_digest": lambda content: content.update(recipe_digest="s" * 64),
    "stoker": lambda content: content.update(stoker="0.2.0"),
    "samples": lambda content: content["totals"]["splits"][0].update(samples=9),
    "candidates": lambda content: content["totals"]["candidates"].update(read=17),
    "rejected": lambda content: content["totals"]["candidates"]["rejected"].update(gone=3),
    "a list": lambda content: content["lists"]["shards"].update(rows=4),
}
TOTALS = ("samples", "candidates", "rejected")


@pytest.mark.parametrize("name", TOTALS)
def test_wrong_totals_are_found_where_the_checksum_is_right(store: MemoryStore, name: str) -> None:
    key = layout.version(CORPUS, 2)
    content = json.loads(store.read(key))
    del content["checksum"]
    HEAD[name](content)
    store.write(key, seal(content))
    assert verify(store, load_manifest(store, CORPUS, 2)).problems != ()


@pytest.mark.parametrize("name", HEAD)
def test_any_altered_field_is_found_by_the_manifests_checksum(store: MemoryStore, name: str) -> None:
    key = layout.version(CORPUS, 2)
    content = json.loads(store.read(key))
    HEAD[name](content)
    store.write(key, json.dumps(content).encode())
    with pytest.raises(CorruptShard, match=r"00000002\.json: it differs from its own checksum"):
        load_manifest(store, CORPUS, 2)


@pytest.mark.parametrize("release", ["this one", "before"])
def test_counted_top_values_and_columns_of_one_kind_are_no_problems(release: str) -> None:
    store, summary, recount = MemoryStore(), Summary.empty(), Recount()
    shards: list[Shard] = []
    for number in range(2):
        rows = 4000
        table = pa.table(
            {
                "key": [f"{number}-{row}" for row in range(rows)],
                "label": [f"label-{row * 7 % 1999}" for row in range(rows)],
                "mixed": pa.array(list(range(rows)) if number else [f"text-{row % 5}" for row in range(rows)]),
            }
        )
        payload = records.encode(table)
        key = f"c/shards/{number}.parquet"
        store.write(key, payload)
        sha256 = hashlib.sha256(payload).hexdigest()
        shards.append(Shard(f"{key}.tar", "train", rows, 1, "0" * 64, key, len(payload), sha256, "group"))
        decoded = records.decode(payload)
        summary = summary.merge(summarise(decoded))
        recount.add("train", decoded)
    published = {"train": summary}
    if release == "this one":
        published = with_top_values(with_one_kind(published, shards, store), shards, store)
        categories = published["train"].columns["label"].categories
        assert categories is not None
        assert categories.most_frequent
    stated = {split: one.to_json() for split, one in published.items()}
    manifest = SimpleNamespace(statistics=stated, licences=dict(recount.licences), shards=shards)
    assert list(recount.problems(manifest, store)) == []  # type: ignore[arg-type]  # what is looked at of a manifest
    stated["train"]["columns"]["label"]["count"] = 1
    assert len(list(recount.problems(manifest, store))) == 1  # type: ignore[arg-type]  # as above
