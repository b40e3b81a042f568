"""Samples read before their shard is verified: from the bytes that have arrived, else as ranges from the store.

Each sample is compared with its checksum in the index, and read again where it differs: bytes may be altered on the
way. An index that an older release wrote has no checksums: what was read is recorded in UnverifiedReads, and compared
once the shard is verified. Whether the shard as a whole is what the manifest says is told then, too.
"""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial

from stoker.storage.errors import CorruptShard
from stoker.storage.shards.index import Int64Array, Region, ShardIndex
from stoker.storage.shards.row_checksum import REMEDY
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Shard
from stoker.storage.versions.verified import verified_sample
from stoker.training.reading.counters import Counters
from stoker.training.reading.fetching import ShardFetch
from stoker.training.reading.threads import ThreadPool
from stoker.training.reading.unverified import UnverifiedReads

_log = logging.getLogger(__name__)

_Piece = memoryview | Future[bytes]  # of a tar: here, or on its way


@dataclass(frozen=True, slots=True)
class EarlyReader:
    """Reads samples of shards in state FETCHING or COMPLETE."""

    tars: Store
    counters: Counters
    pool: ThreadPool
    unverified: UnverifiedReads

    def begin(self, shard: Shard, fetch: ShardFetch, index: ShardIndex, rows: Int64Array) -> "EarlyRows":
        """Begin to read rows of a shard."""
        unverified = self.unverified if index.checksums is None else None  # where bytes are recorded
        pieces: dict[tuple[int, int], _Piece] = {}  # links of several samples may share bytes
        for row in rows.tolist():
            for span in index.ranges(row):
                if span not in pieces:
                    pieces[span] = self._begin(shard, fetch, unverified, *span)
        if fetch.local is not None or unverified is None:
            self.unverified.record(fetch)
        return EarlyRows(self.tars, shard, index, rows.tolist(), pieces)

    def _begin(
        self, shard: Shard, fetch: ShardFetch, unverified: UnverifiedReads | None, start: int, stop: int
    ) -> _Piece:
        """The bytes of a shard, if they have arrived; else their future, read from the store."""
        region = fetch.read(start, stop)
        if region is None:
            return self.pool.submit(partial(self._read_range, shard, fetch, unverified, start, stop))
        if fetch.local is None and unverified is not None:
            unverified.record(fetch, start, region)
        return region

    def _read_range(
        self, shard: Shard, fetch: ShardFetch, unverified: UnverifiedReads | None, start: int, stop: int
    ) -> bytes:
        for _ in range(2):  # it may have been cut off on the way
            payload = self.tars.read(shard.key, start=start, size=stop - start)
            self.counters.add(direct=1, fetched=len(payload))
            if len(payload) == stop - start:
                break
        else:
            raise CorruptShard(
                f"{fetch.url}: ends before byte {stop:,}, but the manifest says {shard.size:,} bytes; {REMEDY}"
            )
        if unverified is not None:
            unverified.record(fetch, start, payload)
        return payload


@dataclass(frozen=True, slots=True)
class EarlyRows:
    """Samples of one shard, whose bytes are here or on their way."""

    tars: Store
    shard: Shard
    index: ShardIndex
    rows: Sequence[int]
    pieces: Mapping[tuple[int, int], _Piece]

    def regions(self) -> list[Region]:
        """Wait for the bytes of each row. Raises CorruptShard, StorageError."""
        here = {
            span: piece if isinstance(piece, memoryview) else memoryview(piece.result())
            for span, piece in self.pieces.items()
        }
        return [self._region(row, [here[span] for span in self.index.ranges(row)]) for row in self.rows]

    def _region(self, row: int, pieces: Sequence[memoryview]) -> Region:
        region = self.index.region(row, pieces)
        try:
            self.index.check(row, region, f"{self.tars.url}/{self.shard.key}")
        except CorruptShard as error:
            _log.info("%s; read once more", error)
            return verified_sample(self.tars, self.shard.key, self.index, row)
        return region
