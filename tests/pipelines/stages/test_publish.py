"""The road from a recipe to a version, on a store in memory: what is promised of it."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.partition import Partition
from stoker.pipelines.recipe import Recipe, Sharding, parse
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.rules.exact_duplicates import ExactDuplicates
from stoker.pipelines.source import Candidate, Context, Source
from stoker.pipelines.stages.ingest import IngestStopped, ingest_partition, plan
from stoker.pipelines.stages.publish import Published, ingest
from stoker.pipelines.stages.why import find_lineages
from stoker.storage.errors import StorageUnavailable
from stoker.storage.shards import records
from stoker.storage.shards.sample import Sample
from stoker.storage.shards.shard import iter_samples
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.verification.verify import verify
from stoker.storage.versions import catalog
from stoker.storage.versions.manifest import Manifest
from tests.fakes import READS, Failing, context, recipe

WORDS = (*(f"word-{number}" for number in range(60)), "!gone", "!robots")


def run(made: Recipe, store: MemoryStore, folder: Path) -> Published:
    return ingest(made, store, context(folder))


def shas(manifest: Manifest) -> list[tuple[str, str, str]]:
    return [(shard.key, shard.sha256, shard.index_sha256) for shard in manifest.shards]


def keys(store: MemoryStore, manifest: Manifest) -> list[str]:
    return [sample.key for shard in manifest.shards for sample in iter_samples(store.read(shard.key))]


def test_two_undisturbed_runs_give_the_same_bytes_whatever_the_clock_says(tmp_path: Path) -> None:
    first = run(recipe(WORDS), MemoryStore(), tmp_path).manifest
    later = recipe(WORDS)
    other = MemoryStore()
    for partition in plan(later, context(tmp_path)):
        ingest_partition(later, partition, other, context(tmp_path))
    second = run(later, other, tmp_path).manifest
    assert shas(first) == shas(second)


def test_the_clock_is_in_the_raw_records_and_not_in_the_shards(tmp_path: Path) -> None:
    store = MemoryStore()
    manifest = run(recipe(WORDS, clock="2026-02-03T04:05:06+00:00"), store, tmp_path).manifest
    assert "fetched_at" in records.decode(store.read(manifest.parts[0].records)).column_names
    assert all(b"2026-02-03" not in store.read(shard.key) for shard in manifest.shards)
    assert all("fetched_at" not in records.decode(store.read(shard.index)).column_names for shard in manifest.shards)


def test_a_second_run_reads_nothing_and_publishes_nothing(tmp_path: Path) -> None:
    store = MemoryStore()
    first = run(recipe(WORDS), store, tmp_path)
    READS.clear()
    second = run(recipe(WORDS), store, tmp_path)
    assert (READS, second.new, second.manifest) == ([], False, first.manifest)


def test_every_sample_is_there_once_and_every_reject_is_counted(tmp_path: Path) -> None:
    store = MemoryStore()
    manifest = run(recipe(WORDS), store, tmp_path).manifest
    assert sorted(keys(store, manifest)) == sorted(word for word in WORDS if not word.startswith("!"))
    assert manifest.rejected == {"gone": 1, "robots": 1}
    assert all(part.read == part.kept + sum(part.rejected.values()) for part in manifest.parts)
    assert verify(store, manifest).problems == ()


def test_a_sample_added_in_the_middle_leaves_most_parts_and_groups_as_they_are(tmp_path: Path) -> None:
    words = tuple(f"w{number}" for number in range(300))
    store = MemoryStore()
    before = run(recipe(words), store, tmp_path).manifest
    READS.clear()
    after = run(recipe((*words[:150], "new", *words[150:])), store, tmp_path).manifest
    assert len(READS) <= 2
    assert len(set(shas(before)) & set(shas(after))) > len(shas(before)) * 2 / 3
    assert sorted(keys(store, after)) == sorted([*words, "new"])


def test_no_sample_changes_its_split_when_the_corpus_grows(tmp_path: Path) -> None:
    words = tuple(f"w{number}" for number in range(100))
    store = MemoryStore()
    splits = []
    for made in (recipe(words[:60]), recipe(words)):
        manifest = run(made, store, tmp_path).manifest
        found: dict[str, str] = {}
        for shard in manifest.shards:
            found |= dict.fromkeys(records.decode(store.read(shard.index))["key"].to_pylist(), shard.split)
        splits.append(found)
    assert len(splits[0]) == 60
    assert splits[0].items() <= splits[1].items()


@settings(max_examples=60, deadline=None)
@given(
    words=st.lists(st.sampled_from([*"abcdefgh", "!gone", "!robots", "x=1", "y=2"]), min_size=1, max_size=40),
    target=st.integers(1, 9),
)
def test_read_equals_kept_plus_rejected_for_any_source(
    words: list[str], target: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any")
    made, store = recipe(tuple(words), target=target), MemoryStore()
    parts = [ingest_partition(made, one, store, context(folder)).part for one in plan(made, context(folder))]
    assert sum(part.read for part in parts) == len(words)
    assert all(part.read == part.kept + sum(part.rejected.values()) for part in parts)


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.nightly), 5])
@pytest.mark.parametrize("after", [False, True], ids=["before the write", "after it, the answer lost"])
def test_a_run_that_fails_at_any_write_is_finished_by_the_next_one_with_the_same_bytes(
    tmp_path: Path, after: bool, step: int
) -> None:
    calm = Failing()
    expected = run(recipe(WORDS), calm, tmp_path).manifest
    writes = 10**9 - calm.left
    assert writes > 30
    for place in range(writes, 0, -step):
        store = Failing(left=place, after=after)
        with pytest.raises(StorageUnavailable):
            run(recipe(WORDS), store, tmp_path)
        READS.clear()
        again = run(recipe(WORDS), store, tmp_path).manifest
        assert shas(again) == shas(expected)
        assert len(READS) == len(set(READS)) <= len(expected.parts)
        assert catalog.versions(store, "words") == [1]


def test_a_run_that_is_stopped_keeps_what_was_finished(tmp_path: Path) -> None:
    store, asked = MemoryStore(), iter(range(1000))
    with pytest.raises(IngestStopped, match="resumes"):
        ingest(recipe(WORDS), store, context(tmp_path), stop=lambda: next(asked) > 30)
    done = len(
        {key.split("/")[2] for key in (one.key for one in store.list("words/raw/")) if key.endswith("part.json")}
    )
    READS.clear()
    manifest = run(recipe(WORDS), store, tmp_path).manifest
    assert 0 < done == len(manifest.parts) - len(READS)


def test_two_ingests_of_one_recipe_at_once_end_in_one_version(tmp_path: Path) -> None:
    store = MemoryStore()
    ended = race([recipe(WORDS)] * 4, store, tmp_path)
    assert catalog.versions(store, "words") == [1]
    assert [one.new for one in ended].count(True) == 1


def test_ingests_of_different_recipes_at_once_get_consecutive_versions(tmp_path: Path) -> None:
    store = MemoryStore()
    ended = race([recipe(WORDS[: 20 + number]) for number in range(6)], store, tmp_path)
    assert catalog.versions(store, "words") == [1, 2, 3, 4, 5, 6]
    assert all(one.new for one in ended)
    for one in ended:
        found = keys(store, one.manifest)
        assert len(found) == len(set(found)) == one.manifest.samples
        assert verify(store, one.manifest).problems == ()


def race(recipes: list[Recipe], store: MemoryStore, folder: Path) -> list[Published]:
    ended: list[Published] = []
    start = threading.Barrier(len(recipes))

    def one(made: Recipe) -> None:
        start.wait()
        ended.append(run(made, store, folder))

    threads = [threading.Thread(target=one, args=(made,)) for made in recipes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ended) == len(recipes)
    return ended


def test_the_same_key_in_two_partitions_is_kept_once_and_the_other_counted(tmp_path: Path) -> None:
    store = MemoryStore()
    words = (*(f"w{number}" for number in range(40)), "w0")
    manifest = run(recipe(words), store, tmp_path).manifest
    assert manifest.samples == 40
    assert manifest.rejected == {"duplicate_key": 1}


def test_the_same_content_under_two_labels_is_kept_under_neither(tmp_path: Path) -> None:
    from stoker.storage.shards.sample import Sample  # the fake source gives every word its own content

    store = MemoryStore()

    class Same(type(recipe(WORDS).source)):  # type: ignore[misc]  # a source made for this test alone
        def read(self, partition, where):  # type: ignore[no-untyped-def]
            for candidate in super().read(partition, where):
                one = candidate.sample
                yield type(candidate)(Sample(one.key, {"txt": one.fields["txt"][:1]}, one.record, one.measures))

    made = recipe(WORDS)
    words = ("a1=x", "a2=x", "b1=x", "b2=y", "b3=x", "c=z")
    object.__setattr__(made, "source", Same(words))
    object.__setattr__(made, "rules", (ExactDuplicates(),))
    manifest = run(made, store, tmp_path).manifest
    assert sorted(keys(store, manifest)) == ["a1", "c"]
    assert manifest.rejected == {"exact_duplicate": 1, "label_conflict": 3}
    dropped = find_lineages(store, manifest, "a2")[0]
    assert (dropped.state, dropped.reason, dropped.rejected_by, dropped.duplicate_of) == (
        "dropped",
        "exact_duplicate",
        "exact_duplicates",
        "a1",
    )


def test_why_tells_of_kept_and_rejected_candidates_by_key_and_url(tmp_path: Path) -> None:
    store = MemoryStore()
    manifest = run(recipe(WORDS), store, tmp_path).manifest
    kept = find_lineages(store, manifest, "word:word-3")[0]
    assert (kept.state, kept.key, kept.record["licence"]) == ("kept", "word-3", "CC0-1.0")
    assert kept.shard in {shard.key for shard in manifest.shards if shard.split == kept.split}
    rejected = find_lineages(store, manifest, "gone")[0]
    assert (rejected.state, rejected.reason, rejected.rejected_by) == ("rejected", "gone", "fakes")
    assert find_lineages(store, manifest, "never-seen") == []


def test_a_version_with_too_many_rejects_is_not_published(tmp_path: Path) -> None:
    store = MemoryStore()
    words = ("good", *("!gone",) * 20)
    with pytest.raises(RecipeError, match=r"20 of 21 candidates rejected \(gone 20\)"):
        run(recipe(words), store, tmp_path)
    assert catalog.versions(store, "words") == []


def test_the_setting_that_rejected_nearly_all_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"\(private_address 20\).*private_address: .*STOKER_ALLOW_PRIVATE"):
        run(recipe(("good", *("!private_address",) * 20)), MemoryStore(), tmp_path)
    with pytest.raises(RecipeError, match=r"\(private_address 2\).*private_address: .*STOKER_ALLOW_PRIVATE"):
        run(recipe(("!private_address",) * 2), MemoryStore(), tmp_path)


def test_reasons_are_short_lower_case_words() -> None:
    with pytest.raises(ValueError, match="lower_snake"):
        Rejected("Not Good")


@pytest.mark.parametrize("limit", [0, 100])
def test_where_nothing_is_published_the_error_says_how_to_see_what_was_rejected(tmp_path: Path, limit: int) -> None:
    (tmp_path / "a.txt").write_text("")
    document = {
        "corpus": "words",
        "source": {"name": "local_files", "files": "*.txt"},
        "limits": {"rejected_percent": limit},
    }
    made = parse(document, root=tmp_path)
    with pytest.raises(RecipeError, match=r"nothing was published.*stoker check RECIPE --sample 20"):
        ingest(made, MemoryStore(), context(tmp_path))


@dataclass(frozen=True)
class Tables(Source):
    """A partition a name, whose samples have the column ``x`` with the values given there."""

    values: tuple[tuple[Any, ...], ...]

    planning: ClassVar[frozenset[str]] = frozenset({"values"})

    def partitions(self, context: Context) -> Iterator[Partition]:
        for number, values in enumerate(self.values):
            yield Partition(f"p{number}", {"number": number, "values": list(values)})

    def read(self, partition: Partition, context: Context) -> Iterator[Candidate]:
        for row, value in enumerate(partition.payload["values"]):
            key = f"k{partition.payload['number']}_{row}"
            yield Candidate(Sample(key, {"txt": key.encode()}, {"x": value, "y": None}))


NULLS, INTEGERS, FLOATS, TEXTS = (None, None), (1, None), (0.5, 2.0), ("a", None)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ((NULLS, INTEGERS), "int64"),
        ((INTEGERS, NULLS, FLOATS), "double"),
        ((NULLS, INTEGERS, TEXTS), "string"),
        ((NULLS, (True, None)), "bool"),
        ((NULLS, NULLS), "string"),
        ((NULLS, (True, False), INTEGERS), "string"),
        (((2**60 + 1,), FLOATS), "string"),
        ((([1],), NULLS, INTEGERS), "string"),
    ],
)
@pytest.mark.parametrize("partitions", [1, 2, 16])
def test_a_column_has_one_type_in_all_indexes_of_a_version(
    tmp_path: Path, values: tuple[tuple[Any, ...], ...], kind: str, partitions: int
) -> None:
    store = MemoryStore()

    def published(tables: tuple[tuple[Any, ...], ...]) -> Published:
        shards = Sharding(samples=1, partitions=partitions)
        source = Tables(tables)
        return run(replace(recipe(()), source=source, shards=shards, splits={"train": 100}), store, tmp_path)

    first = published(values[:1])
    whole = published(values)
    types = {str(records.decode(store.read(shard.index)).schema.field("x").type) for shard in whole.manifest.shards}
    assert types == {kind}
    assert verify(store, whole.manifest).problems == verify(store, first.manifest).problems == ()
    again = published(values)
    assert (again.new, again.manifest) == (False, whole.manifest)


@dataclass(frozen=True)
class Ratings(Source):
    """Texts with a rating each."""

    ratings: tuple[object, ...] = ()

    def partitions(self, context: Context) -> Iterator[Partition]:
        yield Partition(f"ratings {self.ratings}")

    def read(self, partition: Partition, context: Context) -> Iterator[Candidate]:
        for number, rating in enumerate(self.ratings):
            yield Candidate(Sample(f"a{number}", {"txt": b"text %d" % number}, {"rating": rating}))


def test_a_column_that_changes_its_type_is_told_with_a_value_when_it_is_published(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()

    def warnings(*ratings: object) -> list[str]:
        caplog.clear()
        assert run(replace(recipe(WORDS), source=Ratings(ratings)), store, tmp_path).new
        return [one.getMessage() for one in caplog.records if "another type" in one.getMessage()]

    assert warnings(1, 2, 3) == []
    assert warnings(1, 2, 3.5) == []
    [told] = warnings("1", "2", "bad\n")
    assert "column rating was of another type in words@2: number, now text, such as 'bad\\n'" in told
    assert warnings("1", "2", "3", "4") == []
    assert len(warnings(1, 2, 3, 4)) == 1
