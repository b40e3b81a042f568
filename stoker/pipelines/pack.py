"""A group of raw parts becomes shards: the kept samples, shuffled across the parts, by split."""

import dataclasses
import hashlib
import json
import mmap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.partition import digest
from stoker.pipelines.recipe import Recipe
from stoker.pipelines.scratch import folder_in
from stoker.pipelines.splits import split_of
from stoker.storage import layout, records
from stoker.storage.errors import AlreadyExists, CorruptShard, NotFound
from stoker.storage.manifest import Part, Shard
from stoker.storage.shard import Member, TarWriter
from stoker.storage.statistics import Summary, summarise
from stoker.storage.store import Store

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


@dataclass(frozen=True, slots=True)
class _Row:
    """A kept sample and where it lies."""

    key: str
    split: str
    part: int  # place in the group
    place: int  # row in the part's table of kept samples
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
    with folder_in(scratch) as folder, ExitStack() as open_files:
        payloads = [open_files.enter_context(_payload(part, store, folder)) for part in parts]
        for split in recipe.splits:
            summary = Summary.empty()
            for number, run in enumerate(_runs(recipe, [row for row in rows if row.split == split])):
                shard, index = _write(recipe, name, split, number, run, parts, tables, payloads, store, folder)
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
    for number, (part, table) in enumerate(zip(parts, tables, strict=True)):
        columns = (table[name].to_pylist() for name in ("key", "group", "start", "stop"))
        for place, (key, group, start, stop) in enumerate(zip(*columns, strict=True)):
            if (part.digest, key) not in dropped:
                split = moved.get((part.digest, key)) or split_of(group, recipe.splits)
                yield _Row(key, split, number, place, start, stop)


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


def _payload(part: Part, store: Store, folder: Path) -> "_Mapped":
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
            f"with {part.tar_sha256[:12]}; delete {store.url}/{layout.raw(part.tar)} and ingest again"
        )
    return _Mapped(path)


class _Mapped:
    """A file as one read-only piece of memory."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> memoryview:
        with self._path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._view = memoryview(self._map)
        return self._view

    def __exit__(self, *exception: object) -> None:
        self._view.release()
        self._map.close()


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
    tables: Sequence[pa.Table],
    payloads: Sequence[memoryview],
    store: Store,
    folder: Path,
) -> tuple[Shard, pa.Table]:
    """One shard and its index, in the store."""
    path = folder / "shard.tar"
    placed = []
    members = [table["members"] for table in tables]
    with TarWriter(path) as writer:
        for row in run:
            own = [
                Member(one["extension"], one["offset"] - row.start, one["size"])
                for one in members[row.part][row.place].as_py()
            ]
            with payloads[row.part][row.start : row.stop] as region:
                placed.append(writer.copy(row.key, region, own))
        tar = writer.close()
    index = _index(run, parts, tables, placed, split)
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


def _index(
    run: Sequence[_Row], parts: Sequence[Part], tables: Sequence[pa.Table], placed: Sequence[Any], split: str
) -> pa.Table:
    """The records of a shard's samples in its order, with their places in its tar."""
    base = [0]
    for table in tables:
        base.append(base[-1] + table.num_rows)
    whole = records.join(tables)
    whole = whole.drop_columns([name for name in _NOT_INDEXED if name in whole.column_names])
    whole = whole.take(pa.array([base[row.part] + row.place for row in run], pa.int64()))
    members = [
        [{"extension": one.extension, "offset": one.offset, "size": one.size} for one in place.members]
        for place in placed
    ]
    whole = whole.append_column("start", pa.array([place.start for place in placed], pa.int64()))
    whole = whole.append_column("stop", pa.array([place.stop for place in placed], pa.int64()))
    whole = whole.append_column("members", pa.array(members, records.MEMBERS))
    whole = whole.append_column("split", pa.array([split] * len(run), pa.string()))
    return whole.append_column("part", pa.array([parts[row.part].digest for row in run], pa.string()))


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
