"""A batch's samples in place: views of the right bytes, samples of the right record; any may be left out."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoker.storage.shards.sample import Sample
from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.stores.memory import MemoryStore
from stoker.training.errors import CorruptSample, TrainingError
from stoker.training.reading.samples import Samples
from stoker.training.stream.stream import ShardStream
from tests.conftest import HANGS_S
from tests.training import corpora

NAMED = tuple(
    Sample(
        f"s{number:02d}",
        {"txt": f"text {number}".encode()} | ({"cls": b"%d" % number} if number % 3 else {"b.bin": bytes(number)}),
        {"number": number},
    )
    for number in range(20)
)
BY_KEY = {sample.key: sample for sample in NAMED}


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    folder: Path = tmp_path_factory.mktemp("samples")
    store = MemoryStore()
    manifest = corpora.version(store, folder, {"train": NAMED}, per_shard=6)
    found: Samples = ShardStream(store, manifest, batch_size=20, cache=folder / "cache").batch(0, 0)
    return found


def test_a_batch_is_its_samples_whole(batch: Samples) -> None:
    assert [(one.key, one.fields, one.record) for one in batch] == [
        (key, BY_KEY[key].fields, BY_KEY[key].record) for key in batch.keys
    ]
    assert batch[-1] == batch[19]
    assert [one.key for one in batch[3:5]] == batch.keys[3:5]
    with pytest.raises(IndexError):
        batch[20]


def test_a_column_is_the_field_of_every_sample_in_the_order_of_the_batch(batch: Samples) -> None:
    assert [bytes(one) for one in batch.column("txt") if one is not None] == [
        BY_KEY[k].fields["txt"] for k in batch.keys
    ]
    lacking = [None if one is None else bytes(one) for one in batch.column("cls")]
    assert lacking == [BY_KEY[key].fields.get("cls") for key in batch.keys]
    assert batch.column("nothing") == [None] * 20
    first = [bytes(one) for one in batch.first(("cls", "b.bin")) if one is not None]
    assert first == [BY_KEY[k].fields.get("cls", BY_KEY[k].fields.get("b.bin")) for k in batch.keys]
    assert batch.extensions == ["b.bin", "cls", "json", "txt"]
    assert [one["number"] for one in batch.records()] == [BY_KEY[key].record["number"] for key in batch.keys]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_whichever_is_left_out_the_others_stay_as_they_were(batch: Samples, data: st.DataObject) -> None:
    left, keys = batch, batch.keys
    while left and data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(left) - 1))
        left, keys = left.without(place), keys[:place] + keys[place + 1 :]
        assert left.keys == keys
        assert [one.key for one in left] == keys
        assert [bytes(one) for one in left.column("txt") if one is not None] == [BY_KEY[k].fields["txt"] for k in keys]
    assert left.size == sum(left.sizes)


def picky(bad: frozenset[str]) -> object:
    def make(samples: Samples, draws: list[bytes]) -> list[str]:
        assert len(draws) == len(samples)
        for place, key in enumerate(samples.keys):
            if key in bad:
                raise CorruptSample(place, f"{samples.where(place)}: broken")
        return samples.keys

    return make


def test_a_corrupt_sample_ends_the_stream_by_name_or_is_left_out_and_counted(tmp_path: Path) -> None:
    store = MemoryStore()
    manifest = corpora.version(store, tmp_path, {"train": NAMED}, per_shard=6)
    options: dict[str, Any] = {"batch_size": 6, "cache": tmp_path / "cache", "make": picky(frozenset({"s03", "s11"}))}
    with pytest.raises(CorruptSample, match=r"train-0000[01]\.tar: sample s(03|11): broken"):
        list(ShardStream(store, manifest, **options))
    stream = ShardStream(store, manifest, **options, on_corrupt="skip", skip_budget=2)
    assert sorted(key for batch in stream for key in batch) == sorted(BY_KEY.keys() - {"s03", "s11"})
    assert stream.counters.sums()["skipped"] == 2
    with pytest.raises(TrainingError, match=r"2 samples skipped, more than the budget of 1 .*; the last one: "):
        list(ShardStream(store, manifest, **options, on_corrupt="skip", skip_budget=1))


def test_the_sample_that_is_left_out_is_the_one_whose_decoding_failed(tmp_path: Path) -> None:
    def decode(sample: Sample) -> str:
        if sample.key in ("s03", "s11"):
            raise CorruptSample(0, f"{sample.key}: broken")  # of a batch of one
        return sample.key

    store = MemoryStore()
    manifest = corpora.version(store, tmp_path, {"train": NAMED}, per_shard=6)
    stream = ShardStream(
        store, manifest, batch_size=6, cache=tmp_path / "cache", decode=decode, on_corrupt="skip", skip_budget=2
    )
    assert sorted(key for batch in stream for key in batch) == sorted(BY_KEY.keys() - {"s03", "s11"})
    assert stream.counters.sums()["skipped"] == 2


def test_the_keys_of_a_batch_import_neither_pandas_nor_arrows_functions(tmp_path: Path) -> None:
    corpora.version(DirectoryStore(tmp_path), tmp_path, {"train": NAMED}, corpus="keys", per_shard=6)
    code = (
        "import sys\n"
        "from stoker.storage import open_store\n"
        "from stoker.training.stream.stream import ShardStream\n"
        "stream = ShardStream(open_store(sys.argv[1]), 'keys', batch_size=6, make=lambda batch, _: batch.keys)\n"
        "print(len(next(iter(stream))), [name for name in ('pandas', 'pyarrow.compute') if name in sys.modules])\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANGS_S, check=False)
    assert done.stdout == "6 []\n", done.stderr
