"""Reads that were served before their shard was verified: recorded with a checksum, and compared once it is.

Samples may be read before the download of their shard ends, or while a local file is still being hashed. The bytes are
hashed when they are handed out. When the shard is verified, the same ranges of it must have the same hashes: then what
was handed out is verified, too. Price: a corrupt shard may be reported some batches late, and each such range is hashed
twice. Of a shard whose index has checksums no bytes are recorded: they were compared at once (see ``early``).
"""

import hashlib
from collections.abc import Callable
from threading import Lock

from stoker.storage.errors import CorruptShard
from stoker.storage.versions.manifest import Shard
from stoker.training.reading.fetching import FetchKey, FetchState, ShardFetch

Refetch = Callable[[Shard], ShardFetch]  # the shard's fetch; a new one if the last failed
_Range = tuple[int, int, bytes]  # start, stop, SHA-256 of the bytes that were served


class UnverifiedReads:
    """The byte ranges that were served from shards in state FETCHING or COMPLETE."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._reads: dict[FetchKey, tuple[ShardFetch, list[_Range]]] = {}

    def record(self, fetch: ShardFetch, start: int = 0, payload: bytes | memoryview = b"") -> None:
        """Record that these bytes were served; none where they were compared, or are the memory being hashed."""
        served = start, start + len(payload), hashlib.sha256(payload).digest()
        with self._lock:
            self._reads.setdefault(fetch.key, (fetch, []))[1].append(served)

    def check(self, refetch: Refetch) -> None:
        """Compare the reads of shards that are verified by now. Raises CorruptShard. Does not wait."""
        for fetch in self._fetches():
            state = fetch.state
            if state is FetchState.FAILED:
                self._follow(refetch(fetch.shard))
            elif state in (FetchState.VERIFIED, FetchState.CORRUPT):
                self._compare(fetch)

    def wait_verified(self, refetch: Refetch) -> None:
        """Wait until all reads are verified. Raises CorruptShard; StorageError where a shard cannot be had any more."""
        for fetch in self._fetches():
            ended_badly = fetch.state in (FetchState.FAILED, FetchState.CORRUPT)
            self._compare(refetch(fetch.shard) if ended_badly else fetch)

    def corruption(self) -> CorruptShard | None:
        """The error of a read that is known by now to be corrupt. Fetches nothing, waits for nothing."""
        for fetch in self._fetches():
            if fetch.state in (FetchState.VERIFIED, FetchState.CORRUPT):
                try:
                    self._compare(fetch)
                except CorruptShard as error:
                    return error
        return None

    def _fetches(self) -> list[ShardFetch]:
        with self._lock:
            return [fetch for fetch, _ in self._reads.values()]

    def _follow(self, fetch: ShardFetch) -> None:
        """Verify the reads of a shard by another fetch of it."""
        with self._lock:
            if (reads := self._reads.get(fetch.key)) is not None:
                self._reads[fetch.key] = (fetch, reads[1])

    def _compare(self, fetch: ShardFetch) -> None:
        try:
            view = fetch.verified.result()
        except CorruptShard:
            self._pop(fetch)  # it is reported once
            raise
        for start, stop, sha256 in self._pop(fetch):
            if hashlib.sha256(view[start:stop]).digest() != sha256:
                raise CorruptShard(
                    f"{fetch.url}: bytes {start:,} to {stop:,} were other ones when they were read first: they were "
                    "altered on the way, or the shard was replaced meanwhile. It is intact now, but batches were made "
                    "of the former bytes; go back to a state from before"
                )

    def _pop(self, fetch: ShardFetch) -> list[_Range]:
        # Reads that are served from now on are recorded anew.
        with self._lock:
            reads = self._reads.pop(fetch.key, None)
        return [] if reads is None else reads[1]
