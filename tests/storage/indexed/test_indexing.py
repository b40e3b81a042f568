"""External tars are indexed in place, and no tar is read twice."""

import dataclasses
import io
import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stoker.storage import open_store
from stoker.storage.errors import CorruptShard, StorageRefused
from stoker.storage.indexed.indexing import index
from stoker.storage.indexed.tars import Tars, find_tars
from stoker.storage.shards import records
from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.s3 import S3Store
from stoker.storage.stores.store import Store, StoredObject
from stoker.storage.verification.verify import verify
from stoker.storage.versions import catalog, layout
from stoker.storage.versions.manifest import load_manifest, publish
from stoker.storage.versions.masks.view import with_masks
from stoker.storage.versions.tar_store import store_of_tars
from stoker.storage.versions.version import Version
from stoker.storage.versions.work import CorpusBusy, gc_lease
from tests.storage.external_tars import indexed, numbered, put, tar
from tests.storage.published import make_version, old_json

GOLDEN = Path(__file__).parents[1] / "versions" / "golden" / "manifest-indexed.json"  # as earlier releases wrote it


def test_a_folder_becomes_a_version_whose_tars_stay_where_they_are(folder: Path) -> None:
    done = indexed(folder)
    store = open_store(str(folder.parent / "store"))
    manifest = load_manifest(store, "theirs@1")
    assert manifest == done.manifest
    assert (manifest.tars, manifest.schema, manifest.is_indexed) == (str(folder), 3, True)
    assert {split: totals.samples for split, totals in manifest.splits.items()} == {"train": 15, "validation": 2}
    assert [shard.key for shard in manifest.shards] == [f"train-00{n}.tar" for n in range(3)] + ["val-000.tar"]
    assert not [stored.key for stored in store.list() if stored.key.endswith(".tar")]
    assert manifest.licences == {"CC0-1.0": 17}
    assert manifest.statistics["validation"]["samples"] == 2
    assert verify(store, manifest).problems == ()


class OtherStore(MemoryStore):
    """A store with another URL."""

    url = "s3://laion/tars"

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """Without change tokens, as of a server that has none."""
        return (StoredObject(stored.key, stored.size) for stored in super().list(prefix))


def test_a_manifest_of_an_indexed_corpus_is_this_but_for_what_parquet_writers_decide() -> None:
    store, there = MemoryStore(), OtherStore()
    there.write("train/000.tar", tar(numbered(0, 3), tarfile.USTAR_FORMAT))
    assert index(Tars(there, tuple(there.list())), store, "theirs") is not None
    content = old_json(load_manifest(store, "theirs"))
    content |= {"created_at": "varies", "stoker": "varies"}
    content["shards"][0] |= {"index_sha256": "depends on pyarrow", "index_size": 0}
    content["decisions"] |= {"key": "depends on pyarrow", "sha256": "depends on pyarrow", "size": 0}
    assert content == json.loads(GOLDEN.read_bytes())


@pytest.mark.parametrize("old", [True, False])
def test_a_manifest_cannot_have_other_files_than_tars_read(folder: Path, old: bool) -> None:
    store = MemoryStore()
    manifest = indexed(folder, store).manifest
    secret = replace(manifest, shards=(replace(manifest.shards[0], key="secrets.txt"), *manifest.shards[1:]))
    if old:
        store.write(layout.version("theirs", 1), json.dumps(old_json(secret)).encode())
    else:
        store.delete(layout.version("theirs", 1))
        publish(store, secret)
    with pytest.raises(CorruptShard, match=r"names 'secrets.txt' as a tar; expected names that end with .tar"):
        _ = load_manifest(store, "theirs").shards[0]


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tars that are read from now on."""
    read_: list[str] = []
    plain = DirectoryStore.read

    def read(self: DirectoryStore, key: str, *, start: int = 0, size: int | None = None) -> bytes:
        if key.endswith(".tar"):
            read_.append(key)
        return plain(self, key, start=start, size=size)

    monkeypatch.setattr(DirectoryStore, "read", read)
    return read_


def test_what_did_not_change_is_not_read_again_and_makes_no_version(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = indexed(folder)
    tars = counted(monkeypatch)
    again = indexed(folder)
    assert (again.new, again.manifest, tars) == (False, first.manifest, [])
    put(folder / "train-003.tar", tar(numbered(100, 4)))
    more = indexed(folder)
    assert (more.new, more.read, tars) == (True, 1, ["train-003.tar"])
    assert (more.manifest.version, more.manifest.parent, more.manifest.samples) == (2, 1, 21)
    assert more.manifest.shards[:3] == first.manifest.shards[:3]


def test_a_tar_that_was_written_again_is_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = indexed(folder)
    path = folder / "train-001.tar"
    os.utime(path, ns=(1, 1))
    tars = counted(monkeypatch)
    same_bytes = indexed(folder)
    assert (same_bytes.new, tars) == (False, ["train-001.tar"])
    before = path.read_bytes()
    put(path, before.replace(b"CC0-1.0", b"CC0-2.0"))
    other = indexed(folder)
    assert (other.new, other.manifest.licences) == (True, {"CC0-1.0": 12, "CC0-2.0": 5})
    assert other.manifest.content != first.manifest.content


def test_a_stopped_run_goes_on_and_reads_no_tar_twice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tars = counted(monkeypatch)
    store = open_store(str(folder.parent / "store"))
    whole = find_tars(str(folder), store)
    done: list[int] = []
    stopped = index(
        whole, store, "theirs", workers=1, progress=lambda size, samples: done.append(samples), stop=lambda: any(done)
    )
    assert stopped is None
    assert catalog.versions(store, "theirs") == []
    assert 0 < len(tars) < 4
    assert indexed(folder).manifest.samples == 17
    assert sorted(tars) == [tar.key for tar in whole.objects]


def test_what_is_indexed_but_not_yet_published_is_not_cleared_away(folder: Path) -> None:
    store = open_store(str(folder.parent / "store"))
    refused: list[str] = []

    def clear(size: int, samples: int) -> None:
        with (
            pytest.raises(CorpusBusy, match="an ingest is under way") as told,
            gc_lease(store, "theirs", older_than_s=60),
        ):
            pass
        refused.append(str(told.value))

    assert indexed(folder, store, progress=clear).manifest.samples == 17
    assert refused
    with gc_lease(store, "theirs", older_than_s=60):
        pass


def test_a_damaged_tar_is_named_nothing_is_published_and_the_others_stay_done(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (folder / "train-001.tar").read_bytes()
    put(folder / "train-001.tar", whole[:3000])
    store = open_store(str(folder.parent / "store"))
    with pytest.raises(CorruptShard, match=r"1 of 4 tars cannot be read, nothing was published: .*train-001\.tar: at"):
        indexed(folder)
    assert catalog.versions(store, "theirs") == []
    put(folder / "train-001.tar", whole)
    tars = counted(monkeypatch)
    assert indexed(folder).manifest.samples == 17
    assert tars == ["train-001.tar"]


def test_keys_that_come_again_in_other_tars_get_their_tars_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = indexed(folder)
    assert not first.prefixed
    put(folder / "b" / "train-000.tar", tar(numbered(3, 4)))
    tars = counted(monkeypatch)
    more = indexed(folder)
    assert (more.prefixed, tars) == (True, ["b/train-000.tar"])
    store = open_store(str(folder.parent / "store"))
    keys = [key for shard in more.manifest.shards for key in _keys(store, shard.index)]
    assert len(set(keys)) == len(keys) == 21
    assert {"train-000/000003", "b/train-000/000003"} <= set(keys)
    assert verify(store, more.manifest).problems == ()
    assert not indexed(folder).new


def _keys(store: Store, key: str) -> list[str]:
    keys: list[str] = records.decode(store.read(key), columns=["key"])["key"].to_pylist()
    return keys


def test_keys_that_interleave_over_tars_but_are_unique_stay_as_they_are(tmp_path: Path) -> None:
    for number in range(3):
        put(tmp_path / "t" / f"{number}.tar", tar((f"{key:04d}.txt", b"1") for key in range(number, 30, 3)))
    assert not indexed(tmp_path / "t").prefixed


def test_members_that_lie_apart_are_two_samples_and_counted(tmp_path: Path) -> None:
    put(tmp_path / "t" / "a.tar", tar([("a.jpg", b"1"), ("b.jpg", b"2"), ("a.txt", b"3"), ("README", b"4")]))
    done = indexed(tmp_path / "t")
    store = open_store(str(tmp_path / "store"))
    assert _keys(store, done.manifest.shards[0].index) == ["a", "b", "a#2"]
    assert (done.repeated, done.left_out) == (1, 1)


def test_empty_tars_are_part_of_a_version(folder: Path) -> None:
    put(folder / "train-900.tar", tar([]))
    done = indexed(folder)
    assert [shard.samples for shard in done.manifest.shards] == [5, 5, 5, 0, 2]
    assert verify(open_store(str(folder.parent / "store")), done.manifest).problems == ()


def test_a_corpus_that_a_recipe_makes_is_not_touched(folder: Path) -> None:
    store = MemoryStore()
    make_version(store)
    with pytest.raises(StorageRefused, match="digits@1 was made by a recipe; give the indexed corpus another name"):
        indexed(folder, store, "digits")


def test_tars_in_the_corpuss_own_store_move_with_it(folder: Path, tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    done = indexed(folder, store)
    assert (done.manifest.tars, done.manifest.schema) == (None, 3)
    assert done.manifest.shards[0].key == "tars/train-000.tar"
    assert verify(store, done.manifest).problems == ()
    assert not indexed(folder, store).new
    beside = open_store(str(folder))
    assert indexed(folder, beside).manifest.shards[0].key == "train-000.tar"


def test_links_out_of_the_folder_are_followed_as_the_hub_makes_them(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "snapshot").mkdir()
    for path in folder.iterdir():
        (tmp_path / "snapshot" / path.name).symlink_to(path)
    done = indexed(tmp_path / "snapshot")
    assert done.manifest.samples == 17
    assert verify(open_store(str(tmp_path / "store")), done.manifest).problems == ()
    own = open_store(str(tmp_path / "snapshot"))
    assert indexed(tmp_path / "snapshot", own, "links").manifest.tars == str(tmp_path / "snapshot")


def test_tars_in_s3_are_read_once_in_pieces_and_known_again(
    s3_store: S3Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in folder.iterdir():
        s3_store.write(f"tars/{path.name}", path)
    url = f"{s3_store.url}/tars"
    for to in (dataclasses.replace(s3_store, prefix=f"{s3_store.prefix}/corpora"), s3_store):
        done = indexed(url, to)
        assert done.manifest.samples == 17
        assert done.manifest.tars == (None if to is s3_store else url)
        assert verify(to, load_manifest(to, "theirs")).problems == ()
        assert store_of_tars(to, done.manifest).read(done.manifest.shards[0].key, size=512)
        again = indexed(f"{url}/{{train,val}}-000.tar", to)
        assert (again.new, again.read) == (True, 0), "known by its size and tag"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "wrong")
    local = open_store(
        str(folder.parent / "store"),
        endpoint=s3_store.endpoint,
        access_key=s3_store.access_key,
        secret_key=s3_store.secret_key,
    )
    assert indexed(url, local).manifest.tars == url
    payload = local.read(layout.version("theirs", 1))
    assert (s3_store.secret_key or "none").encode() not in payload
    assert verify(local, load_manifest(local, "theirs")).problems == ()


def test_a_hostile_tar_writes_nothing_beside_the_store(tmp_path: Path) -> None:
    """A link, then a member through it; names that lead out; a device: none of them becomes a file or a sample."""
    outside = tmp_path / "outside"
    outside.mkdir()
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as writer:

        def add(name: str, payload: bytes = b"", kind: bytes = tarfile.REGTYPE, to: str = "") -> None:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, to, len(payload)
            writer.addfile(info, io.BytesIO(payload))

        add("good.txt", b"good")
        add("way", kind=tarfile.SYMTYPE, to=str(outside))
        add("way/through.txt", b"evil")
        add("hard.txt", kind=tarfile.LNKTYPE, to="/etc/passwd")
        add("device.txt", kind=tarfile.CHRTYPE)
        add("../../outside/up.txt", b"evil")
        add(f"{outside}/absolute.txt", b"evil")
    put(tmp_path / "tars" / "a.tar", sink.getvalue())
    store = DirectoryStore(tmp_path / "store")
    indexed(tmp_path / "tars", store)
    files = {path for path in tmp_path.rglob("*") if not path.is_dir() and store.root not in path.parents}
    assert files == {tmp_path / "tars" / "a.tar"}
    assert verify(store, load_manifest(store, "theirs")).problems == ()


def test_so_many_tars_may_be_damaged_and_they_are_listed(folder: Path) -> None:
    whole = (folder / "train-001.tar").read_bytes()
    put(folder / "train-001.tar", whole[:6000])
    with pytest.raises(CorruptShard, match="--skip-damaged 1` takes of them what lies before the damage"):
        indexed(folder)
    done = indexed(folder, skip_damaged=1)
    assert 0 < done.manifest.samples < 17
    assert "train-001.tar: at byte" in done.losses[0]
    assert done.losses[0].endswith("what follows was not read")
    store = open_store(str(folder.parent / "store"))
    assert verify(store, done.manifest).problems == ()
    put(folder / "more.tar", whole[:7000])
    with pytest.raises(CorruptShard, match="2 of 5 tars"):
        indexed(folder, skip_damaged=1)
    with pytest.raises(CorruptShard, match="2 of 5 tars"):
        indexed(folder)
    assert indexed(folder, skip_damaged=2).manifest.version == 2


def test_what_was_lost_is_told_each_time_also_of_tars_that_are_not_read_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twice = [
        ("img.v1.0.jpg", b"1"),
        ("img.v1.0.jpg", b"2"),
        ("README", b"x"),
        ("b.jpg", b"1"),
        ("b.json", b'{"key": 1}'),
    ]
    put(folder / "more.tar", tar(twice))
    whole = (folder / "train-001.tar").read_bytes()
    put(folder / "train-001.tar", whole[:6000])
    for prefixed in (False, True):
        if prefixed:
            put(folder / "same.tar", tar([("b.jpg", b"other")]))
        first = indexed(folder, skip_damaged=1)
        assert (first.new, first.prefixed, first.left_out, len(first.notes)) == (True, prefixed, 1, 2)
        assert any("has a 'v1.0.jpg' already" in loss for loss in first.losses)
        tars = counted(monkeypatch)
        for most in (0, 1):
            assert indexed(folder, skip_damaged=most) == dataclasses.replace(first, new=False, read=0)
        assert tars == []
    # A marker that is lost costs reading its tar again, and no more.
    store = open_store(str(folder.parent / "store"))
    group = first.manifest.shards[0].group
    store.delete(layout.group("theirs", group))
    again = indexed(folder, skip_damaged=1)
    assert (again.new, again.losses, again.manifest) == (False, first.losses, first.manifest)
    assert store.read(layout.group("theirs", group))


def test_the_rule_of_keys_is_part_of_what_a_tar_is_known_by(tmp_path: Path) -> None:
    put(tmp_path / "t" / "a.tar", tar([("img.v1.0.jpg", b"1"), ("img.v1.1.jpg", b"2")]))
    store = open_store(str(tmp_path / "store"))
    assert indexed(tmp_path / "t").manifest.samples == 1
    last = indexed(tmp_path / "t", key="last").manifest
    assert (last.version, last.samples) == (2, 2)
    assert verify(store, last).problems == ()


def _alter(path: Path, old: bytes, new: bytes, how: str) -> None:
    """Other bytes under the same size and time."""
    status, payload = path.stat(), path.read_bytes()
    assert payload.count(old)
    written = path.with_name("new") if how == "replaced" else path
    written.write_bytes(payload.replace(old, new))
    os.utime(written, ns=(status.st_atime_ns, status.st_mtime_ns))
    written.replace(path)
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (status.st_size, status.st_mtime_ns)


ALTERED = [
    pytest.param(b"CC0-1.0", b"CC0-2.0", id="records"),
    pytest.param(b"\xff\xd810", b"\xff\xd811", id="pictures"),  # the index stays as it is
]


@pytest.mark.parametrize("prefixed", [False, True])
@pytest.mark.parametrize("how", ["in place", "replaced"])
@pytest.mark.parametrize(("old", "new"), ALTERED)
def test_a_tar_that_was_altered_under_its_size_and_time_is_read_again(
    folder: Path, old: bytes, new: bytes, how: str, prefixed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(str(folder.parent / "store"))
    if prefixed:
        put(folder / "b" / "train-000.tar", tar(numbered(3, 4)))
    first = indexed(folder).manifest
    _alter(folder / "train-002.tar", old, new, how)
    tars = counted(monkeypatch)
    other = indexed(folder)
    assert (other.new, other.read, other.manifest.version, tars) == (True, 1, 2, ["train-002.tar"])
    assert verify(store, other.manifest).problems == ()
    assert [problem for problem in verify(store, first).problems if "train-002.tar: sha256" not in problem] == []
    tars.clear()
    assert (indexed(folder).new, tars) == (False, [])


@pytest.mark.parametrize("prefixed", [False, True])
@pytest.mark.parametrize(("old", "new"), ALTERED)
def test_what_no_listing_tells_is_found_by_reading_all_again(
    folder: Path, old: bytes, new: bytes, prefixed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DirectoryStore, "list", _without_changes(DirectoryStore.list))
    store = open_store(str(folder.parent / "store"))
    if prefixed:
        put(folder / "b" / "train-000.tar", tar(numbered(3, 4)))
    first = indexed(folder).manifest
    _alter(folder / "train-002.tar", old, new, "in place")
    assert not indexed(folder).new
    (problem,) = verify(store, first).problems
    assert f"`stoker index {folder} --as theirs --again` makes a version" in problem
    other = indexed(folder, again=True)
    assert (other.new, other.read) == (True, 4 + prefixed)
    assert verify(store, other.manifest).problems == ()
    assert len(verify(store, first).problems) == 1
    tars = counted(monkeypatch)
    for _ in range(2):
        assert (indexed(folder).manifest, tars) == (other.manifest, [])
    assert not indexed(folder, again=True).new
    store.delete(other.manifest.shards[-2].index)
    assert not indexed(folder).new
    assert verify(store, other.manifest).problems == ()


def _without_changes(plain: Any) -> Any:  # Any: the method of a class
    """Listings as of a disk that altered bytes without a write."""
    return lambda self, prefix="": (dataclasses.replace(one, file_changed="1") for one in plain(self, prefix))


def test_tars_of_an_older_release_are_taken_as_they_are_and_known_better_from_then_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(str(folder.parent / "store"))
    for prefixed in (False, True):
        if prefixed:
            put(folder / "b" / "train-000.tar", tar(numbered(3, 4)))
        first = indexed(folder)
        for stored in [*store.list("theirs/shards/")]:
            if stored.key.endswith(".json"):
                marker = json.loads(store.read(stored.key))
                if "moved_to" in marker:
                    continue
                del marker["file_changed"], marker["checksum"]
                store.write(stored.key, json.dumps(marker, sort_keys=True).encode())
        tars = counted(monkeypatch)
        for _ in range(2):
            assert indexed(folder) == dataclasses.replace(first, new=False, read=0)
        assert tars == []
        _alter(folder / "train-002.tar", b"\xff\xd810", b"\xff\xd811", "in place")
        assert indexed(folder).new
        assert tars == ["train-002.tar"]
        _alter(folder / "train-002.tar", b"\xff\xd811", b"\xff\xd810", "in place")


def test_an_altered_tar_is_not_forgotten_by_a_run_that_publishes_nothing(folder: Path) -> None:
    assert indexed(folder).new
    _alter(folder / "train-000.tar", b"\xff\xd80", b"\xff\xd89", "in place")
    whole = (folder / "train-001.tar").read_bytes()
    put(folder / "train-001.tar", whole[:3000])
    with pytest.raises(CorruptShard, match="1 of 4 tars"):
        indexed(folder)
    put(folder / "train-001.tar", whole)
    assert (indexed(folder).new, indexed(folder).new) == (True, False)


def test_a_damaged_manifest_is_left_behind_by_the_next_version_as_its_message_says(folder: Path) -> None:
    store = open_store(str(folder.parent / "store"))
    first = indexed(folder).manifest
    store.write(layout.version("theirs", 1), b'{"schema": 2')
    with pytest.raises(CorruptShard, match="or give the same `stoker index` command again: that publishes the next"):
        load_manifest(store, "theirs", 1)
    second = indexed(folder)
    assert (second.new, second.read, second.manifest.version, second.manifest.parent) == (True, 0, 2, 1)
    assert second.manifest.shards == first.shards
    assert (indexed(folder).new, verify(store, second.manifest).problems) == (False, ())
    with pytest.raises(CorruptShard, match="restore it from a copy; newer versions do not need it"):
        load_manifest(store, "theirs", 1)
    store.write(layout.version("theirs", 2), b"")
    assert indexed(folder).manifest.version == 3


@pytest.mark.parametrize("harmed", ["manifest", "shards", "masks", "statistics"])
def test_what_a_damaged_version_may_mask_does_not_come_back(folder: Path, harmed: str) -> None:
    base = indexed(folder).manifest
    store = open_store(str(folder.parent / "store"))
    view = with_masks(store, base, [sample.key for sample in Version(store, base)][:1])
    lists = {file.key.split("/")[2].partition("-")[0]: file.key for file in load_manifest(store, "theirs").lists}
    store.write(layout.version("theirs", view.version) if harmed == "manifest" else lists[harmed], b"harmed")
    for _ in range(2):
        with pytest.raises(CorruptShard, match=r"restore it from a copy, or index its tars under another name"):
            indexed(folder)
    assert catalog.versions(store, "theirs") == [1, 2]
    assert indexed(folder, store, "other").manifest.samples == base.samples


def test_what_is_masked_in_a_tar_stays_out_when_tars_are_indexed_again(folder: Path) -> None:
    base = indexed(folder).manifest
    store = open_store(str(folder.parent / "store"))
    keys = [sample.key for sample in Version(store, base)]
    view = with_masks(store, with_masks(store, base, keys[:1]), keys[7:9])
    again = indexed(folder)
    assert (again.new, again.manifest) == (False, view)
    put(folder / "train-003.tar", tar(numbered(100, 3)))
    os.utime(folder / "train-000.tar", (1, 1))  # of the same bytes, read again
    more = indexed(folder).manifest
    assert (more.parent, more.samples, more.masked) == (view.version, len(keys), 3)
    left = [key for key in keys if key not in (keys[0], *keys[7:9])]
    assert [sample.key for sample in Version(store, more) if sample.key in keys] == left
    assert verify(store, more).problems == ()
    put(folder / "train-001.tar", tar(numbered(5, 5, folder="other/")))
    assert indexed(folder).manifest.masked == 1


def test_another_rule_for_keys_brings_masked_samples_back_and_says_so(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = indexed(folder).manifest
    store = open_store(str(folder.parent / "store"))
    view = with_masks(store, base, [sample.key for sample in Version(store, base)][:2])
    found = indexed(folder, key="last").manifest
    assert (found.masked, found.samples) == (0, base.samples)
    assert f"{found.reference} holds the 2 samples again that {view.reference} masks" in caplog.text
    assert "give the command with the rule 'first'" in caplog.text
