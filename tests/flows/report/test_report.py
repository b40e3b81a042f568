"""A version as plain data: what the terminal and the page both show."""

import io
import json
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from stoker.flows.cli.show_changes import print_difference
from stoker.flows.report.columns import histogram
from stoker.flows.report.difference import MetricChange, difference
from stoker.flows.report.format import paragraphs, visible, web_address
from stoker.flows.report.lineage import events_of
from stoker.flows.report.reasons import STAGES, stage_of
from stoker.flows.report.report import Report, report
from stoker.flows.report.samples import SampleReader
from stoker.pipelines.rejected import REASONS
from stoker.pipelines.stages.why import Lineage
from stoker.storage import open_store
from stoker.storage.shards import records
from stoker.storage.statistics.numbers import Quantiles
from stoker.storage.statistics.summary import summarise
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.versions.manifest import Manifest, load_manifest
from tests.flows.inspected_corpus import Shapes, make, make_all


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> MemoryStore:
    found = MemoryStore()
    make_all(found, tmp_path_factory.mktemp("made"))
    return found


@pytest.fixture(scope="module")
def manifest(store: MemoryStore) -> Manifest:
    return load_manifest(store, "shapes@2")


@pytest.fixture(scope="module")
def found(manifest: Manifest) -> Report:
    return report(manifest)


def test_the_funnel_loses_exactly_what_was_refused(found: Report) -> None:
    assert found.funnel[0].left == found.candidates == 80
    assert found.funnel[-1].left == found.samples == 64
    assert sum(stage.lost for stage in found.funnel) == sum(one.count for one in found.refused) == 16
    assert {one.reason: one.count for one in found.refused} == {"exact_duplicate": 8, "gone": 4, "robots": 4}


def test_every_reason_has_a_stage_and_a_meaning(found: Report) -> None:
    assert {stage_of(reason) for reason in REASONS} <= STAGES.keys()
    assert [stage_of(reason) for reason in ("bad_url", "outside", "empty", "unreadable")] == ["fetch"] * 2 + [
        "decode"
    ] * 2
    assert all(one.meaning for one in found.refused)
    assert {one.reason: str(one.outcome_class) for one in found.refused} == {
        "exact_duplicate": "recipe", "gone": "moment", "robots": "slow_moment"
    }  # fmt: skip


def test_splits_add_up(found: Report) -> None:
    assert sum(split.samples for split in found.splits) == found.samples
    assert sum(split.size for split in found.splits) == found.size
    assert sum(split.share for split in found.splits) == pytest.approx(1)


def test_values_are_counted_by_split(found: Report) -> None:
    labels = found.category("label")
    assert labels is not None
    assert sum(one.count for one in labels.values) == found.samples
    assert all(sum(one.splits.values()) == one.count for one in labels.values)


def test_the_report_is_json_and_holds_no_password(found: Report) -> None:
    text = json.dumps(found.to_json(), allow_nan=False)
    assert json.loads(text)["schema"] == 1
    assert "secret" not in text


def test_the_json_form_changes_only_on_purpose(found: Report) -> None:
    names = "candidates categories content corpus created_at distinct duplicates fields funnel holds indexed kinds"
    names += " known leaks licences loop masked missed moved nested next numbers omitted parent partitions passed"
    names += " raw_size recipe_digest reference refused rules samples schema shards size"
    names += " source splits steps stoker tars version view"
    assert sorted(found.to_json()) == names.split()


def test_an_image_corpus_and_a_text_corpus_are_told_apart(found: Report, store: MemoryStore) -> None:
    texts = report(load_manifest(store, "pages"))
    assert (found.holds, texts.holds) == ("images", "texts")
    assert "train cnn shapes@2" in found.next[0].command
    assert "train lstm pages@1" in texts.next[0].command


@given(st.lists(st.integers(-(10**6), 10**6) | st.floats(-1e9, 1e9), min_size=1, max_size=200))
def test_a_histogram_counts_every_value_once(values: list[float]) -> None:
    array = np.array(values, dtype=np.float64)
    low, high = float(array.min()), float(array.max())
    bins = histogram(Quantiles.of(array), low, high)
    assert sum(one.count for one in bins) == (len(values) if high > low else 0)
    assert all(one.count >= 0 for one in bins)


def test_small_whole_numbers_get_a_column_each() -> None:
    bins = histogram(Quantiles.of(np.array([0, 0, 3, 9])), 0, 9)
    assert [one.count for one in bins] == [2, 0, 0, 1, 0, 0, 0, 0, 0, 1]


@given(st.text())
def test_nothing_that_acts_is_left_in_shown_text(text: str) -> None:
    for shown, allowed in ((visible(text), ""), (paragraphs(text), "\n\t")):
        assert all(unicodedata.category(one) not in ("Cc", "Cs", "Zl", "Zp") or one in allowed for one in shown)
        assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    assert len(visible(text, most=10)) <= 10


@pytest.mark.parametrize(
    "value",
    ["javascript:alert(1)", "JAVASCRIPT:x", " https://a", "https://a\n", "data:text/html,x", "//a", "https:", 3],
)
def test_only_web_addresses_become_links(value: object) -> None:
    assert web_address(value) == ""


def test_the_python_loop_reads_the_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    made = make(open_store(str(tmp_path / "store")), tmp_path, Shapes(count=20), "shapes")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STOKER_STORE", str(tmp_path / "store"))
    exec(report(made).loop, {})
    lines = capsys.readouterr().out.splitlines()
    split = made.shards[0].split
    assert len(lines) == made.splits[split].samples
    assert all("CC0-1.0" in line for line in lines)


def test_a_difference_counts_what_was_added_and_reads_no_shared_shard(store: MemoryStore, manifest: Manifest) -> None:
    older = load_manifest(store, "shapes@1")
    read: list[str] = []
    reader = SampleReader(store)

    def index(shard):  # type: ignore[no-untyped-def]
        read.append(shard.index)
        return reader.index(shard)

    found = difference(older, manifest, store, read=index)
    shared = {shard.index_sha256 for shard in older.shards} & {shard.index_sha256 for shard in manifest.shards}
    assert (found.added, found.removed, found.changed, found.moved) == (16, 0, 0, 0)
    assert found.same == older.samples
    assert len(read) == len(older.shards) + len(manifest.shards) - 2 * len(shared)
    assert ("source.count", "60", "80") in [(one.name, one.a, one.b) for one in found.recipe]
    json.dumps(found.to_json(), allow_nan=False)


def test_a_version_does_not_differ_from_itself(store: MemoryStore, manifest: Manifest) -> None:
    found = difference(manifest, manifest, store)
    assert found.identical
    assert (found.same, found.shards_shared, found.statistics, found.recipe) == (64, len(manifest.shards), (), ())
    assert found.columns_added == found.columns_removed == ()


def test_a_difference_names_columns_that_records_gained_or_lost(store: MemoryStore, manifest: Manifest) -> None:
    statistics = json.loads(json.dumps(dict(manifest.statistics)))
    for summary in statistics.values():
        summary["columns"]["shade"] = summary["columns"].pop("width")
    other = replace(manifest, statistics=statistics)
    found, back = difference(manifest, other, store), difference(other, manifest, store)
    assert (found.columns_added, found.columns_removed) == (("shade",), ("width",))
    assert (back.columns_added, back.columns_removed) == (("width",), ("shade",))
    out = io.StringIO()
    print_difference(manifest, other, store, Console(file=out))
    assert out.getvalue().index("+ shade") < out.getvalue().index("- width")


def with_column(manifest: Manifest, values: pa.Array) -> Manifest:
    """The version with a column ``rating`` in its statistics."""
    column = summarise(pa.table({"rating": values})).columns["rating"].to_json()
    statistics = json.loads(json.dumps(dict(manifest.statistics)))
    for name, summary in statistics.items():
        if name == manifest.shards[0].split:
            summary["columns"]["rating"] = column
    return replace(manifest, statistics=statistics)


def test_a_difference_names_columns_of_another_type(store: MemoryStore, manifest: Manifest) -> None:
    numbers, texts = with_column(manifest, pa.array([1, 2, 3])), with_column(manifest, pa.array(["1", "2", "bad"]))
    [change] = difference(numbers, texts, store).columns_changed
    assert (change.name, change.a, change.b, change.value) == ("rating", "whole number", "text", "bad")
    out = io.StringIO()
    print_difference(numbers, texts, store, Console(file=out))
    assert "rating: whole number → text" in out.getvalue()
    assert difference(numbers, numbers, store).columns_changed == ()


def test_a_difference_tells_no_change_of_a_median_within_its_error(store: MemoryStore, manifest: Manifest) -> None:
    def changes(a: list[int], b: list[int]) -> list[MetricChange]:
        older, newer = (with_column(manifest, pa.array(values)) for values in (a, b))
        return [one for one in difference(older, newer, store).statistics if one.name == "rating, median"]

    assert changes([100, 201, 491, 802, 970], [100, 201, 489, 802, 970]) == []
    [far] = changes([100, 201, 491, 802, 970], [100, 201, 702, 802, 970])
    assert far.about
    [exact] = changes([1, 2, 3], [1, 1, 3])
    assert (exact.a, exact.b, exact.about) == (2, 1, False)


def test_the_same_samples_in_other_shards_are_not_told_to_have_the_same_records(
    store: MemoryStore, manifest: Manifest
) -> None:
    assert "byte for byte, in the same splits" in difference(manifest, manifest, store).sameness
    first = manifest.shards[0]
    rows = [row | {"caption": "another"} for row in records.decode(store.read(first.index)).to_pylist()]
    payload = records.encode(rows)
    store.write("shapes/other.parquet", payload)
    first = replace(first, index="shapes/other.parquet", index_sha256=records.sha256(payload))
    shards = (first, *manifest.shards[1:])
    changed = difference(manifest, replace(manifest, shards=shards), store)
    assert changed.identical
    assert "(captions, licences and the like)" in changed.sameness
    assert difference(load_manifest(store, "shapes@1"), manifest, store).sameness == ""


def test_a_difference_backwards_is_the_same_the_other_way(store: MemoryStore, manifest: Manifest) -> None:
    older = load_manifest(store, "shapes@1")
    there, back = difference(older, manifest, store), difference(manifest, older, store)
    assert (there.added, there.removed) == (back.removed, back.added)
    assert {one.key for one in there.examples["added"]} == {one.key for one in back.examples["removed"]}


def test_other_content_splits_and_labels_under_the_same_key_are_told(tmp_path: Path) -> None:
    from dataclasses import replace

    from stoker.flows.report.difference import ReadIndex
    from stoker.storage.shards.records import encode
    from stoker.storage.versions.manifest import Shard

    store = MemoryStore()
    older = make(store, tmp_path, Shapes(count=20), "shapes")
    newer = replace(
        older, version=2, shards=tuple(replace(shard, index_sha256="other" + shard.index) for shard in older.shards)
    )

    def read(shard: Shard):  # type: ignore[no-untyped-def]
        table = records.decode(store.read(shard.index))
        if not shard.index_sha256.startswith("other"):
            return table
        rows = table.to_pylist()
        for row in rows:
            row["label"] = "changed" if row["key"] == "shape-0" else row["label"]
            row["content_sha256"] = "0" if row["key"] == "shape-1" else row["content_sha256"]
        from stoker.storage.shards.records import decode

        return decode(encode(rows))

    reader: ReadIndex = read
    found = difference(older, newer, store, read=reader)
    assert (found.added, found.removed, found.changed, found.relabelled, found.moved) == (0, 0, 1, 1, 0)
    assert (found.examples["relabelled"][0].before, found.examples["relabelled"][0].after) == ("0", "changed")


def test_the_life_of_a_candidate_tells_where_redirects_led() -> None:
    lineage = Lineage(
        "a", "rejected", "corrupt", "", "image", "p", "d", "", "", "", None,
        {"url": "http://a.example/1", "fetched_at": "2026-01-02T03:04:05Z", "final_url": "http://b.example/2"},
    )  # fmt: skip
    assert any(event.text.endswith(", redirected to http://b.example/2") for event in events_of(lineage, {}))
    straight = replace(lineage, record=dict(lineage.record) | {"final_url": "http://a.example/1"})
    assert not any("redirected" in event.text for event in events_of(straight, {}))


def test_rules_of_one_name_and_the_order_of_rules_are_told_in_a_difference(
    manifest: Manifest, store: MemoryStore
) -> None:
    large: dict[str, object] = {"name": "where", "where": "width > 9", "reason": "small"}
    named: dict[str, object] = {"name": "where", "where": "label is not null", "reason": "unnamed"}
    caps: dict[str, object] = {"name": "caps", "by": "label", "most": 9}

    def told(before: list[dict[str, object]], after: list[dict[str, object]]) -> list[tuple[str, str, str]]:
        a, b = (replace(manifest, recipe={"corpus": "c", "rules": rules}) for rules in (before, after))
        return [(change.name, change.a, change.b) for change in difference(a, b, store).recipe]

    assert told([large, named], [large | {"where": "width > 10"}, named]) == [
        ("rules.where.where", "width > 9", "width > 10")
    ]
    assert told([large, named], [large]) == [
        ("rules.where 2.name", "where", ""),
        ("rules.where 2.where", "label is not null", ""),
        ("rules.where 2.reason", "unnamed", ""),
    ]
    assert told([large, caps], [caps, large]) == [("rules, order", "where, caps", "caps, where")]
    changes = told([large, caps], [caps, large, {"name": "exact_duplicates"}])
    assert ("rules, order", "where, caps", "caps, where, exact_duplicates") in changes
    assert told([large, caps], [large, caps]) == []
