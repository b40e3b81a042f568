"""A version in Python: corpora, records as Arrow, samples by key and in stored order."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

import stoker
from stoker.storage.errors import CorruptShard, NotFound, SampleNotFound
from stoker.storage.shards import records
from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import load_manifest
from stoker.testing import sample_corpus
from tests.storage.external_tars import indexed, numbered, put, tar
from tests.storage.published import make_version, sample


@pytest.fixture(params=["memory", "folder"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store with digits@1 and digits@2, in memory or as files that are mapped."""
    made: Store = MemoryStore() if request.param == "memory" else DirectoryStore(tmp_path / "store")
    make_version(made)
    make_version(made, 2)
    return made


def test_corpora_are_named_with_their_newest_versions(store: Store, tmp_path: Path) -> None:
    assert stoker.corpora(store) == {"digits": 2}
    assert stoker.corpora(MemoryStore()) == {}


def test_a_store_may_be_given_by_its_path(tmp_path: Path) -> None:
    make_version(DirectoryStore(tmp_path / "store"))
    for store in (tmp_path / "store", str(tmp_path / "store"), (tmp_path / "store").as_uri()):
        assert stoker.corpora(store) == {"digits": 1}
        assert len(stoker.version(store, "digits@1")) == 11


def test_a_version_is_the_newest_one_or_that_of_its_number(store: Store) -> None:
    assert stoker.version(store, "digits").manifest.version == 2
    assert stoker.version(store, "digits@1").manifest.version == 1
    with pytest.raises(NotFound, match="did you mean 'digits'"):
        stoker.version(store, "digit")


def test_samples_come_by_key_with_the_bytes_and_the_record_that_were_published(store: Store) -> None:
    digits = stoker.version(store, "digits@1")
    published = sample(7)
    assert digits["s-007"].fields == published.fields
    assert digits["s-007"].record == published.record
    assert "s-007" in digits
    assert "s-004" not in digits  # dropped by a rule
    assert 7 not in digits


def test_iteration_gives_every_sample_once_in_stored_order(store: Store) -> None:
    digits = stoker.version(store, "digits@1")
    assert len(digits) == 11
    assert [one.key for one in digits] == [f"s-{number:03d}" for number in range(12) if number != 4]


def test_a_split_has_the_same_interface(store: Store) -> None:
    train = stoker.version(store, "digits@1").split("train")
    assert len(train) == 8
    assert len(list(train)) == 8
    assert list(train.splits) == ["train"]
    assert train.records().read_all().num_rows == 8
    assert "s-011" not in train
    with pytest.raises(SampleNotFound, match=r"digits@1 train holds no sample 's-011' .*; did you mean 's-001'"):
        train["s-011"]
    with pytest.raises(NotFound, match="no split is called 'tran'; did you mean 'train'"):
        stoker.version(store, "digits@1").split("tran")


def test_records_are_arrow_with_the_columns_and_the_split_that_are_chosen(store: Store) -> None:
    digits = stoker.version(store, "digits@1")
    reader = digits.records()
    assert isinstance(reader, pa.RecordBatchReader)
    table = reader.read_all()
    assert table["key"].to_pylist() == [one.key for one in digits]
    assert table["split"].to_pylist() == ["train"] * 8 + ["validation"] * 3
    assert {"label", "licence", "fetched_at", "size", "group"} <= set(table.column_names)
    assert not {"start", "members", "reason"} & set(table.column_names)
    chosen = digits.records(columns=["label", "key", "start"], split="validation").read_all()
    assert chosen.column_names == ["label", "key", "start"]
    assert chosen["label"].to_pylist() == ["a", "b", "c"]  # of 9, 10 and 11
    with pytest.raises(NotFound, match="no column is called 'labl'; did you mean 'label'"):
        digits.records(columns=["labl"])


def test_columns_that_differ_between_shards_get_one_type(store: Store) -> None:
    digits = stoker.version(store, "digits@1")
    changed = _with_index(store, digits, 1, lambda table: table.append_column("width", pa.array([1, 2, 3, 4])))
    changed = _with_index(store, changed, 2, lambda table: table.append_column("width", pa.array([0.5, 1.5, 2.5])))
    table = changed.records(columns=["key", "width"]).read_all()
    assert table["width"].to_pylist() == [None] * 4 + [1, 2, 3, 4, 0.5, 1.5, 2.5]


def _with_index(
    store: Store, version: stoker.Version, number: int, change: Callable[[pa.Table], pa.Table]
) -> stoker.Version:
    """The version with another index of one shard, and the checksum of that."""
    manifest = version.manifest
    shards = list(manifest.shards)
    payload = records.encode(change(records.decode(store.read(shards[number].index))))
    shards[number] = replace(
        shards[number],
        index=shards[number].index + "2",
        index_size=len(payload),
        index_sha256=records.sha256(payload),
    )
    store.write(shards[number].index, payload)
    return stoker.Version(store, replace(manifest, shards=tuple(shards)))


def test_records_are_read_shard_by_shard_as_they_are_asked_for() -> None:
    store, manifest = sample_corpus(300)
    reads: list[str] = []
    read = store.read

    def counted(key: str, *, start: int = 0, size: int | None = None) -> bytes:
        reads.append(key)
        return read(key, start=start, size=size)

    store.read = counted  # type: ignore[method-assign]  # the store itself stays the real one
    reader = stoker.Version(store, manifest).records()
    reads.clear()  # of the schemas
    assert reader.read_next_batch().num_rows == 100
    assert len(reads) == 1
    assert reader.read_next_batch().num_rows == 100
    assert len(reads) == 2


def test_pandas_reads_the_records(store: Store) -> None:
    frame = stoker.version(store, "digits@1").records(["key", "label"]).read_pandas()
    assert frame.groupby("label").size().to_dict() == {"a": 4, "b": 3, "c": 4}


def test_a_key_that_is_not_there_is_a_key_error_that_names_the_nearest(store: Store) -> None:
    digits = stoker.version(store, "digits@1")
    with pytest.raises(KeyError) as caught:
        digits["s-0007"]
    assert str(caught.value) == (
        "digits@1 holds no sample 's-0007' (`stoker why digits@1 KEY` tells what became of a candidate); did you mean "
        "'s-007'?"
    )
    assert isinstance(caught.value, NotFound)
    with pytest.raises(SampleNotFound, match=r"holds no sample 'https:.*; there are: s-000"):
        digits["https://example.org/cat.jpg"]
    with pytest.raises(SampleNotFound):
        digits["s-\udc80"]


def test_a_number_is_no_key(store: Store) -> None:
    with pytest.raises(TypeError, match=r"has no \[0\]: a sample is named by its key, as in version\['s-000'\]"):
        stoker.version(store, "digits@1")[0]  # type: ignore[index]  # that it is wrong is what is tested


@pytest.mark.parametrize("altered", ["tar", "index"])
def test_nothing_damaged_is_handed_out(store: Store, altered: str) -> None:
    digits = stoker.version(store, "digits@1")
    assert digits.records().read_all().num_rows == 11
    shard = digits.manifest.shards[1]
    key = shard.key if altered == "tar" else shard.index
    payload = bytearray(store.read(key))
    payload[len(payload) // 2] ^= 1
    store.write(key, payload)
    digits = stoker.version(store, "digits@1")
    assert digits["s-000"].key == "s-000"
    with pytest.raises(CorruptShard, match=r"sha256 .*, but the manifest says .*; `stoker verify --repair`"):
        digits["s-006"]
    keys: list[str] = []
    with pytest.raises(CorruptShard):
        keys.extend(one.key for one in digits)  # what came before the error stays in it
    assert keys == ["s-000", "s-001", "s-002", "s-003"]
    if altered == "index":
        with pytest.raises(CorruptShard, match=r"train-00001\.parquet"):
            digits.records().read_all()


def test_an_object_that_is_gone_is_named(store: Store) -> None:
    digits = stoker.version(store, "digits@1")
    store.delete(digits.manifest.shards[0].key)
    with pytest.raises(NotFound, match=r"train-00000\.tar"):
        digits["s-000"]


def test_external_tars_are_looked_at_likewise(tmp_path: Path) -> None:
    for number in range(2):
        put(tmp_path / "tars" / f"train-{number:03d}.tar", tar(numbered(number * 5, 5, folder="a/")))
    put(tmp_path / "tars" / "val-000.tar", tar([("odd key/x.JPG", b"j"), ("odd key/x.seg.png", b"s")]))
    result = indexed(tmp_path / "tars", corpus="theirs")
    theirs = stoker.version(tmp_path / "store", "theirs")
    assert theirs.manifest == result.manifest
    keys = [one.key for one in theirs]
    assert keys == [*(f"a/{number:06d}" for number in range(10)), "odd key/x"]
    assert theirs["a/000007"].fields["cls"] == b"1"
    assert theirs["a/000007"].record["caption"] == "number 7"
    assert theirs["odd key/x"].fields == {"jpg": b"j", "seg.png": b"s"}
    captions = theirs.records(columns=["key", "split", "caption"]).read_all().to_pylist()
    assert captions[-1] == {"key": "odd key/x", "split": "validation", "caption": None}
    assert len(theirs.split("train")) == 10


def test_an_empty_version_has_no_records() -> None:
    store, manifest = sample_corpus(3)
    empty = stoker.Version(store, replace(manifest, shards=()))
    assert (len(empty), list(empty), empty.records().read_all().num_rows) == (0, [], 0)
    with pytest.raises(SampleNotFound, match="there are: none"):
        empty["n0000"]


def test_reprs_are_short(store: Store) -> None:
    digits = stoker.version(store, "digits@2")
    assert repr(digits) == "<Version digits@2: 11 samples in train 8, validation 3>"
    assert repr(digits.split("train")) == "<Version digits@2 train: 8 samples in train 8>"
    assert repr(digits["s-007"]).startswith("Sample('s-007', {'cls': 1 bytes, 'txt': 7 bytes}, {'group': 'g7', ")


def test_the_html_of_a_version_is_escaped_bounded_and_reads_nothing() -> None:
    _, manifest = sample_corpus(3)
    evil = "<script>alert(1)</script>\"' onload=x"
    shards = tuple(replace(manifest.shards[0], split=f"{evil}{number}") for number in range(50))
    licences = {f"<img src=x onerror=alert({number})>": 1 for number in range(500)}
    version = stoker.Version(MemoryStore(), replace(manifest, shards=shards, licences=licences))  # a store without it
    html = version._repr_html_()
    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;script&gt;" in html
    assert len(html) < 20_000
    assert len(repr(version)) < 500
    assert len(repr(version.manifest)) < 500


def test_counts_need_no_list_of_shards(store: Store) -> None:
    for file in load_manifest(store, "digits@1").lists:
        store.delete(file.key)
    version = stoker.version(store, "digits@1")
    assert len(version) == sum(len(version.split(name)) for name in version.splits) == 11
    assert repr(version).startswith("<Version digits@1: 11 samples in ")
    with pytest.raises(NotFound, match="shards-"):
        next(iter(version))


def test_another_process_may_be_given_a_version(store: Store) -> None:
    train = stoker.version(store, "digits@1").split("train")
    list(train)
    again = pickle.loads(pickle.dumps(train))
    assert (len(again), again.manifest) == (8, train.manifest)


def test_two_shards_at_most_are_kept_open(store: Store) -> None:
    digits = stoker.version(store, "digits@1")
    list(digits)
    assert digits._view.cache_info().currsize == 2


def test_a_sample_by_its_key_is_one_read_of_its_range_and_compared() -> None:
    store, manifest = sample_corpus(12)
    reads: list[tuple[str, int | None]] = []
    read = store.read

    def counted(key: str, *, start: int = 0, size: int | None = None) -> bytes:
        reads.append((key, size))
        return read(key, start=start, size=size)

    store.read = counted  # type: ignore[method-assign]  # the same, counted
    (shard,) = manifest.shards
    payload = bytearray(read(shard.key))
    payload[2 * 2048 + 512] ^= 1
    store.write(shard.key, bytes(payload))
    numbers = stoker.version(store, "numbers")
    assert numbers["n0003"].fields == {"txt": b"3"}
    assert [size for key, size in reads if key == shard.key] == [2048]
    with pytest.raises(CorruptShard, match=rf"{shard.key}: sample 'n0002': CRC-32C .*`stoker verify --repair`"):
        numbers["n0002"]
