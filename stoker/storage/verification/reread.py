"""Reads objects of a version again and reports where they differ from the manifest.

An object that differs from its checksum is read once more first: bytes may be altered or cut off on the way.
"""

import hashlib
import json
import mmap
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import pyarrow as pa

from stoker.storage.errors import CorruptShard, NotFound, StorageRefused
from stoker.storage.shards import records
from stoker.storage.shards.blank import FILLER, filler_crc32c
from stoker.storage.shards.kinds import Kind
from stoker.storage.shards.row_checksum import crc32c
from stoker.storage.shards.shard import RECORD, Member, SampleSpan, iter_spans
from stoker.storage.shards.tar import BLOCK, END
from stoker.storage.shards.tar_headers import iter_files
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.verified import second_read

_CHUNK = 16 * 2**20  # bytes read at a time
MAX_EXAMPLES = 5  # reported problems of one kind in one object


@dataclass
class ObjectChecker:
    """Reads objects and collects their problems."""

    store: Store
    total: int  # bytes to read, about
    progress: Callable[[int, int], None] | None  # called with bytes read and bytes in all
    size: int = 0  # bytes read
    problems: list[str] = field(default_factory=list)

    def add_problem(self, key: str, problem: str) -> None:
        """Report a problem of an object."""
        self.problems.append(f"{key}: {problem}")

    def tar(self, key: str, sha256: str, size: int) -> list[SampleSpan] | None:
        """Every sample of a tar; None if it is missing, or has another checksum: it tells nothing of its index then.

        One that was purged has no key and no members. A damaged tar is read as well, to name the places of the damage.
        """
        with self._mapped(key, sha256, size) as (payload, is_right):
            samples = None if payload is None else self._samples(key, payload)
        return samples if is_right else None

    def originals(self, key: str) -> bool:
        """Whether a tar of originals is there, which has the name of its content. That it is lost is no problem."""

        def read() -> None:
            digest = hashlib.sha256()
            for chunk in self.store.iter_bytes(key):
                digest.update(chunk)
                self.count(len(chunk))
            if layout.purged(key, digest.hexdigest()) != key:
                raise CorruptShard(f"sha256 {digest.hexdigest()[:16]}, but its name says another one")

        try:
            second_read(read)
        except NotFound:
            return False
        except CorruptShard as error:
            self.add_problem(key, f"{error}; a repair removes it, and what it held is asked for again when needed")
        return True

    def table(self, key: str, sha256: str, size: int | None, kind: Kind | None) -> pa.Table | None:
        """The rows of a Parquet file; None if it is missing, differs from its checksum or size, or is of another kind.

        Of what ``kind`` is None columns are not looked at.
        """
        try:
            payload = self.store.read(key)
            if hashlib.sha256(payload).hexdigest() != sha256:
                payload = self.store.read(key)
        except NotFound:
            self.add_problem(key, "is missing")
            return None
        self.count(len(payload))
        if not self._matches(key, hashlib.sha256(payload).hexdigest(), sha256, len(payload), size):
            return None
        try:
            table = records.decode(payload)
            return table if kind is None else kind.check(table)
        except CorruptShard as error:
            self.add_problem(key, str(error))
            return None

    def json_object(self, key: str) -> dict[str, Any] | None:  # Any: JSON values
        """The JSON object in a marker; None if there is none, or it is no JSON object, which is reported."""

        def read() -> object:
            try:
                return json.loads(self.store.read(key))
            except (ValueError, RecursionError) as error:
                raise CorruptShard(f"is no JSON ({error})") from error

        try:
            content = second_read(read)
        except NotFound:
            return None
        except CorruptShard as error:
            self.add_problem(key, str(error))
            return None
        if not isinstance(content, dict):
            self.add_problem(key, "is no JSON object")
            return None
        return content

    def _samples(self, key: str, payload: memoryview) -> list[SampleSpan]:
        """Where every sample of a tar lies; reports samples without a record of their own."""
        samples: list[SampleSpan] = []
        wrong = 0
        try:
            for sample in iter_spans(payload):
                samples.append(sample)
                last = sample.members[-1]
                if not _is_record(sample.key, last, payload) and wrong < MAX_EXAMPLES:
                    wrong += 1
                    self.add_problem(key, f"at byte {last.offset}: sample {sample.key!r} has no record of its own")
            if sum(sample.stop - sample.start for sample in samples) + len(END) != len(payload):
                samples = sorted([*samples, *self._fillers(key, payload)], key=lambda sample: sample.start)
        except CorruptShard as error:
            self.add_problem(key, str(error))
        return samples

    def _fillers(self, key: str, payload: memoryview) -> Iterator[SampleSpan]:
        """Where samples lay that were purged, as samples without a key; reports what is not empty."""
        for name, offset, size in iter_files(payload):
            if name != FILLER:
                continue
            start, stop = offset - BLOCK, offset + size
            checksum = crc32c(payload[start:stop])
            if checksum != filler_crc32c(stop - start):
                self.add_problem(key, f"at byte {start}: what is in the place of a purged sample is not empty")
            yield SampleSpan("", start, stop, (), checksum)

    @contextmanager
    def _mapped(self, key: str, sha256: str, size: int) -> Iterator[tuple[memoryview | None, bool]]:
        """The tar, downloaded to a temporary file and memory-mapped; None if it is missing or empty.

        And whether it has its size and checksum.
        """
        with tempfile.TemporaryFile(prefix="stoker-verify-") as file:
            try:
                received, actual = self._download(key, file)
                if actual != sha256:
                    received, actual = self._download(key, file)
            except NotFound:
                self.add_problem(key, "is missing")
                yield None, False
                return
            except OSError as error:
                raise StorageRefused(
                    f"{tempfile.gettempdir()}: {error.strerror}; verifying needs {size} bytes there"
                ) from error
            is_right = self._matches(key, actual, sha256, received, size)
            if received == 0:
                yield None, is_right
                return
            file.flush()
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as payload:
                yield payload, is_right

    def _download(self, key: str, file: BinaryIO) -> tuple[int, str]:
        """The size and SHA-256 of an object that is written to a file, in place of what is there."""
        file.seek(0)
        file.truncate()
        digest, received = hashlib.sha256(), 0
        while chunk := self.store.read(key, start=received, size=_CHUNK):
            digest.update(chunk)
            file.write(chunk)
            received += len(chunk)
            self.count(len(chunk))
        return received, digest.hexdigest()

    def _matches(self, key: str, actual: str, sha256: str, received: int, size: int | None) -> bool:
        if size is not None and received != size:
            self.add_problem(key, f"has {received} bytes, but the manifest says {size}")
            return False
        if actual != sha256:
            self.add_problem(key, f"sha256 {actual[:12]}, but the manifest says {sha256[:12]}")
            return False
        return True

    def count(self, size: int) -> None:
        """Add bytes read to the progress."""
        self.size += size
        if self.progress is not None:
            self.progress(self.size, max(self.total, self.size))


def _is_record(key: str, member: Member, payload: memoryview) -> bool:
    if member.extension != RECORD:
        return False
    try:
        record = json.loads(bytes(payload[member.offset : member.offset + member.size]))
    except ValueError:
        return False
    return isinstance(record, dict) and record.get("key") == key
