"""Writing when processes die and servers err: what was begun is found again, and a whole that differs is noticed."""

import hashlib
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.storage.errors import NotFound, StorageUnavailable
from stoker.storage.shards import shard
from stoker.storage.shards.sample import Sample
from stoker.storage.shards.shard import TarWriter, encode_sample, iter_samples
from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.stores.s3 import S3Store
from stoker.storage.stores.s3_uploads import UploadedParts
from stoker.storage.stores.store import PendingUpload, Store

PART = 5 * 2**20
DIES = """
import os, signal, sys
from pathlib import Path
from stoker.flows.settings import Settings
from stoker.storage import open_store
from stoker.storage.stores import payload, s3_uploads
real, read = payload.read_slice, []
def piece(payload, start, size):
    if start >= 2 * size:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(payload, start, size)
s3_uploads.read_slice = piece
s3_uploads._SENDERS = 1
from dataclasses import replace
store = replace(open_store(sys.argv[1], endpoint=sys.argv[2], access_key=sys.argv[3], secret_key=sys.argv[4]),
    part_size=5 * 2**20)
store.create("digits/raw/a.tar", bytes(5 * 5 * 2**20))
"""


def test_a_listing_tells_when_an_object_was_written(store: Store) -> None:
    before = time.time()
    store.write("a/b", b"x")
    store.create("a/c", b"x")
    times = [stored.modified for stored in store.list()]
    assert len(times) == 2
    assert all(found is not None and before - 1.01 <= found <= time.time() + 1 for found in times)  # S3: whole seconds
    time.sleep(1.1)
    store.write("a/b", b"x")
    again = [stored.modified for stored in store.list()]
    assert again[0] is not None and times[0] is not None and again[0] > times[0]  # noqa: PT018  # one fact
    assert again[1] == times[1]


def test_a_store_without_interrupted_writes_has_no_pending_uploads(store: Store) -> None:
    store.write("a/b", b"x")
    assert list(store.pending_uploads()) == list(store.pending_uploads("a/")) == []
    name = "0" * 32 if isinstance(store, DirectoryStore) else "no-such-upload"
    store.abort(PendingUpload("a/b", 1, 0.0, name))
    assert store.read("a/b") == b"x"


def test_an_upload_of_a_killed_process_is_listed_and_removed(s3_store: S3Store) -> None:
    keys = [s3_store.endpoint, s3_store.access_key, s3_store.secret_key]
    assert subprocess.run([sys.executable, "-c", DIES, s3_store.url, *map(str, keys)], check=False).returncode == -9
    before = time.time()
    (left,) = s3_store.pending_uploads("digits/")
    assert (left.key, left.size) == ("digits/raw/a.tar", 2 * PART)
    assert abs(left.modified - before) < 60
    assert list(s3_store.pending_uploads("other/")) == []
    with pytest.raises(NotFound):
        s3_store.read("digits/raw/a.tar")
    for _ in range(2):
        s3_store.abort(left)
        assert list(s3_store.pending_uploads()) == []


def begin(store: S3Store, key: str) -> None:
    place = store._bucket_and_key(key)
    store._connection.call("", lambda client: client.create_multipart_upload(**place))


def test_many_unfinished_uploads_are_all_listed(s3_store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(7):
        begin(s3_store, f"digits/raw/{number}")
    whole = s3_store._try

    def small_pages(key: str, ask: Any, **options: Any) -> Any:  # Any: as the method's own
        def asked(client: Any) -> Any:  # Any: boto3
            pages = client.list_multipart_uploads
            monkeypatch.setattr(client, "list_multipart_uploads", lambda **given: pages(MaxUploads=3, **given))
            try:
                return ask(client)
            finally:
                monkeypatch.setattr(client, "list_multipart_uploads", pages)

        return whole(key, asked, **options)

    object.__setattr__(s3_store, "_try", small_pages)
    assert sorted(left.key for left in s3_store.pending_uploads()) == [f"digits/raw/{number}" for number in range(7)]
    for left in list(s3_store.pending_uploads()):
        s3_store.abort(left)


def test_a_write_whose_file_is_removed_by_somebody_fails_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, flush, seen = DirectoryStore(tmp_path), os.fsync, []

    def removed_meanwhile(file: int) -> None:
        flush(file)
        for left in store.pending_uploads():
            seen.append((left.key, left.size))
            store.abort(left)

    monkeypatch.setattr(os, "fsync", removed_meanwhile)
    with pytest.raises(StorageUnavailable, match="try again"):
        store.write("a", b"x" * 100)
    assert seen == [("", 100)]
    assert list(store.list()) == []


@pytest.mark.parametrize(("size", "etag", "fault"), [(7, None, "has 7 bytes"), (None, '"0-5"', "has the ETag")])
def test_a_whole_that_differs_from_its_parts_is_removed_and_told(
    s3_store: S3Store, size: int | None, etag: str | None, fault: str
) -> None:
    class Wrong(S3Store):
        def _head(self, key: str) -> dict[str, Any]:
            found = super()._head(key)
            return found | {"ContentLength": size or found["ContentLength"], "ETag": etag or found["ETag"]}

    store = Wrong(**{name: getattr(s3_store, name) for name in S3Store.__dataclass_fields__} | {"part_size": PART})
    with pytest.raises(StorageUnavailable, match=rf"a\.tar: {fault}.*; it was deleted, try again"):
        store.write("a.tar", bytes(4 * PART + 1))
    with pytest.raises(NotFound):
        s3_store.read("a.tar")
    replace(s3_store, part_size=PART).write("a.tar", bytes(4 * PART + 1))
    assert s3_store.size("a.tar") == 4 * PART + 1


def test_an_upload_holds_a_few_parts_however_long_the_file_is(s3_store: S3Store, tmp_path: Path) -> None:
    store, path = replace(s3_store, part_size=PART), tmp_path / "long.tar"
    with path.open("wb") as file:
        file.truncate(20 * PART)
    store.write("warm", b"x")
    tracemalloc.start()
    try:
        store.create("long.tar", path)
        assert tracemalloc.get_traced_memory()[1] < 7 * PART
    finally:
        tracemalloc.stop()
    assert store.size("long.tar") == 20 * PART


def test_encrypted_servers_etags_are_not_taken_for_md5s() -> None:
    parts = [{"ETag": "x", "PartNumber": 1}]
    assert UploadedParts(parts, 10, None).mismatch(10, '"anything"') == ""
    assert UploadedParts(parts, 10, None).mismatch(9, '"anything"') == "has 9 bytes, but 10 were sent"


@pytest.mark.parametrize("size", [300, 18_000, 400_000])
def test_writing_holds_a_megabyte_however_much_is_written(tmp_path: Path, size: int) -> None:
    samples = (Sample(f"s-{number}", {"jpg": bytes(size)}) for number in range(max(40, 12_000_000 // size)))
    tracemalloc.start()
    try:
        with TarWriter(tmp_path / "a.tar") as writer:
            for sample in samples:
                writer.add(sample)
            tar = writer.close()
        assert tar.size > 12_000_000
        assert tracemalloc.get_traced_memory()[1] < 2 * 2**20 + 4 * size + 1_000_000
    finally:
        tracemalloc.stop()


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=30), st.sampled_from([600, 2000, 2**20]))
@settings(max_examples=60, deadline=None)
def test_however_pieces_are_gathered_the_bytes_are_the_same(steps: list[tuple[int, bool]], held: int) -> None:
    samples = [Sample(f"s-{number}", {"bin": b"x" * (700 * times)}) for number, (times, _) in enumerate(steps)]
    expected = b"".join(encode_sample(sample)[0] for sample in samples) + bytes(1024)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard, "_BUFFER", held)
        patch.setattr(shard, "_DIRECT", 2048)
        path = Path(folder) / "a.tar"
        with TarWriter(path) as writer:
            for sample, (_, whole) in zip(samples, steps, strict=True):
                payload, members = encode_sample(sample)
                placed = writer.add_encoded(sample.key, payload, members) if whole else writer.add(sample)
                assert expected[placed.start : placed.stop] == payload
            tar = writer.close()
        assert path.read_bytes() == expected
        assert (tar.size, tar.sha256) == (len(expected), hashlib.sha256(expected).hexdigest())


def test_a_sample_that_cannot_be_written_leaves_the_tar_as_it_was(tmp_path: Path) -> None:
    with TarWriter(tmp_path / "a.tar") as writer:
        writer.add(Sample("a", {"txt": b"1"}))
        with pytest.raises(ValueError, match="sample b: its record is no JSON"):
            writer.add(Sample("b", {"txt": b"2"}, {"when": object()}))
        writer.add(Sample("c", {"txt": b"3"}))
        writer.close()
    assert [sample.key for sample in iter_samples((tmp_path / "a.tar").read_bytes())] == ["a", "c"]
