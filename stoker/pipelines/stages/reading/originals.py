"""Writes the originals of a partition: before the segment, or the part, whose records say where they lie."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from stoker.pipelines.memory.originals import ORIGINAL, Place
from stoker.storage.shards.sample import Sample
from stoker.storage.shards.shard import SampleSpan, TarWriter
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.verified import put

_MOST = 64 * 2**20  # bytes of one tar, unless a single original is larger


class Originals:
    """The originals of a partition that are not in the store yet. A context manager, which drops those that are left.

    Args:
        store: the store that holds the corpus.
        corpus: its name.
        digest: of the partition's part.
        folder: for a temporary file.
    """

    def __init__(self, store: Store, corpus: str, digest: str, folder: Path) -> None:
        self._store, self._corpus, self._digest, self._path = store, corpus, digest, folder / "originals.tar"
        self._writer: TarWriter | None = None
        self._waiting: dict[str, tuple[SampleSpan, dict[str, Any]]] = {}  # by key of the sample; Any: Parquet values

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.__exit__(kind, error, trace)
        self._writer, self._waiting = None, {}

    def add(self, sample: Sample, row: dict[str, Any]) -> None:  # Any: Parquet values
        """Keep the one file of a sample as its source gave it; its row says where it lies once it is sealed.

        Nothing of one without bytes, or whose row says where they lie already.
        """
        if len(sample.fields) != 1 or row.get(ORIGINAL) is not None or not sample.record.get("sha256"):
            return
        if sample.key in self._waiting:  # a tar has one sample of a key
            self.seal()
        if self._writer is None:
            self._writer = TarWriter(self._path).__enter__()
        about = {name: sample.record[name] for name in ("url", "sha256") if name in sample.record}
        span = self._writer.add(Sample(sample.key, sample.fields, about))
        self._waiting[sample.key] = span, row
        if span.stop >= _MOST:
            self.seal()

    def seal(self) -> None:
        """Write what is waiting into the store, and tell the rows where it lies. Raises StorageError."""
        if self._writer is None:
            return
        tar, self._writer = self._writer.close(), None
        key = layout.raw_originals(self._corpus, self._digest, tar.sha256)
        put(self._store, key, self._path, sha256=tar.sha256)
        for span, row in self._waiting.values():
            row[ORIGINAL] = str(Place(key, span.start, span.stop))
        self._waiting.clear()
        self._path.unlink()
