"""Pack: the kept samples of a group of raw parts become shards, shuffled across the parts, by split.

The shuffle sorts by a hash of seed and key, so that the same group gives the same bytes. Price: the group's tars are
downloaded to scratch, and each sample is one random read in them.
"""

import dataclasses
import hashlib
import json
import logging
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

_log = logging.getLogger(__name__)

_FORMAT = 1  # of shards and their indexes; raise it when the same samples are written in other bytes than before
_DOWNLOAD_CHUNK = 16 * 2**20  # bytes of a part that are read at a time
_NOT_INDEXED = ("start", "stop", "members", "reason", "detail", "step", "fetched_at", "split", "part")
UNKNOWN_LICENCE = "unknown"


@dataclass(frozen=True, slots=True)
class Packed:
    """The shards of one group, their statistics and licences; ``skipped``: they existed already."""

    group: str
    shards: tuple[Shard, ...]
    statistics: Mapping[str, Mapping[str, Any]]  # Any: JSON of a Summary, by split
    licences: Mapping[str, int]
    skipped: bool


class _KeptSample(NamedTuple):
    """A sample to be packed, and where its bytes and its record are."""

    key: str
    split: str
    part: int  # index in the group
    row: int  # in the table of all parts' kept samples
    start: int  # bytes [start, stop) of the part's tar
    stop: int


def pack(recipe: Recipe, parts: Sequence[Part], decisions_key: str, store: Store, scratch: Path) -> Packed:
    """The shards of a group of parts; packed, unless they exist.

    Byte-identical for the same parts, decisions and sharding. Memory holds the group's records, not its payloads.
    Raises StorageError.
    """
    tables = [_kept_records(part, store) for part in parts]
    samples = list(_samples_to_pack(recipe, parts, tables, records.decode(store.read(decisions_key))))
    group = _digest(recipe, parts, samples)
    key = layout.group(recipe.corpus, group)
    existing = _find_packed(store, key, group)
    if existing is not None:
        _log.info("group %s is packed and is used again", group, extra={"group": group})
        return existing
    shards: list[Shard] = []
    statistics: dict[str, dict[str, Any]] = {}
    licences: Counter[str] = Counter()
    with folder_in(scratch) as folder, ExitStack() as open_files:
        tars = [open_files.enter_context(_download_tar(part, store, folder)) for part in parts]
        writer = _GroupWriter(recipe.corpus, group, parts, records.join(tables), tars, store, folder)
        for split in recipe.splits:
            summary = Summary.empty()
            in_split = [sample for sample in samples if sample.split == split]
            for number, shard_samples in enumerate(_shuffle_and_cut(recipe, in_split)):
                shard, index = writer.write(split, number, shard_samples)
                shards.append(shard)
                summary = summary.merge(summarise(index))
                licences.update(_licences(index))
            statistics[split] = summary.to_json()
    packed = Packed(group, tuple(shards), statistics, dict(sorted(licences.items())), skipped=False)
    with suppress(AlreadyExists):  # another run packed the same group at the same time, with the same bytes
        store.create(key, _to_json(packed))
    return packed


def _kept_records(part: Part, store: Store) -> pa.Table:
    table = records.decode(store.read(part.records))
    return table.filter(pc.is_null(table["reason"]))


def _samples_to_pack(
    recipe: Recipe, parts: Sequence[Part], tables: Sequence[pa.Table], decisions: pa.Table
) -> Iterator[_KeptSample]:
    """The samples that no rule dropped, with their splits, in the order of the parts."""
    digests = {part.digest for part in parts}
    dropped: set[tuple[str, str]] = set()
    moved: dict[tuple[str, str], str] = {}
    for decision in decisions.to_pylist():
        if decision["part"] in digests and decision["action"] == "drop":
            dropped.add((decision["part"], decision["key"]))
        elif decision["part"] in digests:
            moved[decision["part"], decision["key"]] = decision["value"]
    first_row = 0
    for number, (part, table) in enumerate(zip(parts, tables, strict=True)):
        columns = (table[name].to_pylist() for name in ("key", "group", "start", "stop"))
        for row, (key, group, start, stop) in enumerate(zip(*columns, strict=True), first_row):
            if (part.digest, key) not in dropped:
                split = moved.get((part.digest, key)) or split_of(group, recipe.splits)
                yield _KeptSample(key, split, number, row, start, stop)
        first_row += table.num_rows


def _digest(recipe: Recipe, parts: Sequence[Part], samples: Sequence[_KeptSample]) -> str:
    """The name of a group: a digest of all that determines the bytes of its shards."""
    chosen = hashlib.sha256()
    for sample in samples:
        chosen.update(f"{sample.part}\t{sample.key}\t{sample.split}\n".encode())
    options = dataclasses.asdict(recipe.shards)
    del options["partitions"]  # it determined which parts are in the group
    content = [(part.digest, part.tar_sha256, part.records_sha256) for part in parts]
    identity = {"format": _FORMAT, "options": options, "parts": content, "chosen": chosen.hexdigest()}
    return digest(identity)[: layout.DIGEST]


def _download_tar(part: Part, store: Store, folder: Path) -> FileIO:
    """The part's tar as a local file. Raises CorruptShard if its checksum differs."""
    path = folder / f"{part.digest}.tar"
    hasher = hashlib.sha256()
    with path.open("wb") as file:
        for start in range(0, part.tar_size, _DOWNLOAD_CHUNK):
            chunk = store.read(part.tar, start=start, size=_DOWNLOAD_CHUNK)
            hasher.update(chunk)
            file.write(chunk)
    if hasher.hexdigest() != part.tar_sha256:
        raise CorruptShard(
            f"{store.url}/{part.tar}: sha256 {hasher.hexdigest()[:12]}, but partition {part.partition!r} was written "
            f"with {part.tar_sha256[:12]}; delete {store.url}/{layout.folder_of(part.tar)} and ingest again"
        )
    return path.open("rb", buffering=0)


def _shuffle_and_cut(recipe: Recipe, samples: list[_KeptSample]) -> Iterator[list[_KeptSample]]:
    """One split's samples in shuffled order, cut into shards by count and size."""
    seed = recipe.shards.seed
    samples = sorted(samples, key=lambda sample: hashlib.sha256(f"{seed}/{sample.key}".encode()).digest())
    shard: list[_KeptSample] = []
    shard_size = 0
    for sample in samples:
        size = sample.stop - sample.start
        full = len(shard) >= recipe.shards.samples or shard_size + size > recipe.shards.megabytes * 10**6
        if shard and full:
            yield shard
            shard, shard_size = [], 0
        shard.append(sample)
        shard_size += size
    if shard:
        yield shard


@dataclass(frozen=True)
class _GroupWriter:
    """Writes the shards of one group to the store."""

    corpus: str
    group: str  # digest
    parts: Sequence[Part]
    records: pa.Table  # of the kept samples of all parts, in their order
    tars: Sequence[FileIO]  # of the parts
    store: Store
    folder: Path

    def write(self, split: str, number: int, samples: Sequence[_KeptSample]) -> tuple[Shard, pa.Table]:
        """Write one shard and its index, and return both."""
        path = self.folder / "shard.tar"
        with TarWriter(path) as writer:
            for sample in samples:
                writer.add_bytes(_read_sample(self.tars[sample.part], sample))
            tar = writer.close()
        index = self._index(split, samples)
        index_bytes = records.encode(index)
        shard = Shard(
            key=layout.shard(self.corpus, self.group, split, number),
            split=split,
            samples=tar.samples,
            size=tar.size,
            sha256=tar.sha256,
            index=layout.index(self.corpus, self.group, split, number),
            index_size=len(index_bytes),
            index_sha256=records.sha256(index_bytes),
            group=self.group,
        )
        _create_or_replace(self.store, shard.key, path, shard.sha256)
        _create_or_replace(self.store, shard.index, index_bytes, shard.index_sha256)
        about = {"shard": shard.key, "samples": shard.samples, "size": shard.size, "sha256": shard.sha256}
        _log.info("%s: written, %d samples, %d bytes", shard.key, shard.samples, shard.size, extra=about)
        return shard, index

    def _index(self, split: str, samples: Sequence[_KeptSample]) -> pa.Table:
        """The records of a shard's samples in its order, with their byte ranges in its tar, which has no gaps."""
        index = self.records.take(pa.array([sample.row for sample in samples], pa.int64()))
        old_starts = np.array([sample.start for sample in samples], np.int64)
        stops = np.cumsum(np.array([sample.stop for sample in samples], np.int64) - old_starts)
        starts = np.concatenate([stops[:1] * 0, stops[:-1]])
        members = _shift_offsets(index["members"].combine_chunks(), starts - old_starts)
        index = index.drop_columns([name for name in _NOT_INDEXED if name in index.column_names])
        index = index.append_column("start", pa.array(starts, pa.int64()))
        index = index.append_column("stop", pa.array(stops, pa.int64()))
        index = index.append_column("members", members)
        index = index.append_column("split", pa.array([split] * len(samples), pa.string()))
        part_digests = [self.parts[sample.part].digest for sample in samples]
        return index.append_column("part", pa.array(part_digests, pa.string()))


def _read_sample(tar: FileIO, sample: _KeptSample) -> bytes:
    """A sample's bytes in its part's tar. Read, not mapped: pages of a mapping count as this process's memory."""
    size = sample.stop - sample.start
    payload = os.pread(tar.fileno(), size, sample.start)
    while len(payload) < size:  # Linux reads at most 2 GiB at a time
        more = os.pread(tar.fileno(), size - len(payload), sample.start + len(payload))
        if not more:
            raise CorruptShard(
                f"sample {sample.key!r}: its record says that it ends at byte {sample.stop} of its part, which ends "
                "before; run `stoker verify`, delete the part and ingest again"
            )
        payload += more
    return payload


def _shift_offsets(members: pa.ListArray, by: "np.typing.NDArray[np.int64]") -> pa.ListArray:
    """The members of each sample, their offsets shifted by as many bytes as the sample was moved."""
    counts = pc.list_value_length(members).to_numpy(zero_copy_only=False)
    flat = members.flatten()
    offsets = pa.array(flat.field("offset").to_numpy() + np.repeat(by, counts), pa.int64())
    ends = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    columns = [flat.field("extension"), offsets, flat.field("size")]
    structs = pa.StructArray.from_arrays(columns, fields=list(records.MEMBERS.value_type))
    return pa.ListArray.from_arrays(ends, structs, type=records.MEMBERS)


def _create_or_replace(store: Store, key: str, payload: bytes | Path, sha256: str) -> None:
    """Create an object of a group that has no marker yet; replace an existing one that differs.

    An object differs only if another version of a library wrote it and its run was killed before it wrote the group's
    marker. No manifest names it then.
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


def _find_packed(store: Store, key: str, group: str) -> Packed | None:
    """The group's shards from its marker, None if there is none. Raises CorruptShard if it cannot be read."""
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
