"""A group of raw parts becomes shards: the kept samples, shuffled across the parts, by split."""

import dataclasses
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.partition import digest
from stoker.pipelines.recipe import Recipe
from stoker.pipelines.stages.scratch import folder_in
from stoker.pipelines.stages.splits import split_of
from stoker.storage.errors import AlreadyExists, CorruptShard, NotFound
from stoker.storage.shards import records
from stoker.storage.shards.shard import TarWriter
from stoker.storage.statistics.summary import Summary, summarise
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.manifest import Part, Shard

_FORMAT = 1  # of shards and their indexes; raise it when the same samples are written in other bytes than before
_COPY = 16 * 2**20  # bytes of a part that are fetched at a time
_NOT_INDEXED = ("start", "stop", "members", "reason", "detail", "step", "fetched_at", "split", "part")
UNKNOWN_LICENCE = "unknown"


@dataclass(frozen=True, slots=True)
class Packed:
    """The shards of one group and what is known of them; ``skipped``: they were there already."""

    group: str
    shards: tuple[Shard, ...]
    statistics: Mapping[str, Mapping[str, Any]]  # Any: JSON of a Summary, by split
    licences: Mapping[str, int]
    skipped: bool


class _Row(NamedTuple):
    """A kept sample and where it lies."""

    key: str
    split: str
    part: int  # place in the group
    place: int  # row in the table of all parts' kept samples
    start: int
    stop: int


def pack(recipe: Recipe, parts: Sequence[Part], decisions_key: str, store: Store, scratch: Path) -> Packed:
    """The shards of a group of parts, made or found.

    Byte-identical for the same parts, decisions and sharding; memory holds the group's records, not its payloads.
    Raises StorageError.
    """
    tables = [_table(part, store) for part in parts]
    rows = list(_rows(recipe, parts, tables, records.decode(store.read(decisions_key))))
    name = _digest(recipe, parts, rows)
    key = layout.group(recipe.corpus, name)
    found = _found(store, key, name)
    if found is not None:
        return found
    shards: list[Shard] = []
    statistics: dict[str, dict[str, Any]] = {}
    licences: Counter[str] = Counter()
    whole = records.join(tables)
    with folder_in(scratch) as folder, ExitStack() as open_files:
        payloads = [open_files.enter_context(_payload(part, store, folder)) for part in parts]
        for split in recipe.splits:
            summary = Summary.empty()
            for number, run in enumerate(_runs(recipe, [row for row in rows if row.split == split])):
                shard, index = _write(recipe, name, split, number, run, parts, whole, payloads, store, folder)
                shards.append(shard)
                summary = summary.merge(summarise(index))
                licences.update(_licences(index))
            statistics[split] = summary.to_json()
    packed = Packed(name, tuple(shards), statistics, dict(sorted(licences.items())), skipped=False)
    with suppress(AlreadyExists):  # the same group, packed by another run at the same time: the same bytes
        store.create(key, _to_json(packed))
    return packed


def _table(part: Part, store: Store) -> pa.Table:
    table = records.decode(store.read(part.records))
    return table.filter(pc.is_null(table["reason"]))


def _rows(recipe: Recipe, parts: Sequence[Part], tables: Sequence[pa.Table], decisions: pa.Table) -> Iterator[_Row]:
    """The samples that stay, with their splits, in the order of the parts."""
    digests = {part.digest for part in parts}
    dropped: set[tuple[str, str]] = set()
    moved: dict[tuple[str, str], str] = {}
    for row in decisions.to_pylist():
        if row["part"] in digests and row["action"] == "drop":
            dropped.add((row["part"], row["key"]))
        elif row["part"] in digests:
            moved[row["part"], row["key"]] = row["value"]
    base = 0
    for number, (part, table) in enumerate(zip(parts, tables, strict=True)):
        columns = (table[name].to_pylist() for name in ("key", "group", "start", "stop"))
        for place, (key, group, start, stop) in enumerate(zip(*columns, strict=True), base):
            if (part.digest, key) not in dropped:
                split = moved.get((part.digest, key)) or split_of(group, recipe.splits)
                yield _Row(key, split, number, place, start, stop)
        base += table.num_rows


def _digest(recipe: Recipe, parts: Sequence[Part], rows: Sequence[_Row]) -> str:
    """The name of a group: what decides the bytes of its shards."""
    chosen = hashlib.sha256()
    for row in rows:
        chosen.update(f"{row.part}\t{row.key}\t{row.split}\n".encode())
    options = dataclasses.asdict(recipe.shards)
    del options["partitions"]  # it decided which parts are here
    content = [(part.digest, part.tar_sha256, part.records_sha256) for part in parts]
    whole = {"format": _FORMAT, "options": options, "parts": content, "chosen": chosen.hexdigest()}
    return digest(whole)[: layout.DIGEST]


def _payload(part: Part, store: Store, folder: Path) -> FileIO:
    """The part's tar as a local file, its checksum proven on the way."""
    path = folder / f"{part.digest}.tar"
    seen = hashlib.sha256()
    with path.open("wb") as file:
        for start in range(0, part.tar_size, _COPY):
            piece = store.read(part.tar, start=start, size=_COPY)
            seen.update(piece)
            file.write(piece)
    if seen.hexdigest() != part.tar_sha256:
        raise CorruptShard(
            f"{store.url}/{part.tar}: sha256 {seen.hexdigest()[:12]}, but partition {part.partition!r} was written "
            f"with {part.tar_sha256[:12]}; delete {store.url}/{layout.folder_of(part.tar)} and ingest again"
        )
    return path.open("rb", buffering=0)


def _region(file: FileIO, row: _Row) -> bytes:
    """A sample's bytes in its part. Read, not mapped: a mapping's pages count as this process' memory."""
    size = row.stop - row.start
    region = os.pread(file.fileno(), size, row.start)
    while len(region) < size:  # Linux reads at most 2 GiB at a time
        more = os.pread(file.fileno(), size - len(region), row.start + len(region))
        if not more:
            raise CorruptShard(
                f"sample {row.key!r}: its record says that it ends at byte {row.stop} of its part, which ends before; "
                "run `stoker verify`, delete the part and ingest again"
            )
        region += more
    return region


def _runs(recipe: Recipe, rows: list[_Row]) -> Iterator[list[_Row]]:
    """One split's samples in shuffled order, cut into shards by count and size."""
    seed = recipe.shards.seed
    rows = sorted(rows, key=lambda row: hashlib.sha256(f"{seed}/{row.key}".encode()).digest())
    run: list[_Row] = []
    size = 0
    for row in rows:
        long = row.stop - row.start
        full = len(run) >= recipe.shards.samples or size + long > recipe.shards.megabytes * 10**6
        if run and full:
            yield run
            run, size = [], 0
        run.append(row)
        size += long
    if run:
        yield run


def _write(
    recipe: Recipe,
    group: str,
    split: str,
    number: int,
    run: Sequence[_Row],
    parts: Sequence[Part],
    whole: pa.Table,
    payloads: Sequence[FileIO],
    store: Store,
    folder: Path,
) -> tuple[Shard, pa.Table]:
    """One shard and its index, in the store."""
    path = folder / "shard.tar"
    with TarWriter(path) as writer:
        for row in run:
            writer.add_bytes(_region(payloads[row.part], row))
        tar = writer.close()
    index = _index(run, parts, whole, split)
    payload = records.encode(index)
    key = layout.shard(recipe.corpus, group, split, number)
    index_key = layout.index(recipe.corpus, group, split, number)
    _settle(store, key, path, tar.sha256)
    index_sha256 = records.sha256(payload)
    _settle(store, index_key, payload, index_sha256)
    shard = Shard(
        key=key,
        split=split,
        samples=tar.samples,
        size=tar.size,
        sha256=tar.sha256,
        index=index_key,
        index_size=len(payload),
        index_sha256=index_sha256,
        group=group,
    )
    return shard, index


def _index(run: Sequence[_Row], parts: Sequence[Part], whole: pa.Table, split: str) -> pa.Table:
    """The records of a shard's samples in its order, with their places in its tar, where they lie end to end."""
    chosen = whole.take(pa.array([row.place for row in run], pa.int64()))
    starts = np.array([row.start for row in run], np.int64)
    stops = np.cumsum(np.array([row.stop for row in run], np.int64) - starts)
    moved_to = np.concatenate([stops[:1] * 0, stops[:-1]])
    members = _moved(chosen["members"].combine_chunks(), moved_to - starts)
    chosen = chosen.drop_columns([name for name in _NOT_INDEXED if name in chosen.column_names])
    chosen = chosen.append_column("start", pa.array(moved_to, pa.int64()))
    chosen = chosen.append_column("stop", pa.array(stops, pa.int64()))
    chosen = chosen.append_column("members", members)
    chosen = chosen.append_column("split", pa.array([split] * len(run), pa.string()))
    return chosen.append_column("part", pa.array([parts[row.part].digest for row in run], pa.string()))


def _moved(members: pa.ListArray, by: "np.typing.NDArray[np.int64]") -> pa.ListArray:
    """The members of each sample, their offsets moved by as many bytes as the sample's region."""
    counts = pc.list_value_length(members).to_numpy(zero_copy_only=False)
    flat = members.flatten()
    offsets = pa.array(flat.field("offset").to_numpy() + np.repeat(by, counts), pa.int64())
    ends = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    columns = [flat.field("extension"), offsets, flat.field("size")]
    structs = pa.StructArray.from_arrays(columns, fields=list(records.MEMBERS.value_type))
    return pa.ListArray.from_arrays(ends, structs, type=records.MEMBERS)


def _settle(store: Store, key: str, payload: bytes | Path, sha256: str) -> None:
    """Put an object of a group that is not marked as done: what another run left under its key may stay if it is equal.

    It differs only when another version of a library wrote it and died before the group was done; no manifest names
    it then, and it is replaced.
    """
    try:
        store.create(key, payload)
    except AlreadyExists:
        if hashlib.sha256(store.read(key)).hexdigest() != sha256:
            store.write(key, payload)


def _licences(index: pa.Table) -> Counter[str]:
    if "licence" not in index.column_names:
        return Counter({UNKNOWN_LICENCE: index.num_rows})
    return Counter(str(licence or UNKNOWN_LICENCE) for licence in index["licence"].to_pylist())


def _to_json(packed: Packed) -> bytes:
    content = {
        "schema": _FORMAT,
        "group": packed.group,
        "shards": [asdict(shard) for shard in packed.shards],
        "statistics": packed.statistics,
        "licences": packed.licences,
    }
    return json.dumps(content, sort_keys=True).encode()


def _found(store: Store, key: str, group: str) -> Packed | None:
    try:
        payload = store.read(key)
    except NotFound:
        return None
    try:
        content = json.loads(payload)
        shards = tuple(Shard(**shard) for shard in content["shards"])
        return Packed(group, shards, content["statistics"], content["licences"], skipped=True)
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptShard(f"{store.url}/{key}: not a group's marker ({error}); delete it and run again") from error
