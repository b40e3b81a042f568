"""The split of a group of samples, from a hash of the group's name, so that it never moves.

Sources name the group (a page, a video, a document). Rules such as ``leak_free_split`` may move a sample afterwards."""

import hashlib
from collections.abc import Mapping


def split_of(group: str, splits: Mapping[str, float]) -> str:
    """The split of a group: stable for its name and the percentages, whatever else the corpus holds.

    >>> split_of("page-7", {"train": 100})
    'train'
    >>> [split_of(f"page-{n}", {"train": 50, "validation": 50}) for n in range(4, 8)]
    ['train', 'train', 'validation', 'validation']
    """
    hashed = int.from_bytes(hashlib.sha256(b"split\0" + group.encode("utf-8", "surrogatepass")).digest()[:8], "big")
    position = hashed / 2**64 * 100  # in percent
    upper = 0.0
    for name, percent in splits.items():
        upper += percent
        if position < upper:
            return name
    return [name for name, percent in splits.items() if percent > 0][-1]  # rounding errors at 100 %
