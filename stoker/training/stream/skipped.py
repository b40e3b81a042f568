"""The samples of a stream that were left out because they are damaged: each counts once, in whatever epoch it comes.

They are known by what they are, not by where they are: the same store has other URLs on other machines.
"""

from collections.abc import Iterable, Mapping
from threading import Lock
from typing import Any

from stoker.training.errors import TrainingError
from stoker.training.reading.threads import register_fork_reset

SampleId = tuple[str, int]  # SHA-256 of the shard, and the sample's number in it


class SkippedSamples:
    """A set of samples that any thread may add to; its state goes into the stream's."""

    def __init__(self) -> None:
        self._samples: set[SampleId] = set()
        self._told: dict[SampleId, tuple[str, str]] = {}  # key and reason, of those that were told with a reason
        self._new: list[SampleId] = []
        self.reset_after_fork()
        register_fork_reset(self)

    def reset_after_fork(self) -> None:
        """Replace the lock: in a forked process a thread of the parent may have held it."""
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._samples)

    def add(self, samples: Iterable[SampleId]) -> int:
        """Add samples; returns how many were not there."""
        with self._lock:
            new = set(samples) - self._samples
            self._samples |= new
            self._new += new
        return len(new)

    def tell(self, sample: SampleId, key: str, reason: str) -> None:
        """Keep the key and the reason of a sample for ``by_reason``."""
        with self._lock:
            self._told.setdefault(sample, (key, reason))

    def by_reason(self) -> dict[str, list[str]]:
        """The keys of the samples that were told, sorted, by their reason."""
        keys: dict[str, list[str]] = {}
        with self._lock:
            for key, reason in sorted(self._told.values()):
                keys.setdefault(reason, []).append(key)
        return dict(sorted(keys.items()))

    def take_new(self) -> list[SampleId]:
        """Those that were added since the last call: a worker process reports them."""
        with self._lock:
            new, self._new = self._new, []
        return new

    def state(self) -> dict[str, list[int]]:
        """The rows by shard, as JSON values."""
        rows: dict[str, list[int]] = {}
        with self._lock:
            for shard, row in sorted(self._samples):
                rows.setdefault(shard, []).append(row)
        return rows

    def whole_state(self) -> dict[str, Any]:  # Any: JSON values
        """What ``load`` takes; empty where nothing was skipped."""
        state = {"skipped": self.state(), "skipped_for": self.told_state()}
        return {name: value for name, value in state.items() if value}

    def told_state(self) -> list[list[Any]]:  # Any: JSON values
        """Shard, row, key and reason of the samples that were told, as JSON values."""
        with self._lock:
            return [[*sample, *told] for sample, told in sorted(self._told.items())]

    def load(self, state: Mapping[str, Any], known: Iterable[tuple[str, str, str]] = ()) -> None:  # Any: JSON values
        """Take the samples of a stream's state in place of those that are here. Raises TrainingError.

        Args:
            state: of the stream; those of older releases have URLs in place of checksums.
            known: URL, key and SHA-256 of the stream's shards.
        """
        try:
            samples = {(str(shard), int(row)) for shard, rows in state.get("skipped", {}).items() for row in rows}
            told = {
                (str(shard), int(row)): (str(key), str(reason))
                for shard, row, key, reason in state.get("skipped_for", [])
            }
        except (TypeError, ValueError, AttributeError) as error:
            raise TrainingError(f"a state whose skipped samples cannot be read ({error}): it is damaged") from None
        urls = {shard for shard, _ in samples if "/" in shard}
        if urls:
            checksums = _checksums(urls, known)
            samples = {(checksums.get(shard, shard), row) for shard, row in samples}
        with self._lock:
            self._samples, self._new, self._told = samples, [], told

    def __getstate__(self) -> dict[str, Any]:  # Any: what pickle wants
        return self.whole_state()

    def __setstate__(self, state: dict[str, Any]) -> None:  # Any: what pickle gives
        self.__init__()  # type: ignore[misc]  # no subclass has another
        self.load(state)


def _checksums(urls: Iterable[str], known: Iterable[tuple[str, str, str]]) -> dict[str, str]:
    """The SHA-256 of the shard at each URL: it may be the URL of before, of which only the shard's key is the same."""
    shards = list(known)
    by_url = {url: sha256 for url, _, sha256 in shards}
    checksums = {}
    for url in urls:
        same_key = {sha256 for _, key, sha256 in shards if url.endswith(f"/{key}")}
        if url in by_url or len(same_key) == 1:
            checksums[url] = by_url.get(url) or same_key.pop()
    return checksums
