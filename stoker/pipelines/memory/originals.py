"""Originals: the bytes of candidates as they were fetched, kept beside the raw parts of what was made of them.

They lie in tars, each the plain WebDataset of some candidates of one partition. The record of a candidate in a raw part
says where its own lies, also where it was made anew of one that an earlier part has. Losing one costs a request.
"""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from stoker.storage.errors import CorruptShard, NotFound
from stoker.storage.shards.shard import iter_samples
from stoker.storage.shards.tar import END
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.memory.withdrawn import load_redirects
from stoker.storage.versions.verified import second_read

_log = logging.getLogger(__name__)

ORIGINAL = "response_original"  # column of the records of raw parts: ``Place`` as text


class Place(NamedTuple):
    """Where an original lies."""

    tar: str  # key
    start: int
    stop: int

    def __str__(self) -> str:
        return f"{self.tar} {self.start} {self.stop}"

    @classmethod
    def of(cls, value: object) -> "Place | None":
        """Reverses ``str``; None for what is no place, such as a user's own column of that name.

        >>> tar = layout.raw_originals("birds", "01234567" * 4, "89abcdef" * 8)
        >>> Place.of(str(Place(tar, 0, 1024))) == Place(tar, 0, 1024), Place.of("somewhere"), Place.of(None)
        (True, None, None)
        """
        tar, *ends = value.split(" ") if isinstance(value, str) else ("",)
        if len(ends) != 2 or not all(end.isascii() and end.isdigit() for end in ends) or not layout.is_originals(tar):
            return None
        start, stop = map(int, ends)
        return cls(tar, start, stop) if start < stop else None


class Original(NamedTuple):
    """An original, and what is remembered of the response that it was. In a partition's payload as a list."""

    place: str  # see ``Place``
    sha256: str
    final_url: str
    fetched_at: str
    etag: str
    last_modified: str


def tars_in(values: Iterable[object]) -> tuple[str, ...]:
    """The keys of all tars that a column ORIGINAL names, in order."""
    return tuple(sorted({place.tar for value in values if (place := Place.of(value)) is not None}))


def read_original(store: Store, original: Original) -> bytes | None:
    """The bytes of an original; None if they are damaged or lost, which is logged."""
    place = Place.of(original.place)
    if place is None:
        return None

    def read(place: Place = place) -> bytes:
        payload = _region(store, place)
        fields: Sequence[bytes] = [one for sample in iter_samples(payload + END) for one in sample.fields.values()]
        if len(fields) != 1 or (actual := hashlib.sha256(fields[0]).hexdigest()) != original.sha256:
            found = f"sha256 {actual[:12]}" if len(fields) == 1 else f"{len(fields)} files"
            raise CorruptShard(f"{found}, expected sha256 {original.sha256[:12]}")
        return fields[0]

    try:
        return second_read(read)
    except (CorruptShard, NotFound, ValueError) as error:
        _log.warning(
            "%s/%s: the original of %s is damaged or lost (%s); it is asked for again",
            *(store.url, original.place, original.final_url, error),
        )
        return None


def _region(store: Store, place: Place) -> bytes:
    """The bytes of a tar at a place, also if a purge took others out of it since."""
    size = place.stop - place.start
    try:
        return store.read(place.tar, start=place.start, size=size)
    except NotFound:
        redirects = load_redirects(store, place.tar.partition("/")[0])
        if place.tar not in redirects:
            raise
        return store.read(redirects[place.tar].new, start=place.start, size=size)
