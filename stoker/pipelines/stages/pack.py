"""Pack: the kept samples of a group of raw parts become shards, shuffled across the parts, by split.

The shuffle sorts by a hash of seed and key, so that the same group gives the same bytes. Price: the group's tars are
downloaded to scratch, and each sample is one random read in them.
"""

import dataclasses
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.partition import digest
from stoker.pipelines.recipe import Recipe
from stoker.pipelines.stages.group import (
    MAX_ATTEMPTS,
    OtherBytes,
    Packed,
    attempts,
    named_checksums,
    read_marker,
    write_marker,
)
from stoker.pipelines.stages.raw_part import NOT_OF_SAMPLES, DamagedParts, kept_records
from stoker.pipelines.stages.scratch import folder_in
from stoker.pipelines.stages.splits import split_of
from stoker.pipelines.tables.deciding.by_group import types_in
from stoker.storage.errors import AlreadyExists, CorruptShard, NotFound
from stoker.storage.shards import records, row_checksum
from stoker.storage.shards.row_checksum import CRC32C
from stoker.storage.shards.shard import TarWriter
from stoker.storage.statistics.licences import count_licences
from stoker.storage.statistics.summary import Summary, summarise
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.manifest import Part, Shard
from stoker.storage.versions.verified import checksum, put

_log = logging.getLogger(__name__)

_FORMAT = 1  # of shards and their indexes; raise it when the same samples are written in other bytes than before
_READ_AGAIN = "the same command reads it again; its copy here was altered after it had the right checksum"
_NOT_INDEXED = (*NOT_OF_SAMPLES, "split", "part")


class _KeptSample(NamedTuple):
    """A sample to be packed, and where its bytes and its record are."""

    key: str
    split: str
    part: int  # index in the group
    row: int  # in the table of all parts' kept samples
    start: int  # bytes [start, stop) of the part's tar
    stop: int
    crc32c: int | None  # of these bytes; None: of a part that an older release wrote


def pack(
    recipe: Recipe,
    parts: Sequence[Part],
    decisions: bytes,
    store: Store,
    scratch: Path,
    *,
    damaged: Collection[str] = (),
) -> Packed:
    """The shards of a group of parts; packed, unless they exist.

    Byte-identical for the same parts, decisions and sharding. Memory holds the group's records, not its payloads.
    Raises StorageError, DamagedParts among them.

    Args:
        decisions: of the group's samples, from ``Curation.by_group``.
        damaged: keys; a group of which one is among them is packed again in its place.
    """
    tables = _kept_records(parts, store)
    decided = records.decode(decisions)
    samples, types = list(_samples_to_pack(recipe, parts, tables, decided)), types_in(decided)
    group = _digest(recipe, parts, samples, types)
    existing = read_marker(store, recipe.corpus, group)
    if existing is not None and existing.keys.isdisjoint(damaged):
        _log.info("group %s is packed and is used again", group, extra={"group": group})
        return existing
    with folder_in(scratch) as folder, ExitStack() as open_files:
        tars = [open_files.enter_context(tar) for tar in _download_tars(parts, store, folder)]
        source = _GroupSource(parts, _typed(records.join(tables), types), tars)
        for name in attempts(group):
            writer = _GroupWriter(recipe.corpus, name, source, store, folder, again=existing is not None)
            with suppress(OtherBytes):  # what versions name can no longer be made, so that this gets other names
                packed = _write(recipe, samples, writer)
                write_marker(store, recipe.corpus, group, packed)
                return packed
    raise CorruptShard(
        f"{store.url}/{layout.group_folder(recipe.corpus, group)}: damaged, and was packed in other bytes "
        f"{MAX_ATTEMPTS} times; pack with another seed ([shards] seed in the recipe)"
    )


def group_digest(recipe: Recipe, parts: Sequence[Part], decisions: bytes, store: Store) -> str:
    """The digest of the group that ``pack`` makes of these. Raises StorageError, DamagedParts among them."""
    tables = _kept_records(parts, store)
    decided = records.decode(decisions)
    return _digest(recipe, parts, list(_samples_to_pack(recipe, parts, tables, decided)), types_in(decided))


def _typed(table: pa.Table, types: Mapping[str, pa.DataType]) -> pa.Table:
    """The table whose columns have these types; others stay."""
    return records.cast(table, pa.schema([(field.name, types.get(field.name, field.type)) for field in table.schema]))


def _write(recipe: Recipe, samples: Sequence[_KeptSample], writer: "_GroupWriter") -> Packed:
    """Write all shards of a group. Raises OtherBytes."""
    shards: list[Shard] = []
    statistics: dict[str, dict[str, Any]] = {}
    licences: Counter[str] = Counter()
    for split in recipe.splits:
        summary = Summary.empty()
        in_split = [sample for sample in samples if sample.split == split]
        for number, shard_samples in enumerate(_shuffle_and_cut(recipe, in_split)):
            shard, index = writer.write(split, number, shard_samples)
            shards.append(shard)
            summary = summary.merge(summarise(index))
            licences.update(count_licences(index))
        statistics[split] = summary.to_json()
    return Packed(writer.group, tuple(shards), statistics, dict(sorted(licences.items())), skipped=False)


def _kept_records(parts: Sequence[Part], store: Store) -> list[pa.Table]:
    """The records of each part's kept samples. Raises DamagedParts with all that are damaged."""
    tables: list[pa.Table] = []
    damages: list[DamagedParts] = []
    for part in parts:
        try:
            tables.append(kept_records(store, part))
        except DamagedParts as error:
            damages.append(error)
    if damages:
        raise DamagedParts.joined(damages)
    return tables


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
        rows = zip(*columns, records.checksums(table), strict=True)
        for row, (key, group, start, stop, crc32c) in enumerate(rows, first_row):
            if (part.digest, key) not in dropped:
                split = moved.get((part.digest, key)) or split_of(group, recipe.splits)
                yield _KeptSample(key, split, number, row, start, stop, crc32c)
        first_row += table.num_rows


def _digest(
    recipe: Recipe, parts: Sequence[Part], samples: Sequence[_KeptSample], types: Mapping[str, pa.DataType]
) -> str:
    """The name of a group: a digest of all that determines the bytes of its shards."""
    chosen = hashlib.sha256()
    for sample in samples:
        chosen.update(f"{sample.part}\t{sample.key}\t{sample.split}\n".encode())
    options = dataclasses.asdict(recipe.shards)
    del options["partitions"]  # it determined which parts are in the group
    content = [(part.digest, part.tar_sha256, part.records_sha256) for part in parts]
    identity = {"format": _FORMAT, "options": options, "parts": content, "chosen": chosen.hexdigest()}
    identity |= {"types": {name: str(kind) for name, kind in types.items()}} if types else {}
    return digest(identity)[: layout.DIGEST]


def _download_tars(parts: Sequence[Part], store: Store, folder: Path) -> list[FileIO]:
    """The parts' tars as local files. Raises DamagedParts with all that are damaged."""
    damages: list[DamagedParts] = []
    for part in parts:
        try:
            _download_tar(part, store, folder)
        except DamagedParts as error:
            damages.append(error)
    if damages:
        raise DamagedParts.joined(damages)
    return [_path_of(part, folder).open("rb", buffering=0) for part in parts]


def _download_tar(part: Part, store: Store, folder: Path) -> None:
    """The part's tar in its local file. Raises DamagedParts if its checksum differs; it is read once more before."""
    actual = ""
    for _ in range(2):
        try:
            actual = _download(part, store, _path_of(part, folder))
        except NotFound as error:
            raise DamagedParts(f"{store.url}/{part.tar}: it is missing", [part]) from error
        if actual == part.tar_sha256:
            return
    message = f"{store.url}/{part.tar}: sha256 {actual[:12]}, but its part was written with {part.tar_sha256[:12]}"
    raise DamagedParts(message, [part])


def _download(part: Part, store: Store, path: Path) -> str:
    """The SHA-256 of the part's tar, copied to a file."""
    hasher = hashlib.sha256()
    with path.open("wb") as file:
        for chunk in store.iter_bytes(part.tar):
            hasher.update(chunk)
            file.write(chunk)
    return hasher.hexdigest()


def _path_of(part: Part, folder: Path) -> Path:
    return folder / f"{part.digest}.tar"


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
class _GroupSource:
    """What the shards of a group are written from."""

    parts: Sequence[Part]
    records: pa.Table  # of the kept samples of all parts, in their order
    tars: Sequence[FileIO]  # of the parts


@dataclass(frozen=True)
class _GroupWriter:
    """Writes the shards of one group to the store."""

    corpus: str
    group: str  # digest
    source: _GroupSource
    store: Store
    folder: Path
    again: bool  # objects of the group are damaged

    def write(self, split: str, number: int, samples: Sequence[_KeptSample]) -> tuple[Shard, pa.Table]:
        """Write one shard and its index, and return both."""
        path = self.folder / "shard.tar"
        urls = [f"{self.store.url}/{part.tar}" for part in self.source.parts]
        checksums: list[int] = []
        with TarWriter(path) as writer:
            for sample in samples:
                checksums.append(writer.add_bytes(_read_sample(self.source.tars[sample.part], sample)))
                row_checksum.check(sample.crc32c, checksums[-1], sample.key, urls[sample.part], remedy=_READ_AGAIN)
            tar = writer.close()
        index = self._index(split, samples, checksums)
        key = layout.shard(self.corpus, self.group, split, number)
        self._put(key, path, tar.sha256)
        index_key = layout.index(self.corpus, self.group, split, number)
        index_bytes = self._put_index(index_key, index)
        shard = Shard(
            key=key,
            split=split,
            samples=tar.samples,
            size=tar.size,
            sha256=tar.sha256,
            index=index_key,
            index_size=len(index_bytes),
            index_sha256=records.sha256(index_bytes),
            group=self.group,
        )
        about = {"shard": shard.key, "samples": shard.samples, "size": shard.size, "sha256": shard.sha256}
        _log.info("%s: written, %d samples, %d bytes", shard.key, shard.samples, shard.size, extra=about)
        return shard, index

    def _put_index(self, key: str, index: pa.Table) -> bytes:
        """Write an index; without checksums where a version names it so, as older releases wrote it."""
        payload = records.encode(index)
        try:
            self._put(key, payload, records.sha256(payload))
        except OtherBytes:
            payload = records.encode(index.drop_columns([CRC32C]))
            self._put(key, payload, records.sha256(payload))
        return payload

    def _put(self, key: str, payload: bytes | Path, sha256: str) -> None:
        """Create an object of the group, or replace it where it is damaged, or no version names it.

        Raises OtherBytes where a version names other bytes under this key: another release of a library wrote them.
        """
        if not self.again:
            try:
                self.store.create(key, payload)
                return
            except AlreadyExists:
                if checksum(self.store, key) == sha256:
                    return
        if self._named.get(key, set()) - {sha256}:
            raise OtherBytes(f"{self.store.url}/{key}: a version names other bytes")
        put(self.store, key, payload, sha256=sha256)

    @cached_property
    def _named(self) -> Mapping[str, set[str]]:
        return named_checksums(self.store, self.corpus, self.group)

    def _index(self, split: str, samples: Sequence[_KeptSample], checksums: Sequence[int]) -> pa.Table:
        """The records of a shard's samples in its order, with their byte ranges in its tar, which has no gaps."""
        index = self.source.records.take(pa.array([sample.row for sample in samples], pa.int64()))
        old_starts = np.array([sample.start for sample in samples], np.int64)
        stops = np.cumsum(np.array([sample.stop for sample in samples], np.int64) - old_starts)
        starts = np.concatenate([stops[:1] * 0, stops[:-1]])
        members = _shift_offsets(index["members"].combine_chunks(), starts - old_starts)
        index = index.drop_columns([name for name in _NOT_INDEXED if name in index.column_names])
        index = index.append_column("start", pa.array(starts, pa.int64()))
        index = index.append_column("stop", pa.array(stops, pa.int64()))
        index = index.append_column("members", members)
        index = index.append_column(CRC32C, pa.array(checksums, pa.uint32()))
        index = index.append_column("split", pa.array([split] * len(samples), pa.string()))
        part_digests = [self.source.parts[sample.part].digest for sample in samples]
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
                "before; both have their checksums, so that this is a bug"
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
