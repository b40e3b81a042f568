"""Shards that were purged while they are read: what lies in their place is found once an object is missing."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from stoker.storage.errors import NotFound, StorageError
from stoker.storage.stores.store import Store
from stoker.storage.versions.listed.redirected import Redirects, shard_now
from stoker.storage.versions.manifest import Shard
from stoker.storage.versions.memory.withdrawn import load_redirects

T = TypeVar("T")


class PurgedMeanwhile(StorageError):
    """Some of the samples were purged just now: what is left of them is to be located again."""


class PurgedShards:
    """Where shards lie now. ``when_found`` is called when a purge is noticed."""

    def __init__(self, store: Store, when_found: Callable[[], None]) -> None:
        self._store, self._when_found = store, when_found
        self._redirects: Redirects = {}

    def now(self, shard: Shard) -> Shard:
        """The shard as far as purges are known."""
        return shard_now(shard, self._redirects) if self._redirects else shard

    def read(self, shard: Shard, read: Callable[[Shard], T]) -> T:
        """What ``read`` makes of a shard, once more where a purge moved it. Raises StorageError."""
        try:
            return read(self.now(shard))
        except NotFound:
            if not self.look([shard]):
                raise
            return read(self.now(shard))

    def look(self, shards: Iterable[Shard]) -> bool:
        """Look for purges; whether one is found that moved some of the shards since the last look."""
        shards = list(shards)
        before, found = [self.now(shard) for shard in shards], dict(self._redirects)
        for corpus in {shard.index.partition("/")[0] for shard in shards}:
            found |= load_redirects(self._store, corpus)
        self._redirects = found
        if [self.now(shard) for shard in shards] == before:
            return False
        self._when_found()
        return True
