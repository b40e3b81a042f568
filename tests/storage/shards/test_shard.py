"""Shards: byte-identical, readable by everybody, and every altered byte is noticed."""

import contextlib
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.storage.errors import CorruptShard
from stoker.storage.shards import records
from stoker.storage.shards.sample import Sample
from stoker.storage.shards.shard import Member, TarSummary, TarWriter, encode_sample, iter_samples
from stoker.storage.shards.tar import header
from stoker.storage.shards.tar_headers import iter_files
from tests.storage.samples import GOLDEN, samples

# A change here means that every shard gets other bytes: raise the format numbers and say so in the changelog.
GOLDEN_SHA256 = "f2f07ec94d2c8b3f2cb272cbe8fad8409b5b8df56a4ecbaec017fdc8993979cd"
GOLDEN_SIZE = 11776


def write(path: Path, chosen: Sequence[Sample]) -> TarSummary:
    with TarWriter(path) as writer:
        for sample in chosen:
            writer.add(sample)
        return writer.close()


def packed(chosen: Sequence[Sample]) -> bytes:
    return b"".join(encode_sample(sample)[0] for sample in chosen) + bytes(1024)


def test_a_shards_bytes_are_these(tmp_path: Path) -> None:
    tar = write(tmp_path / "a.tar", GOLDEN)
    assert (tar.sha256, tar.size) == (GOLDEN_SHA256, GOLDEN_SIZE)
    assert tar.samples == len(GOLDEN)
    payload = (tmp_path / "a.tar").read_bytes()
    assert hashlib.sha256(payload).hexdigest() == tar.sha256
    assert len(payload) == tar.size


@pytest.mark.parametrize(("name", "size"), [("a.jpg", 0), ("k" * 80 + "." + "e" * 19, 123_456), ("x.txt", 8**11 - 1)])
def test_headers_say_what_the_standard_library_reads(name: str, size: int) -> None:
    info = tarfile.TarInfo.frombuf(header(name, size), "ascii", "strict")  # it checks the checksum
    assert (info.name, info.size, info.mode, info.type) == (name, size, 0o644, tarfile.REGTYPE)
    assert (info.uid, info.gid, info.uname, info.gname, info.mtime) == (0, 0, "", "", 0)


@pytest.mark.parametrize(("name", "size"), [("x" * 101, 1), ("a", 8**11), ("a", -1)])
def test_what_does_not_fit_a_header_is_not_written(name: str, size: int) -> None:
    with pytest.raises(ValueError, match="expected at most 100 characters and 8 GiB"):
        header(name, size)


def test_an_empty_shard_is_a_tar(tmp_path: Path) -> None:
    assert write(tmp_path / "a.tar", []) == TarSummary(0, 1024, hashlib.sha256(bytes(1024)).hexdigest())
    assert list(iter_samples(bytes(1024))) == []


@given(st.lists(samples, max_size=4, unique_by=lambda sample: sample.key))
@settings(max_examples=150, deadline=None)
def test_what_is_packed_is_read_back(chosen: list[Sample]) -> None:
    found = list(iter_samples(packed(chosen)))
    assert found == [Sample(one.key, one.fields, one.record) for one in chosen]
    assert [list(one.fields) for one in found] == [sorted(one.fields) for one in chosen]


@given(st.lists(samples, max_size=4, unique_by=lambda sample: sample.key))
@settings(max_examples=50, deadline=None)
def test_the_standard_library_reads_the_same_members(chosen: list[Sample]) -> None:
    payload = packed(chosen)
    with tarfile.open(fileobj=io.BytesIO(payload)) as tar:
        theirs = [(one.name, one.offset_data, one.size) for one in tar]
    assert theirs == list(iter_files(memoryview(payload)))


def test_a_sample_lies_where_the_writer_says(tmp_path: Path) -> None:
    with TarWriter(tmp_path / "a.tar") as writer:
        placed = [writer.add(sample) for sample in GOLDEN]
        writer.close()
    payload = (tmp_path / "a.tar").read_bytes()
    assert [one.start for one in placed[1:]] == [one.stop for one in placed[:-1]]
    for sample, one in zip(GOLDEN, placed, strict=True):
        fields = {member.extension: payload[member.offset : member.offset + member.size] for member in one.members}
        record = json.loads(fields.pop("json"))
        assert one.key == sample.key == record["key"]
        assert fields == sample.fields
        assert [member.extension for member in one.members] == [*sorted(sample.fields), "json"]


def test_copied_regions_make_the_same_shard(tmp_path: Path) -> None:
    tar = write(tmp_path / "a.tar", GOLDEN)
    with TarWriter(tmp_path / "b.tar") as writer:
        placed = []
        for sample in GOLDEN:
            payload, members = encode_sample(sample)
            placed.append(writer.add_encoded(sample.key, memoryview(payload), members))
        assert writer.close() == tar
    with TarWriter(tmp_path / "c.tar") as writer:
        assert [writer.add(sample) for sample in GOLDEN] == placed


def test_a_region_that_is_not_whole_blocks_is_a_bug(tmp_path: Path) -> None:
    with TarWriter(tmp_path / "a.tar") as writer, pytest.raises(ValueError, match="multiple of 512"):
        writer.add_encoded("a", b"x" * 513, [Member("txt", 0, 1)])


def test_measures_stay_out_of_the_tar() -> None:
    one = Sample("a", {"txt": b"x"}, {"url": "u"}, {"fetched_at": "now"})
    other = Sample("a", {"txt": b"x"}, {"url": "u"}, {"fetched_at": "later"})
    assert encode_sample(one) == encode_sample(other)


def test_numbers_that_json_lacks_become_null() -> None:
    sample = Sample("a", {}, {"score": float("nan"), "deep": [{"x": float("inf")}], "fine": 1.5})
    (found,) = iter_samples(packed([sample]))
    assert found.record == {"score": None, "deep": [{"x": None}], "fine": 1.5}


def test_a_record_that_is_no_json_is_told_by_its_sample() -> None:
    with pytest.raises(ValueError, match="sample a: its record is no JSON"):
        encode_sample(Sample("a", {}, {"when": object()}))


def damaged() -> list[tuple[str, bytes, str]]:
    whole = packed(GOLDEN)
    first = encode_sample(GOLDEN[0])[0]
    twice = encode_sample(Sample("a", {"txt": b"1"}))[0][:1024] * 2 + bytes(1024)
    no_json = header("a.json", 5) + b"{nope" + bytes(507)
    listed = header("a.json", 2) + b"[]" + bytes(510) + bytes(1024)
    name = bytearray(header("a.txt", 1))
    name[0] ^= 1
    return [
        ("nothing", b"", "at byte 0: the tar ends without its end mark"),
        ("cut in a header", whole[:300], "at byte 0: the tar ends without its end mark"),
        (
            "cut in a payload",
            header("a.txt", 600) + bytes(88),
            "at byte 0: a member of 600 bytes, but only 88 follow; it is cut short",
        ),
        ("cut between samples", first, f"at byte {len(first)}: the tar ends without its end mark; it is cut short"),
        ("an altered header", bytes(name) + b"x" * 512 + bytes(1024), "at byte 0: no tar header, or an altered one"),
        ("no tar", b"<html>" * 500, "at byte 0: no tar header"),
        ("a doubled field", twice, "at byte 1536: sample 'a' has two members 'txt'"),
        ("a bad record", no_json + bytes(1024), "a record that is no JSON"),
        ("a record that is a list", listed, "a record that is list, expected a JSON object"),
        ("a key of another kind", header("a b.txt", 0) + bytes(1024), "at byte 512: sample key 'a b'"),
        ("a member called so", header("a.j!g", 0) + bytes(1024), "at byte 512: sample a: field 'j!g'"),
    ]


@pytest.mark.parametrize(("payload", "message"), [pytest.param(two, three, id=one) for one, two, three in damaged()])
def test_a_damaged_shard_is_told_with_its_place(payload: bytes, message: str) -> None:
    with pytest.raises(CorruptShard, match=message):
        list(iter_samples(payload))


@given(st.integers(0, len(packed(GOLDEN)) - 1), st.integers(0, 7))
@settings(max_examples=300, deadline=None)
def test_a_flipped_bit_changes_the_samples_or_is_told_but_never_crashes(place: int, bit: int) -> None:
    payload = bytearray(packed(GOLDEN))
    payload[place] ^= 1 << bit
    told = ""
    try:
        list(iter_samples(bytes(payload)))
    except CorruptShard as error:
        told = str(error)
    assert told == "" or told.startswith("at byte ")


@given(st.binary(max_size=3000))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_samples_or_corrupt(payload: bytes) -> None:
    for given_bytes in (payload, packed(GOLDEN)[:1024] + payload):
        with contextlib.suppress(CorruptShard):
            list(iter_samples(given_bytes))


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tars_of_other_writers_are_read(form: int) -> None:
    sink = io.BytesIO()
    long = "x" * 60 + "/" + "y" * 70
    with tarfile.open(fileobj=sink, mode="w", format=form) as tar:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, payload in [("a.JPG", b"one"), ("a.txt", b"two"), ("README", b"no sample"), (f"{long}.txt", b"3")]:
            info = tarfile.TarInfo(name)
            info.size = len(payload)
            info.uid, info.uname, info.mtime = 1000, "someone", 1.5e9
            tar.addfile(info, io.BytesIO(payload))
    found = [(name, sink.getvalue()[offset : offset + size]) for name, offset, size in iter_files(sink.getbuffer())]
    assert found == [("a.JPG", b"one"), ("a.txt", b"two"), ("README", b"no sample"), (f"{long}.txt", b"3")]


def test_the_tar_command_lists_it(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", GOLDEN)
    done = subprocess.run(["tar", "-tvf", tmp_path / "a.tar"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert [line.split()[-1] for line in done.stdout.splitlines()][:3] == ["cat-1.cls", "cat-1.jpg", "cat-1.json"]


@pytest.mark.slow
def test_writing_keeps_up_with_hashing_and_copying(tmp_path: Path) -> None:
    """Small samples are the hard case: most of the time goes into headers, not bytes."""
    payload = os.urandom(20_000)
    chosen = [Sample(f"sample-{number:06d}", {"jpg": payload}, {"label": 1}) for number in range(5_000)]
    started = time.perf_counter()
    tar = write(tmp_path / "a.tar", chosen)
    ours = time.perf_counter() - started
    started = time.perf_counter()
    with (tmp_path / "b").open("wb") as file:
        seen = hashlib.sha256()
        for _ in range(5_000):
            file.write(payload)
            seen.update(payload)
    floor = time.perf_counter() - started
    assert tar.size > 100_000_000
    assert ours < 4 * floor + 0.2, f"{ours:.2f} s for what plain writing and hashing does in {floor:.2f} s"


def test_a_shards_index_is_read_with_few_imports() -> None:
    member = {"extension": "txt", "offset": 512, "size": 1}
    payload = records.encode([{"key": "a", "start": 0, "stop": 1024, "members": [member]}])
    code = (
        "import sys; from stoker.storage.shards.index import ShardIndex; "
        "print(ShardIndex.decode(sys.stdin.buffer.read(), '').starts, "
        "{'pandas', 'pyarrow.compute'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], input=payload, capture_output=True, check=True)
    assert done.stdout.split() == [b"[0]", b"set()"]  # they take 0.3 s, of a training's first batch
