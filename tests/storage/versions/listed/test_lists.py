"""The lists of a version are read when they are needed, and what is wrong with one is named with what helps."""

import io
import json
import pickle
from collections.abc import Callable
from dataclasses import asdict, replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.storage.errors import CorruptObject, CorruptShard, NotFound
from stoker.storage.shards import records
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.verification.verify import verify
from stoker.storage.versions import layout
from stoker.storage.versions.listed import lists
from stoker.storage.versions.listed.lists import ListFile
from stoker.storage.versions.manifest import Manifest, Part, Shard, load_manifest, publish
from stoker.storage.versions.sealed import seal
from tests.fakes import Counting
from tests.storage.published import CORPUS, make_version

KINDS = [kind for kind in lists.KINDS if kind != lists.MASKS]  # of a version without masks


def listed(manifest: Manifest, kind: str) -> ListFile:
    return dict(zip(KINDS, manifest.lists, strict=True))[kind]


def use(manifest: Manifest, kind: str) -> object:
    return list(getattr(manifest, kind))


def test_totals_need_no_list_and_each_list_is_read_once() -> None:
    store = Counting()
    made = make_version(store)
    store.reads.clear()
    manifest = load_manifest(store, CORPUS)
    totals = (manifest.samples, manifest.size, manifest.read, manifest.kept, manifest.rejected, manifest.splits)
    assert totals == (made.samples, made.size, made.read, made.kept, made.rejected, made.splits)
    assert (len(manifest.shards), len(manifest.parts), len(manifest.statistics), manifest.is_indexed) == (
        3,
        2,
        2,
        False,
    )
    assert store.reads == [layout.version(CORPUS, 1)]
    for _ in range(2):
        assert (manifest.shards, manifest.parts, manifest.statistics) == (made.shards, made.parts, made.statistics)
        assert manifest.masks == ()
    assert store.reads[1:] == [file.key for file in manifest.lists]


def test_versions_share_lists_that_did_not_change() -> None:
    store = MemoryStore()
    make_version(store)
    make_version(store, 2)
    first, second = (list(load_manifest(store, CORPUS, number).lists) for number in (1, 2))
    assert first == second
    assert len(list(store.list(f"{CORPUS}/lists/"))) == len(KINDS)


def test_another_process_gets_the_lists_that_were_read_themselves_and_reads_the_others() -> None:
    store = MemoryStore()
    made = make_version(store)
    manifest = load_manifest(store, CORPUS)
    assert list(manifest.shards)
    parts, statistics = listed(manifest, lists.PARTS), listed(manifest, lists.STATISTICS)
    for file in (parts, statistics):  # a stream needs neither
        store.write(file.key, b"damaged")
    pickled = pickle.dumps(manifest)
    copy = pickle.loads(pickled)
    assert isinstance(copy.shards, tuple)
    assert (copy.shards, copy.splits, copy.read, list(copy.lists)) == (
        made.shards,
        made.splits,
        made.read,
        [parts, statistics],
    )
    with pytest.raises(CorruptObject, match="parts-"):
        list(copy.parts)


def test_another_process_gets_the_same_version_whether_its_lists_were_read_or_not() -> None:
    store = MemoryStore()
    made = make_version(store)
    for manifest in (load_manifest(store, CORPUS), load_manifest(store, CORPUS).read_lists()):
        assert pickle.loads(pickle.dumps(manifest)) == made


HARM: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda payload: payload[:-1],
    "longer": lambda payload: payload + b"x",
    "flipped": lambda payload: payload[:9] + bytes([payload[9] ^ 1]) + payload[10:],
    "empty": lambda payload: b"",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("harm", HARM)
def test_a_damaged_list_is_named_with_what_helps_and_totals_are_still_told(kind: str, harm: str) -> None:
    store = MemoryStore()
    made = make_version(store)
    file = listed(load_manifest(store, CORPUS), kind)
    store.write(file.key, HARM[harm](store.read(file.key)))
    manifest = load_manifest(store, CORPUS)
    assert manifest.samples == made.samples
    with pytest.raises(CorruptObject, match=rf"{file.key}: .*; restore it from a copy, or ingest again") as told:
        use(manifest, kind)
    assert (told.value.key, "\n" in str(told.value)) == (file.key, False)
    with pytest.raises(CorruptObject):
        manifest.read_lists()
    assert [problem.partition(":")[0] for problem in verify(store, manifest).problems] == [file.key]


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_that_is_gone_is_named_with_what_helps(kind: str) -> None:
    store = MemoryStore()
    make_version(store)
    manifest = load_manifest(store, CORPUS)
    store.delete(listed(manifest, kind).key)
    with pytest.raises(NotFound, match=r"no such object; restore it from a copy, or ingest again"):
        use(manifest, kind)
    assert verify(store, manifest).problems == (f"{listed(manifest, kind).key}: is missing",)


@pytest.mark.parametrize("kind", KINDS)
def test_every_flipped_bit_of_a_list_is_found(kind: str) -> None:
    store = MemoryStore()
    make_version(store)
    file = listed(load_manifest(store, CORPUS), kind)
    payload = store.read(file.key)
    for place in range(0, len(payload) * 8, 61):
        harmed = bytearray(payload)
        harmed[place // 8] ^= 1 << place % 8
        store.write(file.key, bytes(harmed))
        with pytest.raises(CorruptShard):
            use(load_manifest(store, CORPUS), kind)


def test_rows_that_a_foreign_hand_wrote_are_checked() -> None:
    """The checksums are right, the rows are not: as of a manifest that was made by other software."""
    store = MemoryStore()
    payload = records.encode([{"key": "a"}])
    file = ListFile("digits/lists/shards-0.parquet", len(payload), records.sha256(payload), 1)
    store.write(file.key, payload)
    with pytest.raises(CorruptObject, match="its column 'split' is missing, expected string; restore it"):
        lists.read_list(store, lists.SHARDS, file, list, lambda: "restore it")
    with pytest.raises(CorruptObject, match="has 1 rows, expected 2; restore it"):
        lists.read_list(store, lists.SHARDS, replace(file, rows=2), list, lambda: "restore it")


FOREIGN: dict[str, Callable[[pa.Table], pa.Table]] = {
    "times": lambda table: table.set_column(0, "key", pa.array([2**62] * 3, pa.timestamp("us"))),
    "no utf-8": lambda table: table.set_column(0, "key", pa.array([b"\xff"] * 3).view(pa.string())),
    "twice a column": lambda table: table.append_column("key", table["key"]),
    "unsigned": lambda table: table.set_column(2, "samples", pa.array([2**63] * 3, pa.uint64())),
    "negative": lambda table: table.set_column(2, "samples", pa.array([-1] * 3)),
    "other counts": lambda table: table.set_column(2, "samples", pa.array([2**62] * 3)),
    "more rows": lambda table: pa.concat_tables([table, table]),
}


def shards_key(store: MemoryStore) -> str:
    """The list of shards of a version that is made."""
    make_version(store)
    return listed(load_manifest(store, CORPUS), lists.SHARDS).key


def relist(store: MemoryStore, table: pa.Table, **stated: object) -> ListFile:
    """Another list of shards in the place of that of the version; all checksums are right."""
    sink = io.BytesIO()
    pq.write_table(table, sink)
    payload = sink.getvalue()
    sha256 = records.sha256(payload)
    file = ListFile(layout.version_list(CORPUS, lists.SHARDS, sha256), len(payload), sha256, table.num_rows)
    store.write(file.key, payload)
    content = json.loads(store.read(layout.version(CORPUS, 1)))
    content["lists"]["shards"] = asdict(file) | stated
    del content["checksum"]
    store.write(layout.version(CORPUS, 1), seal(content))
    return file


def test_a_split_that_is_named_twice_is_damage_in_the_list_and_in_the_totals() -> None:
    store = MemoryStore()
    manifest = make_version(store)
    rows = [{"split": "train", "summary": summary} for summary in manifest.statistics.values()]
    file, payload = lists.encode_list(CORPUS, lists.STATISTICS, rows)
    store.write(file.key, payload)
    content = json.loads(store.read(layout.version(CORPUS, 1)))
    del content["checksum"]
    content["lists"]["statistics"] = asdict(file)
    store.write(layout.version(CORPUS, 1), seal(content))
    with pytest.raises(CorruptObject, match=f"{file.key}: names split 'train' twice, expected each once; restore it"):
        dict(load_manifest(store, CORPUS).statistics)
    assert verify(store, load_manifest(store, CORPUS)).problems != ()
    content["totals"]["splits"] *= 2
    store.write(layout.version(CORPUS, 1), seal(content))
    with pytest.raises(CorruptShard, match=r"00000001\.json: names split 'train' twice"):
        load_manifest(store, CORPUS)


@pytest.mark.parametrize("foreign", FOREIGN)
def test_a_list_of_other_types_or_totals_is_named_with_what_helps(foreign: str) -> None:
    store = MemoryStore()
    table = records.decode(store.read(shards_key(store)))
    file = relist(store, FOREIGN[foreign](table))
    with pytest.raises(CorruptObject, match=rf"{file.key}: .*; restore it from a copy, or ingest again"):
        list(load_manifest(store, CORPUS).shards)
    assert verify(store, load_manifest(store, CORPUS)).problems != ()


def test_a_count_that_64_bits_do_not_hold_is_refused_with_the_manifest() -> None:
    store = MemoryStore()
    table = records.decode(store.read(shards_key(store)))
    relist(store, table, rows=2**63)
    with pytest.raises(
        CorruptShard, match=r"'rows' is 9223372036854775808, expected a whole number from 0 to .*; restore"
    ):
        load_manifest(store, CORPUS)


names = st.text(st.characters(exclude_categories=()), max_size=20)  # surrogates too
counts = st.dictionaries(names, st.integers(0, 2**40), max_size=3)


@given(rejected=counts, omitted=counts, partition=st.text(max_size=20), numbers=st.integers(0, 2**62 - 1))
def test_what_is_listed_is_read(
    rejected: dict[str, int], omitted: dict[str, int], partition: str, numbers: int
) -> None:
    store = MemoryStore()
    made = make_version(store)
    part = replace(made.parts[0], rejected=rejected, omitted=omitted, partition=partition, read=numbers)
    shard = replace(made.shards[0], size=numbers, split="train")
    publish(store, replace(made, version=2, parts=(part,) * 2, shards=(shard,), statistics={"train": {"é": [numbers]}}))
    found = load_manifest(store, CORPUS, 2)
    assert list(map(_plain, found.parts)) == [_plain(part)] * 2
    assert found.shards == (shard,)
    assert found.statistics == {"train": {"é": [numbers]}}
    assert isinstance(found.parts[0], Part)
    assert isinstance(found.shards[0], Shard)


def _plain(part: Part) -> tuple[object, ...]:
    """Half a surrogate pair is read as its JSON escape says."""
    return part.partition, part.read, dict(part.rejected), dict(part.omitted)
