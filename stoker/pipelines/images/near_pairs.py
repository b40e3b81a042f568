"""All pairs of near hashes, found once; what any smaller distance decides is told from them, as a search would.

Price: that of ``hamming.near_duplicates``, for the hashes that are new. Look-alikes make pairs without end: of more
than a limit none are given.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.images.hamming import MAX_DISTANCE, NearDuplicate, near_pairs, parse_hashes
from stoker.storage.versions.measured.pairs import coded, ends_of

_STEP = 16  # bits: up to a multiple of it, a search looks up as many values of each band
_LEAST = 31  # bits up to which pairs are looked for, however few are asked for
MOST = 1 << 21  # pairs above which there are too many; so many take some 350 MB while they are found and written
_PIECE = 1 << 16  # pairs that are Python's numbers at a time


def farthest(distance: int) -> int:
    """The distance up to which pairs are looked for where those up to this one are needed.

    It costs as little from 16 bits on. Nearer ones cost more than they need, once: of 60,000 hashes that are near no
    other 1.5 s in place of 0.1, so that a recipe that goes on to the default distance has them.

    >>> farthest(31), farthest(5), farthest(32)
    (31, 31, 47)
    """
    return max(_LEAST, min(MAX_DISTANCE, distance // _STEP * _STEP + _STEP - 1))


def find_pairs(known: pa.Array, new: pa.ChunkedArray, distance: int) -> pa.Table | None:
    """CODED pairs within a distance that the new hashes make with each other and with the known ones; None: too many.

    A hash that several images have makes a pair with itself. Raises ValueError for what is no hash, or is not written
    as Stoker writes it.

    Args:
        known: hashes in hex, each once.
        new: of each new image.
    """
    counts = pc.value_counts(new)
    of_new, numbers = counts.field("values"), counts.field("counts")
    is_known = pc.is_in(of_new, value_set=known)
    several = of_new.filter(pc.or_(is_known, pc.greater(numbers, 1)))
    hashes = pa.concat_arrays([known, of_new.filter(pc.invert(is_known))])
    texts = hashes.to_pylist()
    words = parse_hashes(texts)
    if words.astype("<u8").tobytes().hex() != "".join(texts):
        raise ValueError("a hash that is not written in lower case")
    found = near_pairs(words, distance, since=len(known), most=MOST)
    if found is None:
        return None
    same = pc.index_in(several, value_set=hashes).to_numpy()
    older, newer = np.concatenate([same, found[0]]), np.concatenate([same, found[1]])
    return coded(hashes, older, newer, np.concatenate([np.zeros(len(same), np.uint8), found[2]]))


def near_duplicates(hashes: pa.ChunkedArray, pairs: pa.Table, distance: int, elders: int) -> Iterator[NearDuplicate]:
    """What ``hamming.near_duplicates`` gives of hashes whose CODED pairs within the distance are all among these."""
    members, a, b = ends_of(pairs.filter(pc.less_equal(pairs["distance"], distance)))
    bits = pairs["distance"].to_numpy()
    bits = bits[bits <= distance]
    ids = pc.fill_null(pc.index_in(hashes, value_set=members), -1).to_numpy()
    rows = np.flatnonzero(ids >= 0)
    there, first = np.unique(ids[rows], return_index=True)
    oldest = np.full(len(members), len(hashes))  # of each hash its oldest holder; after all others if it has none
    oldest[there] = rows[first]
    is_later = oldest[a] > oldest[b]
    newer, older = np.where(is_later, a, b), np.where(is_later, b, a)
    counts = (oldest[newer] < len(hashes)) & (oldest[newer] >= elders) & (newer != older)
    newer, older, bits = newer[counts], older[counts], bits[counts]
    by_age = np.lexsort((oldest[older], oldest[newer]))
    representative: dict[int, tuple[int, int]] = {}  # of each hash that is near one, and the distance
    # All pairs with what is older come first, so that it is known whether that is a representative.
    for start in range(0, len(by_age), _PIECE):
        piece = by_age[start : start + _PIECE]
        for one, other, between in zip(*(column[piece].tolist() for column in (newer, older, bits)), strict=True):
            if one not in representative and other not in representative:
                representative[one] = int(oldest[other]), between
    for row, one in zip(rows.tolist(), ids[rows].tolist(), strict=True):
        if row < elders:
            continue
        if one in representative:
            yield NearDuplicate(row, *representative[one])
        elif oldest[one] != row:
            yield NearDuplicate(row, int(oldest[one]), 0)
