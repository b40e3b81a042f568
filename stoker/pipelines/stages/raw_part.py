"""Raw parts: their markers, and what is done when one is damaged.

All that a marker says is compared with the names and the bytes of the two objects that it names: as far as names go
when it is read, in full when its records are (``kept_records``). Where it says more than these hold, it has a checksum.
A damaged marker is made again from these objects. A part whose bytes are damaged is read from the source again.
"""

import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stoker.pipelines.memory.identity import IDENTITY, STAMP
from stoker.pipelines.memory.originals import ORIGINAL, tars_in
from stoker.pipelines.partition import digest as digest_of
from stoker.pipelines.rejected import OUTCOME_CLASS
from stoker.pipelines.stages.measure import hash_of_content
from stoker.pipelines.web import measured
from stoker.storage.errors import CorruptObject, CorruptShard, NotFound
from stoker.storage.shards import records, row_checksum
from stoker.storage.shards.blank import blank_rows_of
from stoker.storage.shards.kinds import INDEX, RECORDS
from stoker.storage.shards.row_checksum import CRC32C, crc32c
from stoker.storage.shards.sample import Sample
from stoker.storage.shards.shard import SampleSpan, iter_samples, iter_spans
from stoker.storage.shards.tar import END
from stoker.storage.stores.store import Store
from stoker.storage.versions import catalog, layout
from stoker.storage.versions.manifest import Part, load_manifest
from stoker.storage.versions.verified import checksum, second_read, verified_bytes, verified_view

_log = logging.getLogger(__name__)

# Columns of a part's records about the part, the fetch and rejects: neither rules nor indexes of shards get them.
NOT_OF_SAMPLES = (
    "start",
    "stop",
    "members",
    CRC32C,
    "reason",
    "detail",
    "step",
    "fetched_at",
    OUTCOME_CLASS,
    IDENTITY,
    *measured.COLUMNS,
    STAMP,
    ORIGINAL,
)

NOT_SHARED: Mapping[str, str] = MappingProxyType({})  # of a part that one partition has alone

_MARKER_FORMAT = 1
_CHECKSUM = "checksum"  # SHA-256 of the marker's content without it


class DamagedParts(CorruptShard):
    """Raw parts whose bytes are not what their markers say. The next ingest of their partitions heals them."""

    def __init__(self, message: str, parts: Sequence[Part]) -> None:
        super().__init__(message)
        self.parts = tuple(parts)

    def __reduce__(self) -> tuple[type["DamagedParts"], tuple[str, tuple[Part, ...]]]:
        return type(self), (str(self), self.parts)  # raised in workers

    @classmethod
    def joined(cls, errors: "Sequence[DamagedParts]") -> "DamagedParts":
        """All parts of several errors, with the message of the first."""
        parts = {part.digest: part for error in errors for part in error.parts}
        more = f" (and {len(parts) - 1} more parts)" if len(parts) > 1 else ""
        return cls(f"{errors[0]}{more}", list(parts.values()))


def write_marker(store: Store, corpus: str, part: Part) -> None:
    """Write the marker of a part, whose objects are there. Raises AlreadyExists, when another run was first."""
    store.create(layout.raw_part(corpus, part.digest), _marker(part))


def move_marker(store: Store, corpus: str, old: Part, new: Part) -> None:
    """Let the marker of a part, if it is there, name what a purge wrote in the place of the part's objects."""
    key = layout.raw_part(corpus, old.digest)
    with suppress(
        NotFound, ValueError, TypeError, KeyError, AttributeError, RecursionError
    ):  # what is damaged is healed
        stated = _parse(store.read(key), corpus, old.digest, old.partition)
        if (stated.tar, stated.records) == (old.tar, old.records):
            store.write(key, _marker(new.as_read()))


def read_marker(
    store: Store, corpus: str, digest: str, partition: str, shared: Mapping[str, str] = NOT_SHARED
) -> Part | None:
    """The part with a digest, from its marker; None if there is none.

    A damaged marker is made again from the part's objects, and removed where they do not allow that. ``shared``: see
    ``heal``.
    """
    key = layout.raw_part(corpus, digest)
    try:
        payload = store.read(key)
    except NotFound:
        return None
    try:
        return _parse(payload, corpus, digest, partition)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        _log.warning("%s/%s: not the marker of partition %r (%s)", store.url, key, partition, error)
        return heal(store, corpus, digest, partition, shared)


def kept_records(store: Store, part: Part) -> pa.Table:
    """The records of a part's kept samples that count.

    Raises DamagedParts where they, or the part's counts, are not right.
    """
    return kept_columns(store, part, None)[0]


def kept_columns(store: Store, part: Part, names: Collection[str] | None) -> tuple[pa.Table, pa.Schema]:
    """Those of the columns that the records of a part have, of its kept samples; and the schema of all columns.

    No other column is decoded; with None all are. Raises DamagedParts as ``kept_records``.
    """
    try:
        payload = verified_bytes(store, part.records, sha256=part.records_sha256)
    except (CorruptObject, NotFound) as error:
        raise DamagedParts(str(error), [part]) from error
    try:
        schema = pq.read_schema(pa.BufferReader(payload))
        chosen = [name for name in schema.names if names is None or name in names or name == "reason"]
        table = RECORDS.check(records.decode(payload, columns=chosen), names and {*names, "reason"})
        are_kept = pc.is_null(table["reason"])
        samples = INDEX.check(table.filter(are_kept) if table["reason"].null_count < table.num_rows else table, names)
    except (CorruptShard, pa.ArrowException, OSError, ValueError) as error:
        raise DamagedParts(f"{store.url}/{part.records}: {error}", [part]) from error
    kept, reasons = _counted(table)
    if (table.num_rows, kept, reasons) != (part.read, part.kept, dict(part.rejected)):
        raise DamagedParts(
            f"{store.url}/{part.records}: its {table.num_rows} rows are not what the part's marker counts", [part]
        )
    if gone := part.left_out:
        live = np.ones(table.num_rows, np.bool_)
        live[list(gone)] = False
        samples = samples.filter(pa.array(live).filter(are_kept.combine_chunks()))
    return samples, schema


def _counted(table: pa.Table) -> tuple[int, dict[str, int]]:
    """How many candidates of records were kept, and how many were rejected for each reason."""
    counts = {one["values"]: one["counts"] for one in table["reason"].value_counts().to_pylist()}
    return counts.pop(None, 0), counts


def read_sample(store: Store, part: Part, row: Mapping[str, Any]) -> Sample:  # Any: Parquet values
    """A kept sample, from one read of its range in the part's tar. Raises DamagedParts where it is another one.

    ``row``: its record's key, start, stop, and crc32c and content_sha256 where it has them.
    """
    start, stop, key, content_sha256 = row["start"], row["stop"], row["key"], row.get("content_sha256")

    def read() -> Sample:
        payload = store.read(part.tar, start=start, size=stop - start)
        again = "its partition is to be read again"
        row_checksum.check(row.get(CRC32C), crc32c(payload), key, "read alone", remedy=again)
        (sample,) = iter_samples(payload + END)
        if sample.key != key or content_sha256 not in (None, hash_of_content(sample)):
            raise CorruptShard(f"sample {key!r} is another one than its record says")
        return sample

    try:
        return second_read(read)
    except (CorruptShard, NotFound, ValueError) as error:
        raise DamagedParts(f"{store.url}/{part.tar}: bytes {start} to {stop}: {error}", [part]) from error


def heal(store: Store, corpus: str, digest: str, partition: str, shared: Mapping[str, str] = NOT_SHARED) -> Part | None:
    """The part as its objects tell it, with a new marker; without its marker and None where one of them is damaged.

    ``shared``: name → digest of the partitions that were to share the part, of which it holds those in its records.
    """
    key = layout.raw_part(corpus, digest)
    found = list(_from_objects(store, corpus, digest, partition, shared))
    if not found:
        _log.warning("partition %r: its raw part %s is damaged; an ingest reads it again", partition, digest)
        store.delete(key)
        return None
    part = _as_published(store, corpus, found)
    store.write(key, _marker(part))
    return part


def _as_published(store: Store, corpus: str, found: Sequence[Part]) -> Part:
    """That of the parts which the newest version names, as it says, which may count what objects do not hold."""
    plain = [replace(part, shared={}) for part in found]
    for number in reversed(catalog.versions(store, corpus)):
        with suppress(CorruptShard, NotFound):
            for published in map(Part.as_read, load_manifest(store, corpus, number).parts):
                if replace(published, omitted={}, shared={}) in plain:
                    return published
    return found[0]


def _marker(part: Part) -> bytes:
    content = {"schema": _MARKER_FORMAT} | part.to_json()
    # Otherwise it would not be read by earlier releases, which know no other fields.
    if part.omitted or part.originals or part.shared:
        content[_CHECKSUM] = digest_of(content)
    return json.dumps(content, sort_keys=True).encode()


def _parse(payload: bytes, corpus: str, digest: str, partition: str) -> Part:
    """The part in a marker. Raises ValueError, TypeError, KeyError or AttributeError for what cannot be right."""
    marker = json.loads(payload)
    stated = marker.pop(_CHECKSUM, None)
    if stated not in (None, digest_of(marker)):
        raise ValueError("its checksum differs")
    if marker.pop("schema") != _MARKER_FORMAT:
        raise ValueError("of an unknown format")
    part = Part(**marker | {"originals": tuple(marker.get("originals", ()))})
    if not all(map(layout.is_originals, part.originals)):
        raise ValueError("it names originals that are none")
    texts = [getattr(part, field.name) for field in fields(part) if field.type is str]
    texts += [*part.shared, *part.shared.values()]
    counts = [part.tar_size, part.read, part.kept, *part.rejected.values(), *part.omitted.values()]
    if not all(isinstance(text, str) for text in texts) or not all(type(count) is int for count in counts):
        raise TypeError("a field has the wrong type")
    names = (
        digest,
        partition,
        layout.raw_tar(corpus, digest, part.tar_sha256),
        layout.raw_records(corpus, digest, part.records_sha256),
    )
    if (part.digest, part.partition, part.tar, part.records) != names:
        raise ValueError("it names other objects")
    if min(counts) < 0 or part.read != part.kept + sum(part.rejected.values()):
        raise ValueError("its counts are no sum")
    return part


def _from_objects(store: Store, corpus: str, digest: str, partition: str, shared: Mapping[str, str]) -> Iterator[Part]:
    """The parts whose tar and records lie in the folder, undamaged and alike; two ingests may have left two."""
    listed = store.list(layout.raw_folder(corpus, digest))
    stored = {one.key: one.size for one in listed if not (layout.is_segment(one.key) or layout.is_originals(one.key))}
    tars = {key: sha256 for key in stored if key.endswith(".tar") and (sha256 := _sha256(store, key))}
    tars = {key: sha256 for key, sha256 in tars.items() if key == layout.raw_tar(corpus, digest, sha256)}
    for key in (key for key in stored if key.endswith(".parquet")):
        sha256 = _sha256(store, key)
        if key != layout.raw_records(corpus, digest, sha256):
            continue
        try:
            table = RECORDS.check(records.decode(verified_bytes(store, key, sha256=sha256)))
        except CorruptShard as error:  # of other software: its checksum is right
            _log.warning("%s/%s: %s", store.url, key, error)
            continue
        kept, reasons = _counted(table)
        names = set(table["partition"].to_pylist()) if shared else ()
        for tar, tar_sha256 in tars.items():
            if _fits(store, tar, tar_sha256, stored[tar], table):
                yield Part(
                    partition=partition,
                    digest=digest,
                    tar=tar,
                    tar_sha256=tar_sha256,
                    tar_size=stored[tar],
                    records=key,
                    records_sha256=sha256,
                    read=table.num_rows,
                    kept=kept,
                    rejected=dict(sorted(reasons.items())),
                    originals=tars_in(table.column(ORIGINAL).to_pylist() if ORIGINAL in table.column_names else ()),
                    shared={name: made for name, made in shared.items() if name in names},
                )


def _sha256(store: Store, key: str) -> str:
    try:
        return checksum(store, key)
    except NotFound:  # removed since it was listed
        return ""


def _fits(store: Store, tar: str, sha256: str, size: int, table: pa.Table) -> bool:
    """Whether the records say where the samples of a tar lie."""
    kept = table.filter(pc.is_null(table["reason"]))
    stated = records.spans(kept.filter(pa.array(~blank_rows_of(kept))))
    try:
        actual = list(iter_spans(verified_view(store, tar, sha256=sha256, size=size)))
    except CorruptShard:
        return False
    return len(stated) == len(actual) and all(map(SampleSpan.agrees, stated, actual))
