"""The pairs of near-duplicate images of a corpus: those that the version before keeps, and those that came since.

Pairs are of all samples of the raw parts, whatever rules leave of them. So a threshold that changed is decided by
pairs, and a version that grows looks for the pairs of what is new. Price: one column of the records is held.
"""

import logging
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import reduce

import pyarrow as pa
import pyarrow.compute as pc

from stoker.pipelines.images import near_pairs
from stoker.pipelines.images.hamming import MAX_DISTANCE
from stoker.pipelines.images.near_pairs import farthest, find_pairs
from stoker.storage.errors import CorruptShard, NotFound
from stoker.storage.stores.store import Store
from stoker.storage.versions.listed.lists import ListFile
from stoker.storage.versions.manifest import Part
from stoker.storage.versions.measured.pairs import CODED, MIN_QUALITY, Kept, encode, name_of, read_pairs

_log = logging.getLogger(__name__)

HASH, QUALITY = "image_hash", "image_hash_quality"
_FACTOR = 2  # kept pairs are written again with new ones if they are at most so many times as many

Objects = tuple[tuple[ListFile, bytes], ...]


@dataclass
class KeptPairs:
    """Gives the pairs among samples, and what of them is to be kept.

    Args:
        store: of the corpus.
        corpus: its name.
        before: what the version before keeps, oldest first.
        parts: the raw parts.
        samples: of the parts: ``part``, HASH and QUALITY, where they have them.
    """

    store: Store
    corpus: str
    before: Sequence[ListFile]
    parts: Sequence[Part]
    samples: pa.Table
    made: Objects = ()  # that are not written yet
    files: tuple[ListFile, ...] = ()  # all, oldest first; empty where no pair was asked for
    _found: tuple[int, pa.Table | None] | None = field(default=None, init=False)  # up to a distance; None: too many

    def within(self, distance: int, min_quality: int) -> pa.Table | None:
        """CODED pairs, all up to the distance among them; None where a search is to be made. Raises StorageError."""
        if min_quality < MIN_QUALITY or not _has_hashes(self.samples.schema):
            return None
        if self._found is None or self._found[0] < distance:
            try:
                pairs = self._find(farthest(distance))
            except ValueError as error:
                _log.info("%s: pairs of near-duplicates are not kept: %s", self.corpus, error)
                self.made, self.files, pairs = (), (), None
            self._found = farthest(distance), pairs
        return self._found[1]

    def made_again(self, files: Collection[ListFile]) -> Objects:
        """Those of lost objects that can be made again, byte for byte. Raises StorageError."""
        found: dict[ListFile, bytes] = {}
        for distance in sorted({farthest(asked) for asked in range(MAX_DISTANCE + 1)}):
            if {*files} - found.keys() and _has_hashes(self.samples.schema):
                with suppress(ValueError):  # hashes are not Stoker's
                    self._find(distance)
                    found |= {file: payload for file, payload in self.made if file in files}
        return tuple(found.items())

    def _find(self, distance: int) -> pa.Table | None:
        names = {name_of(part): part.digest for part in self.parts}
        before = self._read()
        crowded = [
            (file, pairs) for file, pairs in before if pairs.too_many and all(name in names for name in pairs.files)
        ]
        if any(pairs.distance <= distance for _, pairs in crowded):
            self.made, self.files = (), tuple(file for file, _ in before)
            return None
        kept, made = self._usable(before, distance, names)
        known = {name for pairs in (*(pairs for _, pairs in kept), *made) for name in pairs.files}
        new = sorted(names.keys() - known)
        found = self._search(pa.array([names[name] for name in new]), distance) if new else CODED.empty_table()
        if found is not None and new:
            made.append(Kept.of(new, distance, found))
        tables = [CODED.empty_table(), *(pairs.table for pairs in (*(pairs for _, pairs in kept), *made))]
        if found is None or sum(len(table) for table in tables) > near_pairs.MOST:
            self._keep_that_too_many(before, distance, names)
            return None
        self.made, written = (), []
        if made:
            one = reduce(Kept.joined, made)
            while kept and len(kept[-1][1].table) <= _FACTOR * len(one.table):
                one = one.joined(kept.pop()[1].only(names, self.samples[HASH]))
            self.made = (encode(self.corpus, one),)
            written = [self.made[0][0]]
        self.files = (*(file for file, _ in [*crowded, *kept]), *written)
        return pa.concat_tables(tables)

    def _read(self) -> list[tuple[ListFile, Kept]]:
        read = []
        for file in self.before:
            try:
                read.append((file, read_pairs(self.store, file)))
            except (CorruptShard, NotFound) as error:
                _log.warning("%s", error)
        return read

    def _usable(
        self, before: Sequence[tuple[ListFile, Kept]], distance: int, names: Collection[str]
    ) -> tuple[list[tuple[ListFile, Kept]], list[Kept]]:
        """Objects that go as far and are about these parts alone; and of others that go as far, what is about these.

        A part that is not there loses its pairs: nobody looks for those that it makes with what comes meanwhile.
        """
        kept, others = [], []
        for file, pairs in before:
            if pairs.too_many or pairs.distance < distance or not any(name in names for name in pairs.files):
                continue
            if all(name in names for name in pairs.files):
                kept.append((file, pairs))
            else:
                others.append(pairs.only(names, self.samples[HASH]))
        return kept, others

    def _keep_that_too_many(
        self, before: Sequence[tuple[ListFile, Kept]], distance: int, names: Collection[str]
    ) -> None:
        """Keep that there are too many up to this distance, and what goes less far."""
        kept = [file for file, pairs in before if pairs.distance < distance and not pairs.too_many]
        self.made = (encode(self.corpus, Kept(tuple(sorted(names)), distance, CODED.empty_table(), too_many=True)),)
        self.files = (*kept, self.made[0][0])

    def _search(self, new: pa.Array, distance: int) -> pa.Table | None:
        """The pairs of the samples of new parts with all; None: too many. Raises ValueError: hashes not Stoker's."""
        samples = self.samples.filter(is_measured(self.samples, MIN_QUALITY))
        is_new = pc.is_in(samples["part"], value_set=new)
        known = pc.unique(samples[HASH].filter(pc.invert(is_new)))
        return find_pairs(known, samples[HASH].filter(is_new), distance)


def is_measured(samples: pa.Table, min_quality: int) -> pa.ChunkedArray:
    """Which samples have a hash of at least this quality."""
    good = pc.fill_null(pc.greater_equal(samples[QUALITY].cast(pa.float64()), min_quality), False)
    return pc.and_(pc.is_valid(samples[HASH]), good)


def _has_hashes(schema: pa.Schema) -> bool:
    if not {HASH, QUALITY} <= {*schema.names}:
        return False
    kinds = schema.field(HASH).type, schema.field(QUALITY).type
    return pa.types.is_string(kinds[0]) and kinds[1] in (pa.int64(), pa.float64())
