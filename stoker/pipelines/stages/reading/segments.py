"""Segments: what an ingest has finished of a partition, in the store while the rest of the partition is read.

A killed ingest goes on behind them. Once the part is written they are removed; its bytes are those of an ingest that
was not killed, but for the tars in which originals lie. A segment is a tar: ``segment.json``, with the records, and
then the samples as they are in the part.

Segments follow each other: each names the checksum of the one before it, so that those of two ingests at once, or what
lies behind a damaged one, are never mixed. Sealing is a help, not a duty: a store that refuses it stops no ingest that
keeps no originals.
"""

import base64
import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from stoker.pipelines.source import Done
from stoker.pipelines.stages.reading.omitted import OmittedCounts
from stoker.pipelines.stages.reading.originals import Originals
from stoker.pipelines.stages.reading.stretches import WHOLE, Stretch
from stoker.storage.errors import NotFound, StorageError
from stoker.storage.shards.shard import TarWriter
from stoker.storage.shards.tar import BLOCK, END, header, padding
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.verified import put

_log = logging.getLogger(__name__)

INTERVAL_S = 5.0  # of finished work that a killed ingest loses, at most
_MOST = 50  # sealing takes one part in so many of a processor's time: then segments are further apart
_SCHEMA = 1
_NAME = "segment.json"
_BYTES = "\0bytes"  # names the one value of an object that stands for bytes
_CHUNK = 2**20  # bytes copied at a time


@dataclass
class Reading:
    """What of a partition is read so far."""

    writer: TarWriter  # of the kept samples
    rows: list[dict[str, Any]] = field(default_factory=list)  # Any: Parquet values; the records
    done: list[Done] = field(default_factory=list)  # of each record
    omitted: OmittedCounts = field(default_factory=OmittedCounts)
    originals: Originals | None = None  # of the records; None: they are not kept
    is_whole: bool = False  # nothing is left to be read


@dataclass(frozen=True)
class _Segment:
    key: str
    sha256: str
    head: dict[str, Any]  # Any: JSON values; ``segment.json``
    path: Path  # of a copy
    offset: int  # of the samples in it
    size: int  # bytes of the samples

    def samples(self) -> Iterator[bytes]:
        """Their bytes."""
        with self.path.open("rb") as file:
            yield from _region(file, self.offset, self.offset + self.size)


class Segments:
    """The segments of a partition. A context manager, which waits for one that is just being written.

    Args:
        store: the store that holds the corpus.
        corpus: its name.
        digest: of the partition's part.
        folder: for temporary files.
        stretch: what they are of; by default the whole partition.
        clock: in seconds; a test may set it.
    """

    def __init__(
        self,
        store: Store,
        corpus: str,
        digest: str,
        folder: Path,
        *,
        stretch: Stretch = WHOLE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._corpus, self._digest, self._folder, self._clock = store, corpus, digest, folder, clock
        self._keys: list[str] = []  # of all that are in the store
        self._chain: list[tuple[str, bool]] = []  # key, and whether a passing fault is in it, of those that count
        self._stretch = stretch
        self._last = stretch.digest  # checksum of the last of these
        self._rows = self._stop = 0  # records and bytes of the tar that they hold
        self._is_whole = False  # all that there is
        self._since, self._wait_s = clock(), INTERVAL_S
        self._pool: ThreadPoolExecutor | None = None  # made when it is first needed: most partitions are short
        self._job: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def restore(self, reading: Reading) -> None:
        """Add what the segments hold to a reading that is at its beginning. Raises StorageError."""
        listed = self._list()
        own = list(filter(self._stretch.owns, listed))
        self._keys = listed if self._stretch == WHOLE else own
        found: dict[str, list[_Segment]] = {}
        for number, key in enumerate(own):
            try:
                segment = self._load(key, self._folder / f"restored-{number}.tar")
                found.setdefault(segment.head["previous"], []).append(segment)
            except NotFound:  # removed by another ingest, which has just finished the part
                continue
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                _log.warning("%s/%s: damaged (%s); what it held is read again", self._store.url, key, error)
        while following := found.pop(self._last, None):
            # Of two ingests at once each may have written one; both are right.
            self._add(reading, max(following, key=lambda one: (len(one.head["rows"]), one.key)))
        for segment in chain(*found.values()):
            segment.path.unlink()
        self._since = self._clock()
        if reading.rows:
            _log.info("part %s: %d candidates were finished before", self._digest, len(reading.rows))

    def join(self, stretches: Sequence[Stretch], reading: Reading) -> bool:
        """Add what the segments of all stretches hold to a reading of the whole that is at its beginning.

        False if a stretch is not whole, or two have a sample of one key: the reading is of no use then. Raises
        StorageError.
        """
        self._keys = self._list()
        for stretch in stretches:
            path = self._folder / "stretch.tar"
            segments = Segments(self._store, self._corpus, self._digest, self._folder, stretch=stretch)
            with TarWriter(path) as writer:
                part = Reading(writer)
                segments.restore(part)
                if not part.is_whole:
                    return False
                _join(reading, part)
            path.unlink()
        kept = [row["key"] for row in reading.rows if row["reason"] is None]
        reading.is_whole = len(set(kept)) == len(kept)
        return reading.is_whole

    def seal_if_due(self, reading: Reading) -> None:
        """Begin to write what was finished since the last segment, if that took long enough."""
        if self._clock() - self._since < self._wait_s or (self._job is not None and not self._job.done()):
            return
        self._wait()
        if len(reading.rows) > self._rows:
            self._begin(reading)

    def seal(self, reading: Reading) -> None:
        """Write what was finished since the last segment: the ingest is about to stop, or the stretch ends."""
        self._wait()
        if len(reading.rows) > self._rows or (reading.is_whole and not self._is_whole):
            self._begin(reading).result()

    @property
    def is_whole(self) -> bool:
        """Whether they hold all of what they are of."""
        return self._is_whole

    def remove(self) -> None:
        """Remove all segments, with those of all stretches of the whole: the part is written, or they are of no use."""
        self._wait()
        self._delete(self._keys)
        self._keys, self._chain, self._last, self._rows, self._stop = [], [], self._stretch.digest, 0, 0
        self._is_whole = False

    def remove_passing(self) -> None:
        """Remove those from the first with a passing fault on: the source is out of reach, and asks again later."""
        self._wait()
        first = next((number for number, (_, is_passing) in enumerate(self._chain) if is_passing), len(self._chain))
        self._delete([key for key, _ in self._chain[first:]])

    def is_begun(self) -> bool:
        """Whether there is a segment of the whole. Raises StorageError."""
        return any(map(WHOLE.owns, self._list()))

    def _list(self) -> list[str]:
        """The keys of all segments of the part, those of its stretches among them."""
        return [one.key for one in self._store.list(layout.raw_segments(self._corpus, self._digest))]

    def _wait(self) -> None:
        if self._job is not None:
            self._job.result()

    def _delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._store.delete(key)

    def _begin(self, reading: Reading) -> "Future[None]":
        self._since = self._clock()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="stoker-seal")
        if reading.originals is not None:
            reading.originals.seal()
        counts, is_whole = reading.omitted.counts, reading.is_whole
        self._job = self._pool.submit(self._seal, reading, len(reading.rows), reading.writer.flush(), counts, is_whole)
        return self._job

    def _seal(self, reading: Reading, rows: int, stop: int, omitted: dict[str, int], is_whole: bool) -> None:
        """Write a segment up to this number of records and this size of the tar; a failure is told, and waited out."""
        started = time.thread_time()
        path, wait_s = self._folder / "segment.tar", INTERVAL_S
        done = reading.done[self._rows : rows]
        head = {
            "schema": _SCHEMA,
            "previous": self._last,
            "start": self._stop,
            "rows": reading.rows[self._rows : rows],
            "done": done,
            "omitted": omitted,
        } | ({"is_whole": True} if is_whole else {})
        try:
            sha256 = _write(path, head, reading.writer.path, self._stop, stop)
            key = layout.raw_segment(self._corpus, self._digest, self._stretch.segment(len(self._chain)), sha256)
            put(self._store, key, path, sha256=sha256)
        except (StorageError, OSError) as error:
            _log.warning("%s: a segment was not written: %s", self._store.url, error)
        except TypeError as error:  # a value that JSON has not, of a plug-in
            _log.info("part %s: its records cannot be kept before it ends: %s", self._digest, error)
            wait_s = math.inf
        else:
            self._keys.append(key)
            self._chain.append((key, any(one.is_passing for one in done)))
            self._last, self._rows, self._stop, self._is_whole = sha256, rows, stop, is_whole
        finally:
            path.unlink(missing_ok=True)
            self._wait_s = max(wait_s, _MOST * (time.thread_time() - started))

    def _load(self, key: str, path: Path) -> _Segment:
        """A segment, with a copy of its tar. Raises ValueError, KeyError, TypeError if it is not as it was written."""
        digest = hashlib.sha256()
        with path.open("wb") as file:
            for chunk in self._store.iter_bytes(key):
                digest.update(chunk)
                file.write(chunk)
        sha256 = digest.hexdigest()
        if not key.endswith(layout.raw_segment(self._corpus, self._digest, 0, sha256).rpartition("-")[2]):
            raise ValueError("its name is that of other bytes")
        with path.open("rb") as file:
            size = int(file.read(BLOCK)[124:135], 8)
            head = json.loads(file.read(size), object_hook=_from_json)
        if head["schema"] != _SCHEMA or len(head["rows"]) != len(head["done"]):
            raise ValueError("of another format")
        offset = BLOCK + size + len(padding(size))
        return _Segment(key, sha256, head, path, offset, path.stat().st_size - offset - len(END))

    def _add(self, reading: Reading, segment: _Segment) -> None:
        rows, done = segment.head["rows"], [Done(*one) for one in segment.head["done"]]
        reading.rows += rows
        reading.done += done
        reading.omitted = OmittedCounts()
        reading.omitted.add(segment.head["omitted"])
        reading.writer.add_region(segment.samples(), samples=sum(row["reason"] is None for row in rows))
        segment.path.unlink()
        self._chain.append((segment.key, any(one.is_passing for one in done)))
        self._last, self._rows, self._stop = segment.sha256, len(reading.rows), self._stop + segment.size
        reading.is_whole = self._is_whole = segment.head.get("is_whole", False)


def _join(reading: Reading, part: Reading) -> None:
    """Add a reading behind another one, as if that had gone on with these candidates."""
    begin, size = reading.writer.flush(), part.writer.flush()
    with part.writer.path.open("rb") as file:
        reading.writer.add_region(_region(file, 0, size), samples=sum(row["reason"] is None for row in part.rows))
    reading.rows += (_moved(row, begin) if row["reason"] is None else row for row in part.rows)
    reading.done += part.done
    reading.omitted.add(part.omitted.counts)


def _moved(row: dict[str, Any], begin: int) -> dict[str, Any]:  # Any: Parquet values
    """The record of a kept sample whose tar begins at this offset of another one."""
    members = [member | {"offset": begin + member["offset"]} for member in row["members"]]
    return row | {"start": begin + row["start"], "stop": begin + row["stop"], "members": members}


def _write(path: Path, head: dict[str, Any], tar: Path, start: int, stop: int) -> str:  # Any: JSON values, bytes
    """Write a segment with a part of a tar; its SHA-256. Raises TypeError for a value that JSON lacks."""
    payload = json.dumps(head, default=_to_json, separators=(",", ":")).encode()
    digest = hashlib.sha256()
    with path.open("wb") as file, tar.open("rb") as samples:
        front = (header(_NAME, len(payload)), payload, padding(len(payload)))
        for chunk in chain(front, _region(samples, start, stop), [END]):
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def _region(file: BinaryIO, start: int, stop: int) -> Iterator[bytes]:
    """The bytes of a file between two offsets."""
    file.seek(start)
    while start < stop and (chunk := file.read(min(_CHUNK, stop - start))):
        start += len(chunk)
        yield chunk


def _to_json(value: object) -> dict[str, str]:
    if isinstance(value, bytes):
        return {_BYTES: base64.b64encode(value).decode()}
    raise TypeError(f"a {type(value).__name__} is neither JSON nor bytes")


def _from_json(value: dict[str, Any]) -> Any:  # Any: JSON values, bytes
    return base64.b64decode(value[_BYTES]) if list(value) == [_BYTES] else value
