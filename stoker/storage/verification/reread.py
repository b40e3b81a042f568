"""Objects of a version read again: what they hold, and where they differ from what was promised of them."""

import hashlib
import json
import mmap
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyarrow as pa

from stoker.storage.errors import CorruptShard, NotFound, StorageRefused
from stoker.storage.shards import records
from stoker.storage.shards.shard import RECORD, Member, iter_sample_members
from stoker.storage.stores.store import Store

_PIECE = 16 * 2**20  # bytes read at a time
TOLD = 5  # problems of one kind in one object that are told one by one
Place = tuple[str, tuple[Member, ...]]  # a sample's key and its members


@dataclass
class Reading:
    """Reads objects again; what is wrong with them is told in ``problems``."""

    store: Store
    whole: int  # bytes there are to read, about
    progress: Callable[[int, int], None] | None
    size: int = 0  # bytes read
    problems: list[str] = field(default_factory=list)

    def tell(self, key: str, problem: str) -> None:
        """Note a problem of an object."""
        self.problems.append(f"{key}: {problem}")

    def tar(self, key: str, sha256: str, size: int) -> "list[Place] | None":
        """Every sample of a tar, as far as it can be read; None if the tar is missing or empty."""
        with self._mapped(key, sha256, size) as payload:
            return None if payload is None else self._samples(key, payload)

    def table(self, key: str, sha256: str, size: int | None) -> pa.Table | None:
        """The rows of a Parquet file; None if it is missing or not what was promised."""
        try:
            payload = self.store.read(key)
        except NotFound:
            self.tell(key, "is missing")
            return None
        self.count(len(payload))
        if not self._matches(key, hashlib.sha256(payload).hexdigest(), sha256, len(payload), size):
            return None
        try:
            return records.decode(payload)
        except CorruptShard as error:
            self.tell(key, str(error))
            return None

    def _samples(self, key: str, payload: memoryview) -> "list[Place]":
        """Every sample of a tar; one whose record is not its own is told."""
        found: list[Place] = []
        wrong = 0
        try:
            for name, members in iter_sample_members(payload):
                found.append((name, members))
                last = members[-1]
                if not _is_record(name, last, payload) and wrong < TOLD:
                    wrong += 1
                    self.tell(key, f"at byte {last.offset}: sample {name!r} has no record of its own")
        except CorruptShard as error:
            self.tell(key, str(error))
        return found

    @contextmanager
    def _mapped(self, key: str, sha256: str, size: int) -> Iterator[memoryview | None]:
        """The tar in a file of its own: memory holds a piece. None if it is missing or empty."""
        with tempfile.TemporaryFile(prefix="stoker-verify-") as file:
            seen = hashlib.sha256()
            there = 0
            try:
                while piece := self.store.read(key, start=there, size=_PIECE):
                    seen.update(piece)
                    file.write(piece)
                    there += len(piece)
                    self.count(len(piece))
            except NotFound:
                self.tell(key, "is missing")
                yield None
                return
            except OSError as error:
                raise StorageRefused(
                    f"{tempfile.gettempdir()}: {error.strerror}; verifying needs {size} bytes there"
                ) from error
            self._matches(key, seen.hexdigest(), sha256, there, size)
            if there == 0:
                yield None
                return
            file.flush()
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as payload:
                yield payload

    def _matches(self, key: str, found: str, sha256: str, there: int, size: int | None) -> bool:
        if size is not None and there != size:
            self.tell(key, f"has {there} bytes, but the manifest says {size}")
            return False
        if found != sha256:
            self.tell(key, f"sha256 {found[:12]}, but the manifest says {sha256[:12]}")
            return False
        return True

    def count(self, size: int) -> None:
        """Note so many bytes as read."""
        self.size += size
        if self.progress is not None:
            self.progress(self.size, max(self.whole, self.size))


def _is_record(key: str, member: Member, payload: memoryview) -> bool:
    if member.extension != RECORD:
        return False
    try:
        record = json.loads(bytes(payload[member.offset : member.offset + member.size]))
    except ValueError:
        return False
    return isinstance(record, dict) and record.get("key") == key
