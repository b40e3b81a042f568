"""What a stream and its cache did, counted where it happens."""

from collections import Counter
from threading import Lock

from stoker.training.reading.threads import after_fork


class Counters:
    """Sums by name, added to from any thread.

    ``samples`` and ``bytes`` (of the members of samples) handed out by ``batch``, ``skipped`` samples; of the cache:
    ``hits`` and ``misses`` (shards found on this machine or fetched), ``fetched`` (bytes from the store), ``direct``
    (reads that did not wait for their whole shard); ``waited_s`` is the time that the loop waited for a batch,
    ``loop_s`` the time that it took for its own work between batches.
    """

    def __init__(self) -> None:
        self._sums: Counter[str] = Counter()
        self.begin_anew()
        after_fork(self)

    def begin_anew(self) -> None:
        """In a process that was forked another thread may have had the lock."""
        self._lock = Lock()

    def add(self, **amounts: float) -> None:
        """Add to the sums."""
        with self._lock:
            for name, amount in amounts.items():
                self._sums[name] += amount  # type: ignore[assignment]  # a Counter holds any number

    def sums(self) -> dict[str, float]:
        """A copy of the sums so far."""
        with self._lock:
            return dict(self._sums)

    def __getstate__(self) -> dict[str, float]:
        return self.sums()

    def __setstate__(self, state: dict[str, float]) -> None:
        self.__init__()  # type: ignore[misc]  # no subclass has another
        self._sums.update(state)
