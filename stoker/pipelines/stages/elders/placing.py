"""Elders: the samples that the parent version holds. Each stays in its split, and newcomers are placed by them.

A sample that only versions before the parent held, and which comes back, keeps its split, too, but is no elder. What
versions held is read from the indexes of their shards (see ``history``), which tell the split that training saw,
whatever recipe and release gave it.
"""

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.rule import encoded, numbered
from stoker.pipelines.stages.splits import codes_of
from stoker.storage.versions.queries.hashing import short_hashes

_log = logging.getLogger(__name__)

NEVER = np.iinfo(np.int64).max  # of a sample that no version held
FETCHED = ("sha256",)  # the column by which what was renamed is known if a changed step made other bytes of it
UNKNOWN = -1  # of a split: the recipe has none of that name

Codes = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Placed:
    """The samples of a corpus with unique keys, before any rule: elders first, then those whose keys are known.

    Args:
        samples: as they were given, in this order.
        repeated: those whose keys others have, too.
        is_elder: the parent holds the same content under the same key, or did so under one that is gone.
        is_bound: the parent holds other content under this key, or what a step made of the same fetched bytes under a
            key that is gone, or a version before it held the key: it keeps the split, and is judged as a newcomer.
        since: the first version that held the sample; NEVER of others, which come last.
        split: index in the recipe's splits.
        by_name: the split that the hash of the group's name gives.
        former: of an elder under a new key, the key that is gone; "" of others.
        held: what the parent holds: REMEMBERED, with the column ``code`` of splits; without those of UNKNOWN ones.
    """

    samples: pa.Table
    repeated: pa.Table
    is_elder: Flags
    is_bound: Flags
    since: Codes
    split: Codes
    by_name: Codes
    former: pa.ChunkedArray
    held: pa.Table

    def as_newcomers(self) -> "Placed":
        """The same in this order, as if there was no parent: each in the split of its group's name."""
        none, count = np.zeros(self.samples.num_rows, np.bool_), self.samples.num_rows
        former = pa.chunked_array([pa.repeat("", count)])
        held = self.held.slice(0, 0)
        return replace(self, is_elder=none, is_bound=none, split=self.by_name.copy(), former=former, held=held)


def place(samples: pa.Table, held: pa.Table, splits: Mapping[str, float], *, by_age: bool = False) -> Placed:
    """Where samples are before rules: an elder in its split, any other with its group. The first of a key counts.

    Args:
        samples: with key, group, content_sha256, and FETCHED where they have it.
        held: what versions held, from ``remembered``.
        splits: the recipe's.
        by_age: those that a version held come in the order of the first one that did, then of a hash of the key.
    """
    group_of, groups = encoded(samples["group"])
    # What is hashed and what is joined take about as long, and run side by side.
    beside = ThreadPoolExecutor(2, thread_name_prefix="stoker-hashes")
    numbering = beside.submit(numbered, samples["key"])
    naming = beside.submit(codes_of, pa.chunked_array([groups]), splits)
    hashing = beside.submit(short_hashes, b"\0", samples["key"]) if by_age and held.num_rows else None
    beside.shutdown(wait=False)
    code = pc.fill_null(pc.index_in(held["split"], value_set=pa.array(list(splits), pa.string())), UNKNOWN)
    held = only(held.append_column("code", code), pc.greater_equal(code, 0))
    place_in_held = pc.index_in(samples["key"], value_set=held["key"])
    known = pc.is_valid(place_in_held).to_numpy()
    same = pc.equal(held["content_sha256"].take(place_in_held), samples["content_sha256"])
    is_elder = pc.fill_null(pc.and_(same, held["is_held"].take(place_in_held)), False).to_numpy()
    # Of one key the elder, or else the first.
    numbers, different = numbering.result()
    is_chosen = np.full(samples.num_rows, different == samples.num_rows)
    if different < samples.num_rows:
        by_claim = np.argsort(~is_elder, kind="stable")
        is_chosen[by_claim[np.unique(numbers[by_claim], return_index=True)[1]]] = True
    repeated = samples.filter(pa.array(~is_chosen))
    origin = pc.fill_null(place_in_held, -1).to_numpy().astype(np.int64)
    origin[~is_elder] = -1
    _add_renamed(origin, "content_sha256", samples, held, is_chosen)
    is_elder = origin >= 0
    before = np.where(is_elder, origin, pc.fill_null(place_in_held, -1).to_numpy().astype(np.int64))
    for name in FETCHED:
        if name in samples.column_names and pa.types.is_string(samples.schema.field(name).type):
            _add_renamed(before, name, samples, held, is_chosen)
    is_bound = (before >= 0) & ~is_elder
    rank = np.where(is_elder, 0, np.where(is_bound, 1, 2))
    order = np.argsort(rank, kind="stable")
    order = order[is_chosen[order]]
    by_name, split = _by_group(group_of, held, groups, naming)
    since = np.full(samples.num_rows, NEVER)
    if held.num_rows:
        split = np.where(before >= 0, held["code"].to_numpy()[before], split)
        since = np.where(before >= 0, held["since"].to_numpy()[before], since)
    if hashing:
        order = _sorted_by_age(order, hashing.result(), since)
    return Placed(
        samples=_taken(samples, order),
        repeated=repeated,
        is_elder=is_elder[order],
        is_bound=is_bound[order],
        since=since[order],
        split=split[order],
        by_name=by_name[order],
        former=_former(np.where(is_elder & ~known, origin, -1)[order], held),
        held=only(held, held["is_held"]),
    )


def _former(rows: Codes, held: pa.Table) -> pa.ChunkedArray:
    """The keys in these rows of ``held``; "" for -1."""
    if (rows < 0).all():
        return pa.chunked_array([pa.repeat("", len(rows))])
    return pc.fill_null(held["key"].take(pa.array(rows, pa.int64(), mask=rows < 0)), "")


def only(table: pa.Table, counts: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The rows that count; not copied where all do."""
    return table if pc.all(counts).as_py() else _by_column(table, lambda column: column.filter(counts))


def _taken(samples: pa.Table, order: Codes) -> pa.Table:
    """The rows in this order; not copied where they are all the rows as they are."""
    if len(order) == samples.num_rows and bool((order == np.arange(len(order))).all()):
        return samples
    rows = pa.array(order)
    return _by_column(samples, lambda column: column.take(rows))


def _by_column(table: pa.Table, chosen: Callable[[pa.ChunkedArray], pa.ChunkedArray]) -> pa.Table:
    """The chosen rows of each column, two columns at a time."""
    with ThreadPoolExecutor(2, thread_name_prefix="stoker-columns") as threads:
        return pa.table(list(threads.map(chosen, table.columns)), schema=table.schema)


def _add_renamed(origin: Codes, name: str, samples: pa.Table, held: pa.Table, is_chosen: Flags) -> None:
    """Give samples of which the parent holds an equal one under a key that is gone the place of that one in ``held``.

    ``name`` is the column by which they are equal. Of several the first by key is the first one's, whatever the order
    of the source.
    """
    there = ~held["is_held"].to_numpy()
    there[origin[is_chosen & (origin >= 0)]] = True
    gone = np.flatnonzero(~there & pc.is_valid(held[name]).to_numpy())
    if not gone.size:
        return
    contents = held[name].take(pa.array(gone)).unique()
    own = pc.fill_null(pc.index_in(samples[name], value_set=contents), -1).to_numpy()
    claims = np.flatnonzero(is_chosen & (origin < 0) & (own >= 0))
    numbers = pc.index_in(held[name].take(pa.array(gone)), value_set=contents).to_numpy()
    gone, numbers = _by_key(gone, numbers, held)
    claims, wanted = _by_key(claims, own[claims], samples)
    width = max(len(gone), len(claims)) + 1
    _, ours, theirs = np.intersect1d(
        numbers * width + _rank(numbers), wanted * width + _rank(wanted), assume_unique=True, return_indices=True
    )
    origin[claims[theirs]] = gone[ours]


def _by_key(rows: Codes, numbers: Codes, table: pa.Table) -> tuple[Codes, Codes]:
    """Rows of a table and their numbers, sorted by number and key."""
    keys = pa.table({"number": numbers, "key": table["key"].take(pa.array(rows))})
    order = pc.sort_indices(keys, [("number", "ascending"), ("key", "ascending")]).to_numpy()
    return rows[order], numbers[order].astype(np.int64)


def _rank(numbers: Codes) -> Codes:
    """The place of each among its equals; equal numbers lie together."""
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    lengths = np.diff(np.append(starts, len(numbers)))
    return np.arange(len(numbers)) - np.repeat(starts, lengths)


def _by_group(numbers: Codes, held: pa.Table, groups: pa.Array, naming: Future[Codes]) -> tuple[Codes, Codes]:
    """Of each sample the split by its group's name, and that of the group's elders, where it has any.

    Args:
        numbers: of each sample its group's number.
        held: see ``place``.
        groups: their names by their numbers.
        naming: the splits of the groups, by their names.
    """
    own = pc.fill_null(pc.index_in(held["group"].cast(groups.type), value_set=groups), -1).to_numpy()
    # Written last to first, so that the first elder's is what remains.
    members = np.flatnonzero(own >= 0)[::-1]
    by_name = naming.result()
    of_elders = by_name.copy()
    of_elders[own[members]] = held["code"].to_numpy()[members]
    return (by_name[numbers], of_elders[numbers]) if len(groups) else (numbers, numbers)


def _sorted_by_age(order: Codes, hashes: npt.NDArray[np.uint64], since: Codes) -> Codes:
    """The order, in which those that a version held come first, with those sorted by age and a hash of the key."""
    known = order[since[order] < NEVER]
    return np.concatenate([known[np.lexsort((hashes[known], since[known]))], order[len(known) :]])
