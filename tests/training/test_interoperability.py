"""Our shards in other tools, with no Stoker: the same samples, byte for byte."""

import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from stoker.storage import open_store
from stoker.storage.shards.index import ShardIndex
from stoker.storage.shards.sample import Sample
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.manifest import Manifest
from stoker.training.stream.stream import ShardStream
from tests.storage.samples import GOLDEN
from tests.training import corpora

# Of WebDataset, `datasets` and Energon alike: key and extension, and names that are left out.
NAME = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")
META = re.compile(r"__[^/]*__($|/)")
PLAIN = [Sample(f"text-{number:02d}", {"txt": b"text %d" % number}, {"label": number}) for number in range(12)]


class Ours:
    """A published version in a folder."""

    def __init__(self, store: Store, manifest: Manifest, samples: list[Sample]) -> None:
        self.store, self.manifest = store, manifest
        self.samples = {sample.key: sample for sample in samples}

    @property
    def paths(self) -> list[str]:
        """Its tars."""
        return [f"{self.store.url}/{shard.key}" for shard in self.manifest.shards]

    def index(self, number: int) -> ShardIndex:
        """Where the samples of a tar lie."""
        return ShardIndex.decode(self.store.read(self.manifest.shards[number].index), "index")


def published(tmp_path: Path, samples: list[Sample]) -> Ours:
    store = open_store(str(tmp_path / "store"))
    return Ours(store, corpora.version(store, tmp_path, {"train": samples}, per_shard=5), samples)


@pytest.fixture
def mixed(tmp_path: Path) -> Ours:
    """Samples whose fields differ, with long keys, fields of two parts and empty ones."""
    return published(tmp_path, [*GOLDEN, *PLAIN])


@pytest.fixture
def plain(tmp_path: Path) -> Ours:
    return published(tmp_path, PLAIN)


def assert_same(found: dict[str, dict[str, Any]], ours: Ours) -> None:
    """Whether another reader's samples, by key, are ours; the record is the field ``json``."""
    assert list(found) == list(ours.samples)
    for key, fields in found.items():
        record = json.loads(fields.pop("json"))
        assert record.pop("key") == key
        assert fields == ours.samples[key].fields
        assert record == json.loads(json.dumps(ours.samples[key].record))


def test_webdataset_reads_every_sample_in_order(mixed: Ours) -> None:
    webdataset = pytest.importorskip("webdataset")
    read = list(webdataset.WebDataset(mixed.paths, shardshuffle=False))
    found = {one["__key__"]: {name: one[name] for name in one if not name.startswith("__")} for one in read}
    assert_same(found, mixed)
    assert [one["__url__"] for one in read] == [path for path in mixed.paths for _ in range(5)][: len(read)]


def test_webdatasets_usual_pipeline_decodes_them(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    digits = published(tmp_path, list(corpora.digits()[:12]))
    read = webdataset.WebDataset(digits.paths, shardshuffle=False).decode("rgb8").to_tuple("png", "json")
    pictures, records = zip(*read, strict=True)
    assert {picture.shape for picture in pictures} == {(32, 32, 3)}
    assert [record["label"] for record in records] == [one.record["label"] for one in digits.samples.values()]


def test_random_access_by_place_finds_every_sample(mixed: Ours) -> None:
    """As wids and webshart do it: the offsets of members from one pass over the headers, then any sample at once."""
    found: dict[str, dict[str, Any]] = {}
    for number, path in enumerate(mixed.paths):
        groups: dict[str, dict[str, tuple[int, int]]] = {}
        with tarfile.open(path) as tar:
            for member in tar:
                name = NAME.match(member.name)
                assert name
                groups.setdefault(name[1], {})[name[2]] = (member.offset_data, member.size)
        with Path(path).open("rb") as file:
            for key in reversed(groups):
                found[key] = {}
                for extension, (offset, size) in groups[key].items():
                    file.seek(offset)
                    found[key][extension] = file.read(size)
        own = mixed.index(number)
        for row, key in enumerate(own.keys.to_pylist()):
            lie = {
                extension: (int(own.offsets[place, row]), int(own.sizes[place, row]))
                for place, extension in enumerate(own.extensions)
                if own.sizes[place, row] >= 0
            }
            assert lie == groups[key]
    assert_same({key: found[key] for key in mixed.samples}, mixed)


@pytest.mark.parametrize("streaming", [False, True])
def test_hugging_face_datasets_reads_every_sample(plain: Ours, tmp_path: Path, streaming: bool) -> None:
    datasets = pytest.importorskip("datasets")
    read = datasets.load_dataset(
        "webdataset",
        data_files={"train": plain.paths},
        split="train",
        cache_dir=str(tmp_path / "cache"),
        streaming=streaming,
    )
    rows = list(read)
    assert [row["__key__"] for row in rows] == list(plain.samples)
    assert [row["txt"].encode() for row in rows] == [sample.fields["txt"] for sample in plain.samples.values()]
    assert [row["json"] for row in rows] == [
        dict(sample.record) | {"key": sample.key} for sample in plain.samples.values()
    ]


def test_hugging_face_datasets_loses_fields_that_come_late(tmp_path: Path) -> None:
    """README says so: of a corpus of JPEGs and PNGs it would lose the pictures of one format."""
    datasets = pytest.importorskip("datasets")
    late = [*PLAIN[:10], Sample("text-99", {"md": b"late"}, {"label": 99})]
    files = {"train": published(tmp_path, late).paths}
    read = datasets.load_dataset("webdataset", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    (row,) = [row for row in read if row["__key__"] == "text-99"]
    assert row["txt"] is None
    assert "md" not in row


def test_the_lists_of_a_manifest_are_plain_parquet(plain: Ours) -> None:
    root = Path(plain.store.url)
    lists = json.loads((root / layout.version(plain.manifest.corpus, plain.manifest.version)).read_bytes())["lists"]
    found = {name: pq.read_table(root / file["key"]).num_rows for name, file in lists.items() if file["rows"]}
    assert found == {name: file["rows"] for name, file in lists.items() if file["rows"]}
    assert found["shards"] == len(plain.paths)
    assert not (root / lists["masks"]["key"]).exists(), "a list without rows is not written"


def test_what_energon_asks_of_a_tar_holds(mixed: Ours) -> None:
    """Energon's index holds the first header of each sample, and a sample is the tar between two of them.

    Source: ``energon prepare`` (megatron.energon.flavors.webdataset.prepare): uncompressed tars, names by the rule of
    WebDataset, members of a sample one behind the other, keys once in a data set.
    """
    seen: set[str] = set()
    for number, path in enumerate(mixed.paths):
        firsts: list[int] = []
        last = None
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                name = NAME.match(member.name)
                assert member.isreg()
                assert name
                assert not META.match(member.name)
                if name[1] != last:
                    assert name[1] not in seen, "members of a sample lie apart, or its key comes again"
                    seen.add(name[1])
                    firsts.append(member.offset)
                    last = name[1]
            end = tar.offset
        own = mixed.index(number)
        assert firsts == own.starts.tolist()
        assert [*firsts[1:], end] == own.stops.tolist()
        payload = Path(path).read_bytes()
        for key, start, stop in zip(own.keys.to_pylist(), own.starts.tolist(), own.stops.tolist(), strict=True):
            with tarfile.open(fileobj=io.BytesIO(payload[start:stop]), mode="r:") as tar:
                fields = {member.name.partition(".")[2]: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]  # regular files alone
            assert {name: fields[name] for name in fields if name != "json"} == mixed.samples[key].fields
    assert seen == set(mixed.samples)


def test_our_own_stream_gives_the_same(mixed: Ours, tmp_path: Path) -> None:
    stream = ShardStream(mixed.store, mixed.manifest, shuffle=False, cache=tmp_path / "cache")
    found = {sample.key: sample for batch in stream for sample in batch}
    assert list(found) == list(mixed.samples)
    for key, sample in found.items():
        assert sample.fields == mixed.samples[key].fields
    stream.close()


def test_our_shards_in_a_folder_of_their_own_are_indexed_like_any_others(mixed: Ours, tmp_path: Path) -> None:
    from stoker.storage.indexed.indexing import index
    from stoker.storage.indexed.tars import find_tars

    for number, shard in enumerate(mixed.manifest.shards):
        path = tmp_path / "copied" / f"train-{number:03d}.tar"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(mixed.store.read(shard.key))
    store = open_store(str(tmp_path / "other"))
    done = index(find_tars(str(tmp_path / "copied"), store), store, "again")
    assert done is not None
    assert [shard.sha256 for shard in done.manifest.shards] == [shard.sha256 for shard in mixed.manifest.shards]
    for order in ({"seed": 4}, {"shuffle": False}):
        options: dict[str, Any] = {"batch_size": 3, "cache": tmp_path / "cache"} | order
        ours = [batch.keys for batch in ShardStream(mixed.store, mixed.manifest, **options)]
        assert [batch.keys for batch in ShardStream(store, done.manifest, **options)] == ours
