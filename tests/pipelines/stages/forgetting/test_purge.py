"""A purge leaves no byte of what was taken out, and everything else as it was."""

import json
import tarfile
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset

import stoker
from stoker.flows.report.difference import difference
from stoker.pipelines.recipe import parse
from stoker.pipelines.source import Context
from stoker.pipelines.stages.forgetting.forget import forget
from stoker.pipelines.stages.forgetting.matching import Forgotten
from stoker.pipelines.stages.forgetting.purge import purge
from stoker.pipelines.stages.forgetting.rewriting import Rewriting
from stoker.pipelines.stages.publish import ingest
from stoker.storage.errors import StorageRefused, StorageUnavailable
from stoker.storage.shards.blank import FILLER, blank_key, is_blank
from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.versions import layout, orphans
from stoker.storage.versions.manifest import load_manifest
from stoker.storage.versions.memory.ledger import heads
from stoker.storage.versions.memory.tombstones import Tombstones, to_table
from stoker.storage.versions.work import CorpusBusy, gc_lease, ingest_lease
from stoker.testing import sample_corpus
from stoker.training import ShardStream, TextStream
from tests.fakes import FailingCalls
from tests.pipelines.stages.forgetting.world import CORPUS, GONE, TOKEN, World, found, found_all, made, problems
from tests.site import FAST


@pytest.fixture
def world(tmp_path: Path) -> World:
    return made(tmp_path, MemoryStore())


def test_nothing_of_a_sample_is_left_and_it_does_not_come_back(world: World) -> None:
    before = {stored.key for stored in found_all(world.store)}
    held = set(found(world.store, *GONE))
    assert len(held) > 8  # raw parts, shards, indexes, statistics
    told = world.purge()
    assert told.receipt["versions"] == {f"{CORPUS}@1": 3, f"{CORPUS}@2": 4}
    assert found(world.store, *GONE) == []
    assert problems(world.store) == []
    written = {stored.key for stored in found_all(world.store)} - before
    kinds = sorted({layout.folder_of(key) for key in written if "/raw/" in key or "/shards/" in key})
    assert kinds == sorted({layout.folder_of(key) for key in held if "/raw/" in key or "/shards/" in key})
    assert len(found(world.store, 4)) > 3  # others are where they were
    again = world.run()
    assert (again.new, again.manifest.samples, found(world.store, *GONE)) == (False, 36, [])
    world.put(40)
    assert world.run(again=True).manifest.samples == 37
    assert (found(world.store, *GONE), problems(world.store)) == ([], [])
    assert load_manifest(world.store, CORPUS).is_packed
    assert not world.run().new


def test_the_receipt_names_what_was_reached_and_what_was_not(world: World) -> None:
    checkpoint = {"version": f"{CORPUS}@2", "sample": "what a model wrote", "metrics": {}}
    world.store.write(f"{layout.run(CORPUS, 'lstm-0001')}000000010.json", json.dumps(checkpoint).encode())
    world.store.write(f"{layout.run(CORPUS, 'lstm-0002')}000000010.json", json.dumps({"version": "x@1"}).encode())
    metrics = f"{layout.run(CORPUS, 'cnn-0001')}metrics.jsonl"
    mistakes: list[dict[str, Any]] = [{"mistakes": [{"key": world.gone[0]}, {"key": "a"}]}, {"loss": 1.5}]  # Any: JSON
    world.store.write(metrics, "".join(f"{json.dumps(line)}\n" for line in mistakes).encode())
    world.store.write(layout.study(CORPUS, 2, "quick"), b"{}")
    shards = [shard.key for shard in load_manifest(world.store, CORPUS, 1).shards]
    told = world.purge()
    assert told.receipt["runs"] == ["lstm-0001"]
    assert set(told.receipt["objects"]) & set(shards)
    assert any("machines that trained" in text for text in told.receipt["unreached"])
    assert json.loads(world.store.read(told.key))["receipt"] == told.receipt
    left = json.loads(world.store.read(f"{layout.run(CORPUS, 'lstm-0001')}000000010.json"))
    assert left == checkpoint | {"sample": ""}
    mistakes[0]["mistakes"][0]["key"] = blank_key(world.gone[0])
    assert [json.loads(line) for line in world.store.read(metrics).splitlines()] == mistakes
    assert not list(world.store.list(f"{CORPUS}/studies/"))
    assert len(heads(world.store, CORPUS)) == 1


def test_runs_tell_neither_key_nor_url_of_it_also_those_of_other_corpora(world: World) -> None:
    stays = {"key": "a", "url": "https://example.org/a.jpg", "expected": "cat"}
    goes = {"key": world.gone[0], "url": f"https://example.org/{TOKEN.format(GONE[0])}.jpg", "expected": "cat"}
    evaluation = {"reference": f"{CORPUS}@2", "metrics": {"wrong": [stays, goes]}}
    keys = {
        "own": layout.evaluation(CORPUS, "cnn-0001", f"{CORPUS}@2", "test", 7),
        "of another": layout.evaluation("birds", "cnn-0002", f"{CORPUS}@2", "test", 7),
        "about another": layout.evaluation("birds", "cnn-0003", f"{CORPUS}-more@2", "test", 7),
    }
    for name, key in keys.items():
        told = evaluation if name != "about another" else evaluation | {"reference": f"{CORPUS}-more@2"}
        world.store.write(key, json.dumps(told).encode())
    receipt = world.purge().receipt
    assert receipt["runs"] == ["birds/cnn-0002", "cnn-0001"]
    blank = {"key": blank_key(world.gone[0]), "expected": "cat"}
    for name in ("own", "of another"):
        assert json.loads(world.store.read(keys[name]))["metrics"]["wrong"] == [stays, blank]
    assert json.loads(world.store.read(keys["about another"]))["metrics"]["wrong"] == [stays, goes]


@pytest.mark.parametrize("told", [True, False])
def test_the_receipt_says_where_a_partition_is_named_by_a_file_that_went(tmp_path: Path, told: bool) -> None:
    """By the first of its files."""
    world = World(tmp_path, MemoryStore())
    world.put(*range(16))
    parts = world.run().manifest.parts
    named = {int(Path(part.partition).stem): layout.folder_of(part.records) for part in parts}
    number = next(number for number in range(16) if (number in named) == told)
    world.take_out(number)
    lines = [line for line in world.purge().receipt["unreached"] if "partition" in line]
    assert [named[number] in line for line in lines] == [True] * told
    assert not any(f"{number:03d}.jpg" in line for line in lines)


@pytest.mark.parametrize(
    ("asked", "url", "name", "told"),
    [
        (("host", "example.org"), "https://example.org/a.jpg", "example.org-0123456789", True),
        (("url", "https://example.org/a.jpg"), "https://example.org/a.jpg", "example.org-0123456789", False),
        (("url", "https://example.org/a.mp4"), "https://example.org/a.mp4?x=1#t=2", "a.mp4-0123456789", True),
        (("url", "https://example.org/a.mp4"), "https://example.org/a.mp4", "aa.mp4-0123456789", False),
    ],
)
def test_names_of_partitions_that_tell_what_went(asked: tuple[str, str], url: str, name: str, told: bool) -> None:
    forgotten = Forgotten(Tombstones.of([to_table([asked], at=datetime(2026, 3, 2, tzinfo=UTC))]))
    assert forgotten.are_told_by(name, pa.table({"url": [url]})) == told


def test_a_second_purge_does_nothing_and_a_third_of_more_does_the_rest(world: World) -> None:
    first = world.purge()
    objects = {stored.key: stored.change_token for stored in found_all(world.store)}
    again = world.purge()
    assert (again.new, again.receipt) == (False, first.receipt)
    assert {stored.key: stored.change_token for stored in found_all(world.store)} == objects
    told = forget(world.store, CORPUS, [("key", "nobody")], dry_run=True)
    assert (told.unknown, told.samples) == ((("key", "nobody"),), {})  # no blank row has it
    world.take_out(4, 19)
    assert world.purge().receipt["candidates"] == 2
    assert (found(world.store, *GONE, 4, 19), problems(world.store)) == ([], [])


def test_gc_takes_nothing_of_it_away(world: World) -> None:
    world.purge()
    before = {stored.key for stored in found_all(world.store)}
    with gc_lease(world.store, CORPUS, older_than_s=0) as lease:
        referenced = orphans.ReferencedKeys(world.store)
        referenced.refresh()
        listed = list(orphans.find(world.store, CORPUS, referenced.of(CORPUS), own_lease=lease.key))
        assert list(orphans.remove(lease, referenced, [one for one in listed if one.kind != orphans.PART])) == []
    assert {stored.key for stored in found_all(world.store)} == before


def test_a_difference_counts_what_is_withdrawn(world: World) -> None:
    world.purge()
    first, last = (load_manifest(world.store, CORPUS, number) for number in (2, 3))
    told = difference(first, last, world.store)
    assert (told.removed, told.withdrawn, told.added, told.changed) == (4, 4, 0, 0)
    assert all(is_blank(change.key) and not change.title for change in told.examples["removed"])
    assert difference(load_manifest(world.store, CORPUS, 1), first, world.store).removed == 0


def test_it_waits_for_no_ingest_and_no_ingest_waits_for_ever(world: World) -> None:
    with ingest_lease(world.store, CORPUS), pytest.raises(CorpusBusy, match="an ingest is under way"):
        world.purge()
    assert found(world.store, *GONE)
    world.purge()
    assert found(world.store, *GONE) == []


def test_what_was_never_taken_out_is_not_purged() -> None:
    store, _ = sample_corpus(12)
    with pytest.raises(StorageRefused, match="nothing was taken out of it"):
        purge(store, "numbers")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("points", [4, pytest.param(10**6, marks=pytest.mark.nightly)])
def test_a_purge_that_fails_at_any_call_is_finished_by_the_next(world: World, after: bool, points: int) -> None:
    objects = {stored.key: world.store.read(stored.key) for stored in world.store.list("")}

    def copied() -> FailingCalls:
        store = FailingCalls(after=after)
        for key, payload in objects.items():
            store.write(key, payload)
        return store

    whole = copied()
    whole.left = 10**9
    purge(whole, CORPUS, scratch=world.folder / "scratch")
    calls = 10**9 - whole.left
    for number in range(1, calls, max(1, calls // points)):
        store = copied()
        store.left = number
        with suppress(StorageUnavailable):  # none where it is the lease that could not be given back
            purge(store, CORPUS, scratch=world.folder / "scratch")
        assert store.left <= 0
        store.left = 10**9
        assert problems(store) == [], number
        purge(store, CORPUS, scratch=world.folder / "scratch")
        assert (found(store, *GONE), problems(store)) == ([], []), number
        left = {stored.key for stored in found_all(store)} - {stored.key for stored in found_all(whole)}
        assert all(key.startswith(layout.leases(CORPUS)) for key in left), number


def test_webdataset_and_datasets_pass_over_the_fillers(tmp_path: Path) -> None:
    world = made(tmp_path / "world", DirectoryStore(tmp_path / "store"))
    world.purge()
    manifest = load_manifest(world.store, CORPUS, 2)
    paths = [str(world.store.path(shard.key)) for shard in manifest.shards]
    fillers = 0
    for path in paths:
        with tarfile.open(path) as tar:
            fillers += tar.getnames().count(FILLER)
    assert fillers == 4
    keys = [sample["__key__"] for sample in webdataset.WebDataset(paths, shardshuffle=False)]
    assert len(keys) == len(set(keys)) == 36
    datasets = pytest.importorskip("datasets")
    streamed = datasets.load_dataset("webdataset", data_files=paths, split="train", streaming=True)
    assert sorted(row["__key__"] for row in streamed) == sorted(keys)
    plain = datasets.load_dataset("webdataset", data_files=paths, split="train", cache_dir=str(tmp_path / "cache"))
    assert sorted(plain["__key__"]) == sorted(keys)


@pytest.mark.parametrize("on_corrupt", ["stop", "skip"])
def test_a_stream_that_runs_meanwhile_goes_on_with_holes(on_corrupt: Literal["stop", "skip"]) -> None:
    store, manifest = sample_corpus(1200)
    manifest.read_lists()
    samples = ShardStream(
        store, manifest, batch_size=30, shuffle=False, decode=lambda one: int(one.key[1:]), on_corrupt=on_corrupt
    )
    texts = TextStream(store, manifest, batch_size=4, window=32, shuffle=False)
    gone = range(105, 1200, 100)
    forget(store, "numbers", [("key", f"n{number:04d}") for number in gone])
    purge(store, "numbers")
    wanted = [[number for number in range(start, start + 30) if number not in gone] for start in range(0, 1200, 30)]
    assert list(samples) == wanted
    new = TextStream(store, load_manifest(store, "numbers", 1), batch_size=4, window=32, shuffle=False)
    assert all((one[0] == other[0]).all() for one, other in zip(texts, new, strict=True))
    for stream in (samples, texts, new):
        stream.close()


def test_the_number_of_a_row_is_no_identity_of_what_went(tmp_path: Path) -> None:
    """Another candidate of the corpus may have it."""
    store = MemoryStore()
    pq.write_table(pa.table({"text": [f"the row {number}" for number in range(8)]}), tmp_path / "rows.parquet")
    source = {"name": "hugging_face", "dataset": "rows.parquet", "split": "train"}
    recipe = parse({"corpus": "rows", "source": source}, root=tmp_path)
    manifest = ingest(recipe, store, Context(root=tmp_path, web=FAST, scratch=tmp_path / "scratch")).manifest
    key = next(iter(stoker.Version(store, manifest))).key
    forget(store, "rows", [("key", key)])
    rewriting = Rewriting(store, "rows", Forgotten.load(store, "rows"), tmp_path)
    rewriting.write([manifest], manifest.parts)
    assert rewriting.keys == {key}
    assert len(rewriting.identities) == 1
    assert key not in rewriting.identities


@pytest.mark.parametrize("rows", [400, pytest.param(100_000, marks=pytest.mark.nightly)])
def test_of_a_table_only_objects_with_such_rows_are_written(tmp_path: Path, rows: int) -> None:
    store = DirectoryStore(tmp_path / "store")
    world = World(tmp_path, store)
    gone = range(rows // 2, rows // 2 + rows // 100)
    texts = [f"row {number} of the table tells of {TOKEN.format(number)} at length" for number in range(rows)]
    table = pa.table({"text": texts, "serial": [f"s{number}" for number in range(rows)]})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=rows // 20)
    recipe = parse(
        {
            "corpus": CORPUS,
            "source": {
                "name": "hugging_face",
                "dataset": "rows.parquet",
                "key": "serial",
                "rows_per_partition": rows // 20,
            },
            "splits": {"train": 100},
            "shards": {"partitions": 2, "samples": rows // 20},
        },
        root=tmp_path,
    )
    context = Context(root=tmp_path, web=FAST, scratch=tmp_path / "scratch")
    first = ingest(recipe, world.store, context).manifest
    keys = stoker.Version(world.store, first).records(["key", "row_serial"]).read_all().to_pylist()
    wanted = {f"s{number}" for number in gone}
    forget(world.store, CORPUS, [("key", row["key"]) for row in keys if row["row_serial"] in wanted])
    held = {key for key in found(world.store, *gone) if "/raw/" in key or "/shards/" in key}
    before = {stored.key for stored in found_all(world.store)}
    with closing(ShardStream(store, first, batch_size=10, decode=lambda one: one.key)) as stream:
        meanwhile = iter(stream)
        read = list(next(meanwhile))
        told = world.purge()
        read += [key for batch in meanwhile for key in batch]
    left = {row["key"] for row in keys if row["row_serial"] not in wanted}
    assert (len(read), set(read) - left) == (len(set(read)), set(read[:10]) - left)
    assert left <= set(read)
    assert told.receipt["versions"] == {f"{CORPUS}@1": rows // 100}
    assert found(world.store, *gone) == []
    assert problems(world.store) == []
    parts = {key for key in told.receipt["objects"] if "/raw/" in key or "/shards/" in key}
    assert held <= parts < before
    assert {layout.folder_of(key) for key in parts} == {layout.folder_of(key) for key in held}
    paths = [str(store.path(shard.key)) for shard in load_manifest(store, CORPUS, 1).shards]
    assert sorted(one["__key__"] for one in webdataset.WebDataset(paths, shardshuffle=False)) == sorted(left)
    datasets = pytest.importorskip("datasets")
    streamed = datasets.load_dataset("webdataset", data_files=paths, split="train", streaming=True)
    assert sorted(row["__key__"] for row in streamed) == sorted(left)
    assert not ingest(recipe, world.store, context).new
    assert found(world.store, *gone) == []
