"""Any tar is read as WebDataset reads it, and a corrupt one is reported."""

import io
import json
import random
import tarfile
from collections.abc import Mapping
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.storage.errors import CorruptShard, StorageRefused
from stoker.storage.indexed import scan as scan_module
from stoker.storage.indexed.scan import Scanned, scan
from stoker.storage.shards import records
from stoker.storage.shards.index import ShardIndex
from stoker.storage.shards.tar import END, header
from stoker.storage.shards.tar_headers import TarHeaderParser, iter_files
from stoker.storage.statistics.summary import summarise
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.store import StoredObject
from tests.storage.external_tars import numbered, read_by_webdataset, tar

FORMS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]

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
    scanned = scan(store, StoredObject("a.tar", len(payload)))
    assert scanned is not None
    index = ShardIndex.decode(records.encode(scanned.index), "a.tar", size=len(payload))
    samples: list[tuple[str, Mapping[str, bytes]]] = []
    for row, key in enumerate(index.keys.to_pylist()):
        fields = {}
        for column, extension in enumerate(index.extensions):
            offset, size = int(index.offsets[column, row]), int(index.sizes[column, row])
            if size >= 0:
                fields[extension] = payload[offset : offset + size]
        samples.append((key, fields))
    return samples


def same(payload: bytes) -> bool:
    """Whether a tar is read as WebDataset reads it; a key that came before has a number."""
    try:
        theirs = read_by_webdataset(payload)
    except ValueError as error:
        told = str(error)
    else:
        told = ""
    if told:
        assert "duplicate file name" in told
        store = MemoryStore()
        store.write("a.tar", payload)
        scanned = scan(store, StoredObject("a.tar", len(payload)))
        assert scanned is not None
        assert any(" already" in loss for loss in scanned.losses), scanned.losses
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
        given_members = [member for member in given_members if len(member[0].encode()) <= 100]
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
    parser, offset = TarHeaderParser(len(payload)), 0
    files: list[tuple[str, int, int]] = []
    for size in [*cuts, len(payload)]:
        files += parser.feed(payload[offset : offset + size])
        offset += size
    parser.end()
    assert files == list(iter_files(memoryview(payload)))


def test_records_and_classes_become_columns_in_whatever_pieces_a_tar_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    payload = tar([*numbered(0, 3), ("x.json", b'{"width": 7, "size": "mine", "deep": {"a": 1}}'), ("y.json", b"[1]")])
    store = MemoryStore()
    store.write("a.tar", payload)
    monkeypatch.setattr(scan_module, "CHUNK", 77)
    scanned = scan(store, StoredObject("a.tar", len(payload)))
    assert scanned is not None
    assert scanned.index["label"].to_pylist() == ["0", "1", "2", None, None]
    assert scanned.index["caption"].to_pylist() == ["number 0", "number 1", "number 2", None, None]
    assert scanned.index["width"].to_pylist() == [None, None, None, 7, None]
    assert scanned.index["fields"].to_pylist() == [*["cls jpg json"] * 3, "json", "json"]
    assert scanned.index["size"].to_pylist()[3:] == [46, 3]
    assert scanned.index["deep"].to_pylist() == [None, None, None, '{"a": 1}', None]
    (note,) = scanned.notes
    assert "'size' (1)" in note


def test_lists_and_objects_of_records_are_json_text_and_what_is_too_long_is_told() -> None:
    rows: list[dict[str, object]] = [
        {"tags": ["a", "\u00e4"], "box": {"y": 2, "x": [1]}, "score": 1, "long": "x" * 201},
        {"tags": [], "box": None, "score": 2.5, "long": ["x" * 1000]},
        {"tags": "none", "box": {"x": float("nan")}, "score": 3, "long": ["x" * 900]},
    ]
    payload = tar([(f"{number}.json", json.dumps(row).encode()) for number, row in enumerate(rows)])
    store = MemoryStore()
    store.write("a.tar", payload)
    scanned = scan(store, StoredObject("a.tar", len(payload)))
    assert scanned is not None
    assert scanned.index["tags"].to_pylist() == ['["a", "\u00e4"]', "[]", "none"]
    assert scanned.index["box"].to_pylist() == ['{"x": [1], "y": 2}', None, None]
    assert scanned.index["score"].to_pylist() == [1.0, 2.5, 3.0]
    assert [value and len(value) for value in scanned.index["long"].to_pylist()] == [None, None, 904]
    (note,) = scanned.notes
    assert "'long' (2), 'box' (1)" in note
    columns = summarise(scanned.index).columns
    assert (columns["tags"].nested, columns["box"].nested) == (2, 1)


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
    parser = TarHeaderParser(11 * 10**9)
    assert list(parser.feed(big(10**10))) == [("a.bin", 512, 10**10)]
    assert list(parser.feed(bytes(2**20))) == []


@pytest.mark.parametrize("kind", [tarfile.DIRTYPE, tarfile.FIFOTYPE])
def test_folders_and_pipes_are_no_samples_whatever_size_they_claim(kind: bytes) -> None:
    payload = tar([("a.txt", b"1")])[:1024] + tar([("b.jpg", b"")], type=kind, linkname="a.txt")[:512]
    payload += tar([("a.cls", b"2")])
    assert read(payload) == read_by_webdataset(payload) == [("a", {"txt": b"1", "cls": b"2"})]


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
        ("cut in its padding", whole[: 9 * 1024 - 100], "a.tar: at byte 9216: the tar ends inside a member"),
        ("gzip", b"\x1f\x8b" + bytes(600), "a.tar: at byte 0: .*compressed with gzip .*decompress it"),
        ("zstd", b"(\xb5/\xfd" + bytes(600), "a.tar: at byte 0: .*compressed with zstd"),
        ("a web page", b"<html>" * 200, "a.tar: at byte 0: no tar header"),
    ]


@pytest.mark.parametrize(
    ("payload", "message"), [pytest.param(payload, message, id=name) for name, payload, message in damaged()]
)
def test_an_error_of_a_corrupt_tar_names_the_tar_and_the_byte(payload: bytes, message: str) -> None:
    with pytest.raises(CorruptShard, match=message) as told:
        read(payload)
    assert "\n" not in str(told.value)


def test_names_with_dates_behind_a_dot_are_refused_before_they_fill_memory() -> None:
    with pytest.raises(StorageRefused, match=r"more than 256 different fields.*a key ends at the first dot"):
        read(tar((f"shot.{number}.jpg", b"1") for number in range(300)))


@given(st.binary(max_size=3000))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_samples_or_a_corrupt_shard(payload: bytes) -> None:
    for given_bytes in (payload, tar([("a.txt", b"1")])[:1024] + payload):
        told = ""
        try:
            read(given_bytes)
        except CorruptShard as error:
            told = str(error)
        assert told == "" or told.startswith("memory:/a.tar: at byte ")


def _check_damage(seeds: range) -> None:
    """A tar that is cut, or has a piece cut out, put in or doubled, is refused, or each sample has its own bytes."""
    whole = tar(
        (f"{number:03d}.{name}", bytes([number]) * (700 + number)) for number in range(12) for name in ("jpg", "txt")
    )
    sound = dict(read(whole))
    refused = 0
    for seed in seeds:
        choice = random.Random(seed)
        start = choice.randrange(len(whole))
        stop = min(len(whole), start + choice.choice((1, 7, 300, 512, 1024, 5000)))
        noise = choice.randbytes(stop - start)
        damaged = choice.choice(
            (
                whole[:start],
                whole[:start] + whole[stop:],
                whole[:start] + noise + whole[start:],
                whole[:stop] + whole[start:],
            )
        )
        try:
            samples = read(damaged)
        except (CorruptShard, StorageRefused):
            refused += 1
            continue
        for key, fields in samples:
            name = key.partition("#")[0]
            assert name in sound, f"seed {seed}: a sample {key!r} that nobody wrote"
            for extension, payload in fields.items():
                own = payload == sound[name].get(extension)
                assert own or len(payload) == len(sound[name].get(extension, b"")), f"seed {seed}: {key}.{extension}"
    assert refused > len(seeds) // 2


def test_damage_to_a_tar_makes_no_sample_that_was_not_there() -> None:
    _check_damage(range(300))


@pytest.mark.nightly
def test_ten_thousand_damages_to_a_tar_make_no_sample_that_was_not_there() -> None:
    _check_damage(range(1000, 11_000))


def scanned(payload: bytes, **options: Any) -> Scanned:
    store = MemoryStore()
    store.write("a.tar", payload)
    result = scan(store, StoredObject("a.tar", len(payload)), **options)
    assert result is not None
    return result


def fields_of(payload: bytes, result: Scanned) -> dict[str, dict[str, bytes]]:
    sink = io.BytesIO()
    pq.write_table(result.index, sink)
    index = ShardIndex.decode(sink.getvalue(), "index", size=len(payload))  # which checks that all lies inside
    samples = [
        index.sample(row, memoryview(payload)[int(index.starts[row]) : int(index.stops[row])])
        for row in range(len(index))
    ]
    return {sample.key: dict(sample.fields) for sample in samples}


SOUND = [("a.jpg", b"1" * 700), ("a.txt", b"one")]
MORE = [("b.jpg", b"2" * 600), ("b.txt", b"two")]
BOTH = {"a": {"jpg": b"1" * 700, "txt": b"one"}, "b": {"jpg": b"2" * 600, "txt": b"two"}}


def old_sparse(name: str, extra: int) -> bytes:
    """An old GNU sparse file of 5 stored bytes, its map going on in so many blocks."""
    header = bytearray(tar([(name, b"12345")], tarfile.GNU_FORMAT, type=b"S")[:512])
    header[482] = extra > 0
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    more = b"".join(bytes(504) + bytes([number < extra - 1]) + bytes(7) for number in range(extra))
    return bytes(header) + more + b"12345" + bytes(507)


@pytest.mark.parametrize(
    ("between", "loss"),
    [
        pytest.param(old_sparse("s.bin", 0), "at byte 2560: 's.bin': a sparse file", id="sparse"),
        pytest.param(old_sparse("s.bin", 3), "at byte 2560: 's.bin': a sparse file", id="sparse with a long map"),
        pytest.param(
            tar([("s.bin", b"12345")], pax_headers={"GNU.sparse.major": "1", "GNU.sparse.name": "real.bin"})[:2048],
            "'real.bin': a sparse file",
            id="sparse by pax",
        ),
        pytest.param(
            tar([("x.txt", b"3")], pax_headers={"comment": "c" * 2**20})[: 512 + 2**20 + 512 + 1024],
            "'x.txt': its extended header has 1,048,",
            id="a long pax header",
        ),
        pytest.param(
            tar([("a.TXT", b"again")])[:1024], "'a.TXT': sample 'a' has a 'txt' already", id="a doubled member"
        ),
        pytest.param(tar([("p.txt", b"")], type=tarfile.FIFOTYPE)[:512], "'p.txt': a device or pipe", id="a pipe"),
        pytest.param(
            tar([("l.txt", b"")], type=tarfile.SYMTYPE, linkname="nowhere.txt")[:512],
            "'l.txt': a link to 'nowhere.txt', which is no member",
            id="a link to nothing",
        ),
    ],
)
def test_what_cannot_be_read_in_place_is_left_out_and_listed_and_the_rest_is_read(between: bytes, loss: str) -> None:
    payload = tar(SOUND)[:2560] + between + tar(MORE)
    result = scanned(payload)
    assert fields_of(payload, result) == BOTH
    assert len(result.losses) == 1
    assert loss in result.losses[0]


def test_tars_that_were_joined_are_read_on_and_a_missing_end_mark_is_told() -> None:
    joined = tar(SOUND) + tar(MORE)
    assert fields_of(joined, scanned(joined)) == BOTH
    assert scanned(joined).losses == scanned(joined).notes == ()
    open_ended = tar(SOUND)[:2560] + tar(MORE)[:2560]
    assert fields_of(open_ended, scanned(open_ended)) == BOTH
    assert scanned(open_ended).notes == ("at byte 5120: it ends without an end mark; is it whole?",)
    junk = tar([*SOUND, *MORE]) + b"<html>" * 100
    assert fields_of(junk, scanned(junk)) == BOTH
    assert "what follows the end mark is no tar, and was not read" in scanned(junk).notes[0]


def link(name: str, target: str, kind: bytes) -> bytes:
    return tar([(name, b"")], tarfile.GNU_FORMAT, type=kind, linkname=target)[:512]


def test_links_stand_for_the_bytes_of_other_members() -> None:
    payload = link("early.jpg", "a.jpg", tarfile.SYMTYPE) + tar(SOUND)[:2560]
    payload += link("d/b.jpg", "../a.jpg", tarfile.SYMTYPE) + tar([("d/b.txt", b"two")])[:1024]
    payload += link("d/c.jpg", "d/b.jpg", tarfile.LNKTYPE) + tar([("d/c.txt", b"three")])
    result = scanned(payload)
    assert result.losses == ()
    assert fields_of(payload, result) == {
        "early": {"jpg": b"1" * 700},
        "a": {"jpg": b"1" * 700, "txt": b"one"},
        "d/b": {"jpg": b"1" * 700, "txt": b"two"},
        "d/c": {"jpg": b"1" * 700, "txt": b"three"},
    }
    circle = link("x.jpg", "y.jpg", tarfile.SYMTYPE) + link("y.jpg", "x.jpg", tarfile.SYMTYPE) + tar(SOUND)
    assert set(fields_of(circle, scanned(circle))) == {"a"}
    assert len(scanned(circle).losses) == 2


def test_keys_may_end_at_the_last_dot_and_names_that_look_like_it_are_told() -> None:
    payload = tar([("img.v1.0.jpg", b"1"), ("img.v1.1.jpg", b"2")])
    result = scanned(payload)
    assert fields_of(payload, result) == {"img": {"v1.0.jpg": b"1", "v1.1.jpg": b"2"}}
    assert "'img.v1.0.jpg' is the field 'v1.0.jpg' of sample 'img'" in result.notes[0]
    assert "--key last" in result.notes[0]
    last = scanned(payload, rule="last")
    assert fields_of(payload, last) == {"img.v1.0": {"jpg": b"1"}, "img.v1.1": {"jpg": b"2"}}
    assert last.notes == scanned(tar([("a.seg.png", b"1")])).notes == ()


@pytest.mark.parametrize("damage", ["cut", "cut in the padding", "no header"])
def test_of_a_damaged_tar_the_samples_before_the_damage_can_be_had(damage: str) -> None:
    whole = tar([*SOUND, *MORE, ("c.jpg", b"3" * 700)])
    payload = {
        "cut": whole[: 512 * 11 + 100],
        "cut in the padding": whole[: 512 * 11 + 701],
        "no header": whole[: 512 * 10] + b"x" * 512 + whole[512 * 11 :],
    }[damage]
    with pytest.raises(CorruptShard, match=r"a\.tar: at byte"):
        scanned(payload)
    result = scanned(payload, damaged=True)
    assert "at byte" in result.damage
    kept = fields_of(payload, result)
    assert kept.items() <= BOTH.items()
    assert kept["a"] == BOTH["a"]
    assert "the last before the damage" in result.losses[-1]


def test_records_that_are_nested_without_end_are_no_columns_and_no_error() -> None:
    for levels in (100, *range(900, 1000, 3), 5000):
        record = b'{"ok": 1, "deep": ' + b"[" * levels + b"]" * levels + b"}"
        result = scanned(tar([("a.jpg", b"1"), ("a.json", record)]))
        assert list(fields_of(tar([("a.jpg", b"1"), ("a.json", record)]), result)) == ["a"]


def test_groups_are_a_column_of_text_whatever_they_are_and_however_many_columns_there_are() -> None:
    url = "http://a.example/" + "x" * 900
    groups: list[Any] = [7, 7.0, "7", 7.5, None, url, ["a", 1], True, "x" * 1001, " "]
    many = {f"c{number}": number for number in range(40)}
    members = [(f"{row}.json", json.dumps(many | {"group": group}).encode()) for row, group in enumerate(groups)]
    found = scanned(tar(members))
    assert found.index["group"].to_pylist() == ["7", "7", "7", "7.5", None, url, '["a", 1]', "True", None, ""]
    assert len(found.notes) == 1
    assert "group" not in scanned(tar([("0.json", b'{"group": null}')])).index.column_names
