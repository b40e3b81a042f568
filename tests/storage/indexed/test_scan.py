"""Tars that others wrote: read as WebDataset reads them, indexed where they lie, and never read twice."""

import dataclasses
import io
import json
import os
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.storage import open_store
from stoker.storage.errors import CorruptShard, NotFound, StorageRefused
from stoker.storage.indexed import scan as scan_module
from stoker.storage.indexed.indexing import Indexed, index
from stoker.storage.indexed.scan import scan
from stoker.storage.indexed.tars import Tars, expand, find_tars, split_of, store_of_tars
from stoker.storage.shards import records
from stoker.storage.shards.index import ShardIndex
from stoker.storage.shards.tar import END, header
from stoker.storage.shards.tar_headers import TarHeaderParser, iter_files
from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.s3 import S3Store
from stoker.storage.stores.store import Store, StoredObject
from stoker.storage.verification.verify import verify
from stoker.storage.versions import catalog, layout
from stoker.storage.versions.manifest import Manifest, load_manifest
from stoker.storage.versions.work import AtWork, collecting
from tests.storage.foreign_tars import numbered, tar, webdatasets_own
from tests.storage.published import make_version

FORMS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
GOLDEN = Path(__file__).parents[1] / "versions" / "golden" / "manifest-indexed.json"

stems = st.text(st.sampled_from("abcXYZ019_- é#"), min_size=1, max_size=12)
folders = st.text(st.sampled_from("ab.-_"), min_size=1, max_size=8).map(lambda name: f"{name}/")
extensions = st.sampled_from(["jpg", "JPG", "txt", "json", "cls", "seg.png", "a.b.c", ""])
names = st.builds("{}{}{}.{}".format, st.sampled_from(["", "./", "/"]), folders | st.just(""), stems, extensions)
odd = st.sampled_from(["README", "__meta__", "__x__/a.jpg", ".hidden", "a/.hidden", "folder/README", "x.y/z"])
long = st.integers(100, 300).map(lambda size: f"{'d' * 90}/{'n' * (size - 91)}.jpg")
members = st.lists(st.tuples(names | odd | long, st.binary(max_size=1200)), max_size=12)


def read(payload: bytes) -> list[tuple[str, Mapping[str, bytes]]]:
    """Key and fields of each sample of a tar, by its index."""
    store = MemoryStore()
    store.write("a.tar", payload)
    found = scan(store, StoredObject("a.tar", len(payload)))
    assert found is not None
    own = ShardIndex.decode(records.encode(found.index), "a.tar", size=len(payload))
    samples = []
    for row, key in enumerate(own.keys.to_pylist()):
        fields = {}
        for place, extension in enumerate(own.extensions):
            offset, size = int(own.offsets[place, row]), int(own.sizes[place, row])
            if size >= 0:
                fields[extension] = payload[offset : offset + size]
        samples.append((key, fields))
    return samples


def same(payload: bytes) -> bool:
    """Whether a tar is read as WebDataset reads it; a key that came before has a number."""
    try:
        theirs = webdatasets_own(payload)
    except ValueError as error:
        told = str(error)
    else:
        told = ""
    if told:
        assert "duplicate file name" in told
        with pytest.raises(CorruptShard, match=r"a\.tar: at byte \d+: sample .* has two members"):
            read(payload)
        return True
    ours = read(payload)
    assert [fields for _, fields in ours] == [fields for _, fields in theirs]
    assert len({key for key, _ in ours}) == len(ours)
    seen: set[str] = set()
    for (own, _), (key, _) in zip(ours, theirs, strict=True):
        assert own == key if key not in seen and own not in seen else own.startswith(f"{key}#")
        seen |= {key, own}
    return True


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=120, deadline=None)
@given(given_members=members)
def test_the_samples_of_a_tar_by_pythons_writer_are_those_that_webdataset_reads(
    form: int, given_members: list[tuple[str, bytes]]
) -> None:
    pytest.importorskip("webdataset")
    if form == tarfile.USTAR_FORMAT:
        given_members = [one for one in given_members if len(one[0].encode()) <= 100]
    assert same(tar(given_members, form))


@settings(max_examples=40, deadline=None)
@given(
    samples=st.lists(st.dictionaries(extensions.filter(bool), st.binary(max_size=900), min_size=1), max_size=6),
    keys=st.lists(st.builds("{}{}".format, folders | st.just(""), stems), min_size=6, max_size=6),
)
def test_the_samples_of_webdatasets_own_writer_are_those_that_webdataset_reads(
    samples: list[dict[str, bytes]], keys: list[str]
) -> None:
    webdataset = pytest.importorskip("webdataset")
    sink = io.BytesIO()
    with webdataset.TarWriter(sink, encoder=False) as writer:
        for key, fields in zip(keys, samples, strict=False):
            writer.write({"__key__": key} | fields)
    assert same(sink.getvalue())


@settings(max_examples=80, deadline=None)
@given(given_members=members, cuts=st.lists(st.integers(1, 3000), max_size=30))
def test_the_members_are_the_same_in_whatever_pieces_a_tar_comes(
    given_members: list[tuple[str, bytes]], cuts: list[int]
) -> None:
    payload = tar(given_members)
    walker, found, at = TarHeaderParser(len(payload)), [], 0
    for size in [*cuts, len(payload)]:
        found += walker.feed(payload[at : at + size])
        at += size
    walker.end()
    assert found == list(iter_files(memoryview(payload)))


def test_records_and_classes_become_columns_in_whatever_pieces_a_tar_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    payload = tar([*numbered(0, 3), ("x.json", b'{"width": 7, "size": "mine", "deep": {"a": 1}}'), ("y.json", b"[1]")])
    store = MemoryStore()
    store.write("a.tar", payload)
    monkeypatch.setattr(scan_module, "PIECE", 77)
    found = scan(store, StoredObject("a.tar", len(payload)))
    assert found is not None
    assert found.index["label"].to_pylist() == ["0", "1", "2", None, None]
    assert found.index["caption"].to_pylist() == ["number 0", "number 1", "number 2", None, None]
    assert found.index["width"].to_pylist() == [None, None, None, 7, None]
    assert found.index["fields"].to_pylist() == [*["cls jpg json"] * 3, "json", "json"]
    assert found.index["size"].to_pylist()[3:] == [46, 3]
    assert "deep" not in found.index.column_names


def big(size: int) -> bytes:
    """A header with its size in GNU's base-256."""
    field = bytes([0x80]) + size.to_bytes(11, "big")
    block = bytearray(header("a.bin", 0))
    block[124:136] = field
    block[148:156] = b"%06o\0 " % (sum(block) - sum(block[148:156]) + 8 * 32)
    return bytes(block)


def test_sizes_in_base_256_are_read() -> None:
    payload = big(3) + b"abc" + bytes(509) + END
    assert read(payload) == [("a", {"bin": b"abc"})]


def test_a_member_of_ten_gigabytes_is_passed_over_without_being_held() -> None:
    walker = TarHeaderParser(11 * 10**9)
    assert list(walker.feed(big(10**10))) == [("a.bin", 512, 10**10)]
    assert list(walker.feed(bytes(2**20))) == []


@pytest.mark.parametrize("kind", [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_folders_and_links_are_no_samples_whatever_size_they_claim(kind: bytes) -> None:
    payload = tar([("a.txt", b"1")])[:1024] + tar([("b.jpg", b"")], type=kind, linkname="a.txt")[:512]
    payload += tar([("a.cls", b"2")])
    assert read(payload) == webdatasets_own(payload) == [("a", {"txt": b"1", "cls": b"2"})]


def test_names_of_before_utf_8_are_read() -> None:
    payload = tar([("café.txt", b"1")], tarfile.USTAR_FORMAT).replace("café".encode(), b"caf\xe9 ")
    total = sum(payload[:148]) + sum(payload[156:512]) + 8 * 32
    payload = payload[:148] + b"%06o\0 " % total + payload[156:]
    assert read(payload) == [("caf\\xe9 ", {"txt": b"1"})]


def damaged() -> list[tuple[str, bytes, str]]:
    whole = tar(numbered(0, 3))
    return [
        ("empty", b"", "a.tar: at byte 0: the tar ends without its end mark"),
        ("cut", tar([("a.txt", bytes(5000))])[:2000], "a.tar: at byte 0: a member of 5000 bytes, but only 1488 follow"),
        ("no end", whole[: 9 * 1024], "a.tar: at byte 9216: the tar ends without its end mark; it is cut short"),
        ("gzip", b"\x1f\x8b" + bytes(600), "a.tar: at byte 0: .*compressed with gzip .*decompress it"),
        ("zstd", b"(\xb5/\xfd" + bytes(600), "a.tar: at byte 0: .*compressed with zstd"),
        ("a web page", b"<html>" * 200, "a.tar: at byte 0: no tar header"),
        ("sparse", tar([("a.bin", b"1")], type=b"S"), "a.tar: at byte 0: a sparse file"),
        ("a huge name", tar([("n" * 2**20 + ".txt", b"1")]), "an extended header of 10"),
        ("twice", tar([("a.jpg", b"1"), ("a.JPG", b"2")]), "sample 'a' has two members 'jpg'; WebDataset refuses"),
    ]


@pytest.mark.parametrize(("payload", "message"), [pytest.param(two, three, id=one) for one, two, three in damaged()])
def test_a_damaged_tar_is_told_by_its_name_and_byte(payload: bytes, message: str) -> None:
    with pytest.raises(CorruptShard, match=message) as told:
        read(payload)
    assert "\n" not in str(told.value)


def test_names_with_dates_behind_a_dot_are_refused_before_they_fill_memory() -> None:
    with pytest.raises(StorageRefused, match=r"more than 256 different fields.*a key ends at the first dot"):
        read(tar((f"shot.{number}.jpg", b"1") for number in range(300)))


@given(st.binary(max_size=3000))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_samples_or_told(payload: bytes) -> None:
    for given_bytes in (payload, tar([("a.txt", b"1")])[:1024] + payload):
        told = ""
        try:
            read(given_bytes)
        except CorruptShard as error:
            told = str(error)
        assert told == "" or told.startswith("memory:/a.tar: at byte ")


# Versions


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three tars of training and one of validation."""
    for number in range(3):
        put(tmp_path / "tars" / f"train-{number:03d}.tar", tar(numbered(number * 5, 5)))
    put(tmp_path / "tars" / "val-000.tar", tar(numbered(15, 2)))
    return tmp_path / "tars"


def put(path: Path, payload: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(payload)


def indexed(folder: Path | str, to: Store | None = None, corpus: str = "theirs", **options: Any) -> Indexed:
    store = to or open_store(str(Path(folder).parent / "store"))
    found = index(find_tars(str(folder), store), store, corpus, **options)
    assert found is not None
    return found


def test_a_folder_becomes_a_version_whose_tars_stay_where_they_are(folder: Path) -> None:
    done = indexed(folder)
    store = open_store(str(folder.parent / "store"))
    manifest = load_manifest(store, "theirs@1")
    assert manifest == done.manifest
    assert (manifest.tars, manifest.schema, manifest.is_indexed) == (str(folder), 2, True)
    assert {split: one.samples for split, one in manifest.splits.items()} == {"train": 15, "validation": 2}
    assert [shard.key for shard in manifest.shards] == [f"train-00{n}.tar" for n in range(3)] + ["val-000.tar"]
    assert not [one.key for one in store.list() if one.key.endswith(".tar")]
    assert manifest.licences == {"CC0-1.0": 17}
    assert manifest.statistics["validation"]["samples"] == 2
    assert verify(store, manifest).problems == ()


class Elsewhere(MemoryStore):
    """A store under a name of its own."""

    @property
    def url(self) -> str:
        return "s3://laion/tars"


def test_a_manifest_of_an_indexed_corpus_is_this_but_for_what_parquet_writers_decide() -> None:
    store, there = MemoryStore(), Elsewhere()
    there.write("train/000.tar", tar(numbered(0, 3), tarfile.USTAR_FORMAT))
    assert index(Tars(there, tuple(there.list())), store, "theirs") is not None
    content = json.loads(store.read(layout.version("theirs", 1)))
    content |= {"created_at": "varies", "stoker": "varies"}
    content["shards"][0] |= {"index_sha256": "depends on pyarrow", "index_size": 0}
    content["decisions"] |= {"key": "depends on pyarrow", "sha256": "depends on pyarrow", "size": 0}
    assert content == json.loads(GOLDEN.read_bytes())


def test_a_manifest_without_tars_elsewhere_is_written_as_before() -> None:
    store = MemoryStore()
    make_version(store)
    content = json.loads(store.read(layout.version("digits", 1)))
    assert content["schema"] == 1
    assert "tars" not in content


def test_a_manifest_cannot_have_other_files_than_tars_read(folder: Path) -> None:
    content = indexed(folder).manifest.to_json()
    content["shards"][0]["key"] = "secrets.txt"
    with pytest.raises(CorruptShard, match=r"names 'secrets.txt' in .*; expected names that end with .tar"):
        Manifest.from_json(json.loads(json.dumps(content)))


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
    assert sorted(tars) == [tar.key for tar in whole.found]


def test_what_is_indexed_but_not_yet_published_is_not_cleared_away(folder: Path) -> None:
    store = open_store(str(folder.parent / "store"))
    refused: list[str] = []

    def clear(size: int, samples: int) -> None:
        with (
            pytest.raises(AtWork, match="an ingest is under way") as told,
            collecting(store, "theirs", older_than_s=60),
        ):
            pass
        refused.append(str(told.value))

    assert indexed(folder, store, progress=clear).manifest.samples == 17
    assert refused
    with collecting(store, "theirs", older_than_s=60):
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
    found: list[str] = records.decode(store.read(key), columns=["key"])["key"].to_pylist()
    return found


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
    assert (done.manifest.tars, done.manifest.schema) == (None, 1)
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


def test_patterns_name_tars_and_a_missing_one_is_told(folder: Path) -> None:
    done = indexed(f"{folder}/train-{{000..001}}.tar")
    assert [shard.key for shard in done.manifest.shards] == ["train-000.tar", "train-001.tar"]
    assert indexed(f"{folder}/{{train,val}}-000.tar", corpus="b").manifest.samples == 7
    assert indexed(f"{folder}/val-000.tar", corpus="c").manifest.samples == 2
    with pytest.raises(NotFound, match=r"train-003\.tar: no such object and 1 more; correct the pattern"):
        indexed(f"{folder}/train-{{000..004}}.tar")
    with pytest.raises(StorageRefused, match=r"stands for more than 1,000,000 names"):
        indexed(f"{folder}/{{0..99999999}}.tar")
    with pytest.raises(StorageRefused, match=r"expected \{000..127\} or \{a,b\}"):
        indexed(f"{folder}/{{abc}}.tar")


@given(st.integers(0, 200), st.integers(0, 30), st.integers(1, 4))
def test_braces_mean_what_they_mean_to_webdataset(first: int, more: int, width: int) -> None:
    braceexpand = pytest.importorskip("braceexpand").braceexpand
    for pattern in (f"a/{{{first:0{width}d}..{first + more:0{width}d}}}.tar", f"{{x,y}}-{{{first}..{first + more}}}"):
        assert list(expand(pattern)) == list(braceexpand(pattern))


def test_compressed_tars_and_folders_without_tars_are_refused_with_what_next(tmp_path: Path) -> None:
    put(tmp_path / "t" / "a.tar", tar(numbered(0, 1)))
    put(tmp_path / "t" / "b.tar.gz", b"")
    with pytest.raises(StorageRefused, match=r"b\.tar\.gz: a compressed tar.*decompress it"):
        indexed(tmp_path / "t")
    put(tmp_path / "u" / "notes.txt", b"")
    with pytest.raises(NotFound, match=r"no \.tar there among 1 objects; name the folder that holds the tars"):
        indexed(tmp_path / "u")
    with pytest.raises(StorageRefused, match="no such kind"):
        indexed("https://example.org/a.tar", MemoryStore())


@pytest.mark.parametrize(
    ("key", "chosen", "split"),
    [
        ("00001.tar", [], "train"),
        ("val/00001.tar", [], "validation"),
        ("imagenet-train-000.tar", [], "train"),
        ("test/imagenet-valid-000.tar", [], "validation"),
        ("a/TEST2017/000.tar", [], "test"),
        ("contest-000.tar", [], "train"),
        ("val/00001.tar", ["train"], "train"),
        ("b/1.tar", ["test=b/*"], "test"),
        ("a/1.tar", ["test=b/*"], "train"),
    ],
)
def test_a_tars_split_is_the_first_word_that_names_one(key: str, chosen: list[str], split: str) -> None:
    assert split_of(key, chosen) == split


def test_a_chosen_split_must_be_a_word(folder: Path) -> None:
    with pytest.raises(StorageRefused, match="split 'Tr ain'; expected a short lower-case word"):
        indexed(folder, splits=["Tr ain"])
    assert list(indexed(folder, splits=["extra"]).manifest.splits) == ["extra"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), r"train-000\.tar: is missing"),
        (lambda path: put(path, path.read_bytes()[:-512]), r"train-000\.tar: has \d+ bytes, but the manifest says"),
        (
            lambda path: put(path, path.read_bytes().replace(b"number 2", b"number 9")),
            r"train-000\.tar: sha256 .*it was written again; `stoker index` makes a version",
        ),
    ],
)
def test_verifying_tells_a_tar_that_changed(folder: Path, damage: Any, message: str) -> None:
    manifest = indexed(folder).manifest
    damage(folder / "train-000.tar")
    (problem,) = verify(open_store(str(folder.parent / "store")), manifest).problems
    assert re.search(message, problem), problem


def test_verifying_tells_an_index_of_another_tar(folder: Path) -> None:
    manifest = indexed(folder).manifest
    first, second, *rest = manifest.shards
    names = ("index", "index_size", "index_sha256")
    crossed = dataclasses.replace(first, **{name: getattr(second, name) for name in names})
    found = verify(
        open_store(str(folder.parent / "store")), dataclasses.replace(manifest, shards=(crossed, second, *rest))
    )
    assert any("says '000005' of the first sample, but the tar has '000000'" in one for one in found.problems)


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
