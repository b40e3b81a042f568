"""What was given of shards before they were proven: kept in mind until they are, and compared with them then."""

import hashlib
from collections.abc import Callable
from threading import Lock

from stoker.storage.errors import CorruptShard
from stoker.storage.versions.manifest import Shard
from stoker.training.reading.fetching import Coming, Mark, mark_of

Again = Callable[[Shard], Coming]  # a shard, if need be fetched once more
_Region = tuple[int, int, bytes]  # start, stop, SHA-256


class Early:
    """Samples are given before their shard is whole; here is noted which, so that none of them passes unproven."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._given: dict[Mark, tuple[Shard, Coming, list[_Region]]] = {}

    def note(self, shard: Shard, coming: Coming, start: int = 0, payload: bytes | memoryview = b"") -> None:
        """These bytes of a shard are given; none where they are the very memory that will be proven."""
        region = start, start + len(payload), hashlib.sha256(payload).digest()
        with self._lock:
            self._given.setdefault(mark_of(shard), (shard, coming, []))[2].append(region)

    def check(self, again: Again) -> None:
        """Compare those that are whole by now. Raises CorruptShard."""
        for shard, coming in self._all():
            if coming.failed and not coming.corrupt:
                self._turn_to(shard, again(shard))
            elif coming.view.done():
                self._compare(shard, coming)

    def settle(self, again: Again) -> None:
        """Wait until all are proven. Raises CorruptShard; StorageError where one cannot be had any more."""
        for shard, coming in self._all():
            self._compare(shard, again(shard) if coming.failed else coming)

    def known(self) -> CorruptShard | None:
        """What is wrong with those that are whole, without asking for any again."""
        for shard, coming in self._all():
            if coming.corrupt or (coming.view.done() and not coming.failed):
                try:
                    self._compare(shard, coming)
                except CorruptShard as error:
                    return error
        return None

    def clear(self) -> None:
        """Nothing was given."""
        with self._lock:
            self._given.clear()

    def _all(self) -> list[tuple[Shard, Coming]]:
        with self._lock:
            return [(shard, coming) for shard, coming, _ in self._given.values()]

    def _turn_to(self, shard: Shard, coming: Coming) -> None:
        with self._lock:
            if (given := self._given.get(mark_of(shard))) is not None:
                self._given[mark_of(shard)] = (shard, coming, given[2])

    def _compare(self, shard: Shard, coming: Coming) -> None:
        try:
            view = coming.view.result()
        except CorruptShard:
            self._taken(shard)  # it is told once
            raise
        for start, stop, sha256 in self._taken(shard):
            if hashlib.sha256(view[start:stop]).digest() != sha256:
                raise CorruptShard(
                    f"{coming.fetch.where}: bytes {start:,} to {stop:,} were other ones when they were read first: it "
                    "was altered meanwhile, and batches were made of what it was; go back to a state from before"
                )

    def _taken(self, shard: Shard) -> list[_Region]:
        # What is given from now on is another note.
        with self._lock:
            given = self._given.pop(mark_of(shard), None)
        return [] if given is None else given[2]
