"""The most frequent values of a version: those that are, however many there are and however shards are grouped."""

import json
import random
from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pytest

from stoker.flows.report.columns import read_columns
from stoker.storage.errors import CorruptShard
from stoker.storage.shards import records
from stoker.storage.statistics.categories import Categories
from stoker.storage.statistics.summary import Summary, summarise
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.versions.manifest import Shard
from stoker.storage.versions.top_values import with_one_kind, with_top_values

LONG = "the collective of all who ever wrote a line here, " * 4


def samples(seed: int) -> list[tuple[str, str, str]]:
    """(split, label, author): thousands of labels, of which few have many samples; one author has half of them."""
    dice = random.Random(seed)
    labels = [f"rare {number}" for number in range(3_000)] + ["large"] * 700 + ["second"] * 300 + [LONG] * 500
    dice.shuffle(labels)
    authors = ["prolific", *(f"author {number}" for number in range(700))]
    return [
        (dice.choice(["train", "train", "test"]), label, authors[0] if row % 2 else dice.choice(authors))
        for row, label in enumerate(labels)
    ]


def stored(rows: list[tuple[str, str, str]], store: MemoryStore, cuts: int) -> tuple[list[Shard], dict[str, Summary]]:
    """The rows as the indexes of so many shards a split, and their merged statistics as read from JSON."""
    shards = []
    statistics = {split: Summary.empty() for split in ("train", "test")}
    for split in statistics:
        in_split = [row for row in rows if row[0] == split]
        for cut in range(cuts):
            part = in_split[cut::cuts]
            table = pa.table({"label": [label for _, label, _ in part], "author": [author for *_, author in part]})
            payload = records.encode(table)
            key = f"{split}-{cut}-of-{cuts}.parquet"
            store.write(key, payload)
            shards.append(
                Shard(f"{key}.tar", split, len(part), 1, "", key, len(payload), records.sha256(payload), "group")
            )
            statistics[split] = statistics[split].merge(summarise(table))
    return shards, {
        split: Summary.from_json(json.loads(json.dumps(one.to_json()))) for split, one in statistics.items()
    }


def listed(statistics: dict[str, Summary], column: str) -> tuple[dict[str, int], int, bool]:
    content = {split: json.loads(json.dumps(summary.to_json())) for split, summary in statistics.items()}
    columns = read_columns(content).categories
    [shown] = [one for one in columns if one.column == column]
    for value in shown.values:
        assert value.count == sum(value.splits.values())
    return {value.value: value.count for value in shown.values}, shown.others, shown.most_frequent


def test_the_most_frequent_of_many_values_are_listed_with_their_counts() -> None:
    store = MemoryStore()
    rows = samples(0)
    shards, statistics = stored(rows, store, 3)
    before, _, was_most_frequent = listed(statistics, "label")
    assert not was_most_frequent
    assert LONG not in before
    top = with_top_values(statistics, shards, store)
    labels, others, most_frequent = listed(top, "label")
    assert most_frequent
    assert list(labels.items())[:3] == [("large", 700), (LONG, 500), ("second", 300)]
    assert sum(labels.values()) + others == len(rows)
    exact = Counter((split, label) for split, label, _ in rows)
    for split, summary in top.items():
        categories = summary.columns["label"].categories
        assert categories is not None
        assert all(exact[split, label] == count for label, count in categories.counts.items())
        assert sum(categories.counts.values()) + categories.others == sum(row[0] == split for row in rows)


def test_the_lists_do_not_depend_on_how_samples_are_grouped() -> None:
    store, rows = MemoryStore(), samples(1)
    made = []
    for cuts in (1, 5):
        random.Random(cuts).shuffle(rows)
        shards, statistics = stored(rows, store, cuts)
        top = with_top_values(statistics, shards[::-1], store)
        made.append({split: json.dumps(summary.to_json()) for split, summary in top.items()})
    assert made[0] == made[1]


def test_columns_with_few_values_and_texts_of_single_samples_cost_no_reading() -> None:
    rows = [("train", f"class {row % 3}", f"remark {row}") for row in range(3_000)]
    shards, statistics = stored(rows, MemoryStore(), 1)
    assert with_top_values(statistics, shards, MemoryStore()) == statistics


def test_a_damaged_index_is_told() -> None:
    store = MemoryStore()
    shards, statistics = stored(samples(2), store, 2)
    with pytest.raises(CorruptShard):
        with_top_values(statistics, [replace(shards[0], index_sha256="0" * 64), *shards[1:]], store)


def test_lists_of_splits_merge_and_those_of_versions_before_stay_samples() -> None:
    one, two = Categories({"a": 2}, 5, most_frequent=True), Categories({"a": 1, "b": 4}, 1, most_frequent=True)
    assert one.merge(two) == two.merge(one) == Categories({"a": 3, "b": 4}, 6, most_frequent=True)
    assert one.merge(Categories({"a": 1}, 0)) == Categories({"a": 3}, 5)
    assert Categories.from_json(one.to_json()) == one
    assert Categories.of({f"{number}": 1 for number in range(2_000)}).is_sample
    assert not Categories.of({"x" * 200: 1, "y": 2}).is_sample


def test_a_column_of_numbers_in_some_groups_and_text_in_others_is_text() -> None:
    values: list[object] = [1, 2, 2, None, "x", "2", 3]
    made = []
    for cut in (0, 1, 3, 5):
        store, summary = MemoryStore(), Summary.empty()
        shards: list[Shard] = []
        for part in (values[:cut], values[cut:]):
            payload = records.encode([{"key": f"{number}", "score": value} for number, value in enumerate(part)])
            key = f"{len(shards)}.parquet"
            store.write(key, payload)
            shards.append(Shard(key, "train", len(part), 1, "", key, len(payload), records.sha256(payload), "group"))
            summary = summary.merge(summarise(records.decode(payload)))
        made.append(with_one_kind({"train": summary}, shards, store)["train"].columns["score"])
    assert made == made[:1] * 4
    assert made[0].kind == "category"
    assert made[0].categories == Categories({"1": 1, "2": 3, "3": 1, "x": 1})
    assert (made[0].count, made[0].nulls) == (6, 1)
