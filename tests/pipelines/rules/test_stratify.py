"""The rule `stratify`: the shares hold in each class, groups stay whole, and nothing that was placed moves."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import pyarrow as pa
import pytest

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.rules.stratify import Stratify
from stoker.pipelines.stages.splits import split_of
from stoker.testing import decide

SPLITS = {"train": 80.0, "validation": 10.0, "test": 10.0}


def table(labels: Sequence[str | None], groups: list[str] | None = None, **more: object) -> pa.Table:
    keys = [f"k{place:04}" for place in range(len(labels))]
    groups = groups or keys
    splits = [split_of(group, SPLITS) for group in groups]
    return pa.table({"key": keys, "group": groups, "label": pa.array(labels, pa.string()), "split": splits} | more)


def splits_by(rows: pa.Table, column: str = "label", **options: bool) -> dict[str, Counter[str]]:
    moved = {one.key: one.value for one in decide(Stratify("label"), rows, splits=SPLITS, **options)}  # type: ignore[arg-type]  # flags
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows.to_pylist():
        counts[str(row[column])][moved.get(row["key"], row["split"])] += 1
    return counts


def test_each_class_has_its_share_in_each_split() -> None:
    labels = [f"class {place % 100}" for place in range(2000)]
    plain = table(labels)
    empty = sum(
        not any(s == "test" and x == f"class {c}" for s, x in zip(plain["split"].to_pylist(), labels, strict=True))
        for c in range(100)
    )
    assert empty > 5  # what the hash alone does
    assert all(count == {"train": 16, "validation": 2, "test": 2} for count in splits_by(plain).values())


def test_classes_too_small_to_be_shared_out_make_up_for_each_other() -> None:
    counts = splits_by(table([f"class {place % 200}" for place in range(600)]))
    total = sum(counts.values(), Counter())
    assert total == {"train": 480, "validation": 60, "test": 60}
    assert min(count["train"] for count in counts.values()) >= 1


def test_a_group_is_never_divided_and_counts_for_its_oldest_label() -> None:
    labels: list[str | None] = [None if place % 4 == 0 else f"class {place // 4 % 5}" for place in range(800)]
    rows = table(labels, [f"page {place // 4}" for place in range(800)])
    by_group = splits_by(rows, "group")
    assert all(len(count) == 1 for count in by_group.values())
    for label, count in splits_by(rows).items():
        if label != "None":
            assert count == {"train": 96, "validation": 12, "test": 12}


def test_elders_and_their_groups_stay_and_count() -> None:
    labels: list[str | None] = ["cat"] * 100
    elders = [place < 50 for place in range(100)]
    groups = [f"g{place}" if place != 99 else "g0" for place in range(100)]
    rows = table(labels, groups, is_elder=elders).set_column(
        3, "split", [["test"] * 50 + [split_of(g, SPLITS) for g in groups[50:99]] + ["test"]]
    )
    moved = {one.key: one.value for one in decide(Stratify("label"), rows, splits=SPLITS, elders_stay=True)}
    assert not any(key <= "k0049" or key == "k0099" for key in moved)
    counts = splits_by(rows, elders_stay=True)["cat"]
    assert 53 <= counts["test"] <= 56
    assert 38 <= counts["train"] <= 42
    assert 5 <= counts["validation"] <= 7


def test_one_new_sample_a_run_fills_all_splits_in_time() -> None:
    splits: list[str] = []
    for run in range(60):
        rows = table(["cat"] * (run + 1), is_elder=[place < run for place in range(run + 1)])
        new = split_of(f"k{run:04}", SPLITS)
        rows = rows.set_column(3, "split", [[*splits, new]])
        moved = {one.key: one.value for one in decide(Stratify("label"), rows, splits=SPLITS, elders_stay=True)}
        splits.append(moved.get(f"k{run:04}", new))
    assert 45 <= splits.count("train") <= 50
    assert min(splits.count("validation"), splits.count("test")) >= 4


def test_the_order_of_the_source_does_not_matter() -> None:
    rows = table([f"class {place % 7}" for place in range(300)])
    found = {(one.key, one.value) for one in decide(Stratify("label"), rows, splits=SPLITS)}
    turned = rows.take(list(range(299, -1, -1)))
    assert {(one.key, one.value) for one in decide(Stratify("label"), turned, splits=SPLITS)} == found


def test_a_column_that_no_record_has_is_an_error() -> None:
    with pytest.raises(RecipeError, match="no column 'lable'"):
        decide(Stratify("lable"), table(["a"]))
