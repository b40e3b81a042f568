"""Counters of what a stream and its cache did, added to where it happens."""

from collections import Counter
from threading import Lock

from stoker.training.reading.threads import register_fork_reset


class Counters:
    """Sums by name; any thread may add.

    Of a stream: ``samples`` and ``bytes`` (of their members) made into batches, ``skipped`` samples.
    Of its cache: ``hits`` and ``misses`` (shards found on this machine, or downloaded), ``fetched`` (bytes from the
    store), ``direct`` (ranges read before their shard was complete), ``through`` (shards held in memory only).
    Of a Loader: ``batches``, ``waited_s`` (the loop waited for a batch), ``loop_s`` (the loop did its own work),
    ``depth`` (batches that were ready when the loop asked, summed).
    """

    def __init__(self) -> None:
        self._sums: Counter[str] = Counter()
        self.reset_after_fork()
        register_fork_reset(self)

    def reset_after_fork(self) -> None:
        """Replace the lock: in a forked process a thread of the parent may have held it."""
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
