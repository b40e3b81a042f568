"""Partitions that a source has again after others in their place, such as a table whose last export was taken back.

They were read before; of candidates that were read otherwise since, the outcomes of the others are the newest. Such
partitions are read again.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.memory.identity import STAMP
from stoker.pipelines.registry import name_of
from stoker.pipelines.stages.remembering.outcomes import Row, identity_in, partition_of
from stoker.pipelines.stages.remembering.recall import Recall
from stoker.pipelines.stages.remembering.samples import deciding_rows
from stoker.storage.versions.manifest import Part
from stoker.storage.versions.memory.outcomes import hashes_of

_THERE = -1  # the place of what a partition that the source has says


def read_otherwise_since(recall: Recall, there: Iterable[tuple[str, Sequence[str]]]) -> frozenset[str]:
    """The names of partitions of whose candidates some were read otherwise since, in one that is there no more.

    Raises StorageError, DamagedParts among them.

    Args:
        recall: the memory of the corpus.
        there: the partitions that the source has and that were read: name, and digests that parts hold.
    """
    held = dict(there)
    if not held:
        return frozenset()
    numbers = {part.digest: number for number, part in enumerate(recall.parts)}
    places = {made: (part, name) for part in recall.parts for name, made in part.holds.items()}
    current = {made for digests in held.values() for made in digests}
    last = {name: max(numbers[places[made][0].digest] for made in digests) for name, digests in held.items()}
    whole = [part.digest for part in recall.parts if current.issuperset(part.holds.values())]
    if set(recall.definite()["part"].unique().to_pylist()) <= {*whole}:
        return frozenset()
    others = _others(recall, numbers, current)
    found = set[str]()
    for name, number in last.items():
        later = others.filter(pc.greater(others["place"], number))
        if later.num_rows and any(_has_other(recall, *places[made], later) for made in held[name]):
            found.add(name)
    return frozenset(found)


def _others(recall: Recall, numbers: dict[str, int], current: set[str]) -> pa.Table:
    """The outcomes that decide, of partitions that are not there, with the place of their part.

    A part that was left out, as nothing of it counted, comes behind all others.
    """
    rows = deciding_rows(recall.definite("hash", "revision", "at", "stamp", "row"))
    found = pc.index_in(rows["part"], value_set=pa.array(list(numbers), pa.string()))
    place = pc.fill_null(found, len(numbers)).to_numpy().astype(np.int64)
    by_part = np.argsort(place, kind="stable")
    ends = np.searchsorted(place[by_part], np.arange(len(numbers) + 1))
    for number, part in enumerate(recall.parts):
        chosen = by_part[ends[number] : ends[number + 1]]
        is_there = [made in current for made in part.holds.values()]
        if all(is_there):
            place[chosen] = _THERE
        elif any(is_there) and len(chosen):
            place[chosen[_of_current(recall, part, current)[rows["row"].to_numpy()[chosen].astype(np.int64)]]] = _THERE
    chosen = np.flatnonzero(place != _THERE)
    others = rows.take(pa.array(chosen)).append_column("place", pa.array(place[chosen]))
    return others.select(["hash", "revision", "stamp", "place"]).combine_chunks()


def _of_current(recall: Recall, part: Part, current: set[str]) -> npt.NDArray[np.bool_]:
    """Of each row of a part that partitions share, whether it is of one that is there."""
    names = (partition_of(row, part) for row in recall.reader.rows(part, ()))
    return np.array([name is not None and part.holds[name] in current for name in names])


def _has_other(recall: Recall, part: Part, name: str, later: pa.Table) -> bool:
    """Whether a candidate of a partition was read otherwise later."""
    reader, hashes = recall.reader, later["hash"].combine_chunks()
    rows = [
        row
        for _, row in reader.rows_among(part, hashes)
        if partition_of(row, part) == name and not reader.is_fault(row)
    ]
    own = pa.array(hashes_of(name_of(reader.source), map(identity_in, rows)), pa.uint64())
    outcomes = later.take(pc.index_in(own, value_set=hashes)).to_pylist()
    return any(_is_other(recall, row, outcome) for row, outcome in zip(rows, outcomes, strict=True))


def _is_other(recall: Recall, row: Row, outcome: Row) -> bool:
    source = recall.reader.source
    revision, stamp = source.revision_of(row), row.get(STAMP) or source.stamp_of(row)
    if revision is not None and outcome["revision"] is not None and outcome["revision"] > revision:
        return False  # the newest is the sample, whichever is there
    return not stamp or stamp != outcome["stamp"]
