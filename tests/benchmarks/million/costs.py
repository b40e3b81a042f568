"""What a piece of work costs: processor and wall time, requests to a store, bytes read and written."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.stores.store import Payload, StoredObject

T = TypeVar("T")


class CountingStore(DirectoryStore):
    """Counts requests of the whole process, and the bytes that are read and written."""

    requests = read_size = written_size = 0

    def read(self, key: str, *, start: int = 0, size: int | None = None) -> bytes:
        payload = super().read(key, start=start, size=size)
        CountingStore.requests += 1
        CountingStore.read_size += len(payload)
        return payload

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        CountingStore.requests += 1
        return super().list(prefix)

    def create(self, key: str, payload: Payload) -> None:
        CountingStore.requests += 1
        super().create(key, payload)
        CountingStore.written_size += self.size(key)


@dataclass(frozen=True)
class Cost:
    """Of one piece of work."""

    cpu_s: float
    wall_s: float
    requests: int
    read: int  # bytes
    written: int  # bytes


def _now() -> tuple[float, float, int, int, int]:
    counts = CountingStore.requests, CountingStore.read_size, CountingStore.written_size
    return time.process_time(), time.perf_counter(), *counts


def measured(work: Callable[[], T]) -> tuple[T, Cost]:
    """What the work gives, and what it costs."""
    before = _now()
    given = work()
    after = _now()
    return given, Cost(
        after[0] - before[0],
        after[1] - before[1],
        *(now - then for now, then in zip(after[2:], before[2:], strict=True)),
    )
