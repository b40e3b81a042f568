"""Which split a group of samples belongs to: from its name alone, so that it never moves."""

import hashlib
from collections.abc import Mapping


def split_of(group: str, splits: Mapping[str, float]) -> str:
    """The split of a group: stable for its name and the percentages, whatever else the corpus holds.

    >>> split_of("page-7", {"train": 100})
    'train'
    >>> [split_of(f"page-{n}", {"train": 50, "validation": 50}) for n in range(4, 8)]
    ['train', 'train', 'validation', 'validation']
    """
    mark = int.from_bytes(hashlib.sha256(b"split\0" + group.encode("utf-8", "surrogatepass")).digest()[:8], "big")
    place = mark / 2**64 * 100
    passed = 0.0
    for name, percent in splits.items():
        passed += percent
        if place < passed:
            return name
    return [name for name, percent in splits.items() if percent > 0][-1]  # rounding at the upper end
