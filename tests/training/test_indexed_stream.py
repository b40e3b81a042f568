"""The stream over tars that others wrote: the same promises as over ours."""

import itertools
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from stoker.storage import open_store
from stoker.storage.errors import CorruptShard, NotFound
from stoker.storage.indexed.indexing import index
from stoker.storage.indexed.tars import find_tars
from stoker.storage.stores.s3 import S3Store
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Manifest
from stoker.storage.versions.masks.view import with_masks
from stoker.training.loader.loader import Loader
from stoker.training.stream.stream import ShardStream
from stoker.training.stream.text import TextStream
from tests.storage.external_tars import numbered, read_by_webdataset, tar

TARS, EACH = 5, 7


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tars").mkdir()
    for number in range(TARS):
        form = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)[number % 3]
        members = list(numbered(number * EACH, EACH, folder=f"{'d' * 120 if number % 3 else 'd'}.v1/"))
        (tmp_path / "tars" / f"{number:03d}.tar").write_bytes(tar(members, form))
    (tmp_path / "tars" / "100.tar").write_bytes(tar([]))
    return tmp_path / "tars"


def made(folder: Path | str, store: Store) -> Manifest:
    done = index(find_tars(str(folder), store), store, "theirs")
    assert done is not None
    return done.manifest


def expected(folder: Path) -> dict[str, dict[str, bytes]]:
    """What webdataset reads of all tars."""
    return {
        key: dict(fields)
        for path in sorted(folder.iterdir())
        if path.stat().st_size > 10240
        for key, fields in read_by_webdataset(path.read_bytes())
    }


def test_an_epoch_has_every_sample_that_webdataset_reads_once(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    store = open_store(str(tmp_path / "store"))
    stream = ShardStream(store, made(folder, store), batch_size=4, cache=tmp_path / "cache")
    found: dict[str, dict[str, bytes]] = {}
    for samples in stream:
        for place, key in enumerate(samples.keys):
            found[key] = {name: bytes(samples.column(name)[place]) for name in ("jpg", "cls", "json")}
            assert samples[place].fields == {name: found[key][name] for name in ("jpg", "cls")}
            assert samples[place].record["caption"] == f"number {int(key[-6:])}"
    assert found == expected(folder)
    assert len(found) == stream.samples == TARS * EACH
    stream.close()


def test_ranks_workers_stops_and_restarts_give_the_same_global_batches(folder: Path, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    manifest = made(folder, store)

    def stream(**options: Any) -> ShardStream:
        defaults: dict[str, Any] = {"batch_size": 6, "seed": 3, "window": 2, "cache": tmp_path / "cache"}
        return ShardStream(store, manifest, **(defaults | options))

    whole = [batch.keys for batch in stream()]
    state = stream()
    first = [batch.keys for batch in itertools.islice(state, 2)]
    rest: list[list[str]] = [[] for _ in range(len(whole) - 2)]
    for rank in range(3):
        one = stream(rank=rank, world_size=3)
        one.load_state_dict(state.state_dict() | {"delivered": 12})
        for number, batch in enumerate(itertools.islice(one, len(rest))):
            rest[number] += batch.keys
    assert first + rest == whole
    loader = Loader(stream(collate=_keys), workers=2)
    assert list(itertools.islice(loader, len(whole))) == whole


def _keys(samples: list[Any]) -> list[str]:
    return [sample.key for sample in samples]


def test_a_moved_folder_of_tars_goes_on_where_the_old_one_stopped(folder: Path, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    stream = ShardStream(store, made(folder, store), batch_size=5, cache=tmp_path / "cache")
    next(iter(stream))
    stream.advance()
    state = stream.state_dict()
    expected = [batch.keys for batch in stream]
    moved = folder.rename(tmp_path / "elsewhere")
    other = ShardStream(store, made(moved, store), batch_size=5, cache=tmp_path / "cache")
    assert other.manifest.version == 2
    other.load_state_dict(state)
    assert [batch.keys for batch in other] == expected


def test_records_that_are_no_objects_are_fields(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    payloads = {"list": b"[1, 2]", "broken": b"{", "object": b'{"a": 1}', "nan": b'{"a": NaN}'}
    (tmp_path / "t" / "a.tar").write_bytes(tar((f"{name}.json", payload) for name, payload in payloads.items()))
    store = open_store(str(tmp_path / "store"))
    stream = ShardStream(store, made(tmp_path / "t", store), shuffle=False, cache=tmp_path / "cache")
    by_key = {sample.key: sample for sample in next(iter(stream))}
    assert by_key["list"].fields == {"json": b"[1, 2]"}
    assert by_key["broken"].fields == {"json": b"{"}
    assert by_key["object"].record == {"a": 1}
    assert list(by_key["nan"].record) == ["a"]


def test_a_changed_and_a_missing_tar_are_named(folder: Path, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    manifest = made(folder, store)
    path = folder / "002.tar"
    path.write_bytes(path.read_bytes().replace(b"number 15", b"number 99"))
    with pytest.raises(CorruptShard, match=r"tars/002\.tar"):
        list(ShardStream(store, manifest, cache=tmp_path / "cache"))
    path.unlink()
    with pytest.raises((CorruptShard, NotFound), match=r"tars/002\.tar"):
        list(ShardStream(store, manifest, cache=tmp_path / "cache2"))


def test_tars_of_the_same_bytes_have_keys_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    for name in "ab":
        (tmp_path / "t" / f"{name}.tar").write_bytes(tar(numbered(0, 3)))
    store = open_store(str(tmp_path / "store"))
    stream = ShardStream(store, made(tmp_path / "t", store), batch_size=6, cache=tmp_path / "cache")
    keys = sorted(next(iter(stream)).keys)
    assert keys == [f"{name}/00000{number}" for name in "ab" for number in range(3)]


def test_texts_of_others_are_streams_of_tokens(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    for number in range(3):
        members = [(f"{number}/{place}.txt", b"text %d %d\n" % (number, place) * 9) for place in range(5)]
        (tmp_path / "t" / f"{number}.tar").write_bytes(tar(members))
    store = open_store(str(tmp_path / "store"))
    stream = TextStream(store, made(tmp_path / "t", store), batch_size=2, window=16, cache=tmp_path / "cache")
    assert stream.tokens == sum(len(b"text 0 0\n" * 9) + 1 for _ in range(15))
    assert len(list(stream)) > 10


def test_tars_in_s3_are_streamed_from_there(s3_store: S3Store, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    for path in folder.iterdir():
        s3_store.write(f"a/tars/{path.name}", path)
    for store in (s3_store, open_store(str(tmp_path / "store"), **_access(s3_store))):
        manifest = made(f"{s3_store.url}/a/tars", store)
        stream = ShardStream(store, manifest, batch_size=8, cache=tmp_path / "cache" / str(store is s3_store))
        keys = Counter(key for batch in stream for key in batch.keys)
        assert keys == Counter(list(expected(folder)))
        stream.close()


def _access(store: S3Store) -> dict[str, Any]:
    return {"endpoint": store.endpoint, "access_key": store.access_key, "secret_key": store.secret_key}


def test_a_view_of_tars_is_streamed_without_masked_samples(folder: Path, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    base = made(folder, store)
    keys = sorted(itertools.chain(*(samples.keys for samples in ShardStream(store, base, cache=tmp_path / "cache"))))
    gone = [keys[0], *keys[EACH : 2 * EACH], keys[-1]]  # a first one, a whole tar, a last one
    view = with_masks(store, base, gone)
    for seed, folder_of_cache in enumerate(("cache", "cold")):
        stream = ShardStream(store, view, batch_size=4, seed=seed, cache=tmp_path / folder_of_cache)
        found = [key for samples in stream for key in samples.keys]
        assert sorted(found) == [key for key in keys if key not in gone]
        stream.close()
