"""The split of a group of samples, from a hash of the group's name, so that it never moves.

Sources name the group (a page, a video, a document). What the version before holds keeps its split (``elders``), and
rules such as ``leak_free_split`` may move a newcomer afterwards.
"""

import hashlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stoker.storage.versions.queries.hashing import short_hashes

_BEFORE = b"split\0"  # the name of a group, in its hash
_MISSED_POINTS = 2.0  # percentage points, and
_MISSED_SHARE = 0.2  # share of the asked percentage, by which a split's size may differ without a warning
_EXPLAINED = 0.8  # share of the samples in the wrong split from which on those that keep theirs are the cause


def split_of(group: str, splits: Mapping[str, float]) -> str:
    """The split of a group: stable for its name and the percentages, whatever else the corpus holds.

    >>> split_of("page-7", {"train": 100})
    'train'
    >>> [split_of(f"page-{n}", {"train": 50, "validation": 50}) for n in range(4, 8)]
    ['train', 'train', 'validation', 'validation']
    """
    digest = hashlib.sha256(_BEFORE + group.encode("utf-8", "surrogatepass")).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64 * 100  # in percent
    upper = 0.0
    for name, percent in splits.items():
        upper += percent
        if position < upper:
            return name
    return [name for name, percent in splits.items() if percent > 0][-1]  # rounding errors at 100 %


def codes_of(groups: pa.ChunkedArray, splits: Mapping[str, float]) -> npt.NDArray[np.int64]:
    """The numbers of the splits of many groups, see ``split_of``.

    >>> codes_of(pa.chunked_array([["page-4", "page-6"]]), {"train": 50, "validation": 50}).tolist()
    [0, 1]
    """
    positions = short_hashes(_BEFORE, groups).astype(np.float64) / 2**64 * 100
    codes = np.searchsorted(np.cumsum(list(splits.values())), positions, side="right")
    last = max(code for code, percent in enumerate(splits.values()) if percent > 0)
    return np.where(codes < len(splits), codes, last)


def missed_shares(asked: Mapping[str, float], samples: Mapping[str, int], *, moved: int = 0) -> list[str]:
    """Sentences about splits that are empty, or far from their percentage: groups are few, or of unequal size.

    Args:
        asked: percentages.
        samples: of each split.
        moved: how many are not in the split that their group's name says, in a version that follows another one. If
            these are as many as are in the wrong split, they keep a split that was given by other percentages.

    >>> missed_shares({"train": 98, "test": 2}, {"train": 30, "test": 0})
    ['split test is empty; asked were 2 %: its groups are too few, or too unequal; add samples, or change [splits]']
    >>> missed_shares({"train": 80, "test": 20}, {"train": 81, "test": 19})
    []
    >>> missed_shares({"train": 50, "test": 50}, {"train": 90, "test": 10}, moved=40)[1]
    'split test has 10 % of the samples; asked were 50 %: samples keep the split that they had in earlier versions; \
`stoker curate RECIPE --resplit` gives splits anew, or change [splits]'
    """
    total = sum(samples.values())
    misplaced = sum(abs(samples.get(name, 0) - percent / 100 * total) for name, percent in asked.items()) / 2
    cause = "its groups are too few, or too unequal; add samples, or change [splits]"
    if moved and moved >= _EXPLAINED * misplaced:
        cause = (
            "samples keep the split that they had in earlier versions; `stoker curate RECIPE --resplit` gives splits "
            "anew, or change [splits]"
        )
    sentences = []
    for name, percent in asked.items():
        reached = samples.get(name, 0) * 100 / total if total else 0.0
        missed = abs(reached - percent)
        if total and (percent > 0) and (not reached or missed > max(_MISSED_POINTS, _MISSED_SHARE * percent)):
            state = f"has {reached:.3g} % of the samples" if reached else "is empty"
            sentences.append(f"split {name} {state}; asked were {percent:g} %: {cause}")
    return sentences
