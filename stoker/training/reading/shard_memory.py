"""Memory for shards that are on no disk, used again: the system zeroes each page that it gives, for a copy's time."""

import mmap
import weakref
from contextlib import suppress

import numpy as np

_STEP = (
    2 * 2**20
)  # bytes of a large page: sizes are multiples of it, so that shards of about one size fit one another's
_MAX_POOLED = 128 * 2**20  # bytes kept for later shards


class ShardMemory:
    """Writable memory by size. It returns to the pool when the last view of it is gone, never before.

    Safe to use from many threads, without a lock, which a forked process could find taken for ever.
    """

    def __init__(self) -> None:
        self._free: list[mmap.mmap] = []

    def take(self, size: int) -> memoryview:
        """So many bytes, 1 or more, of any content."""
        wanted = -(-size // _STEP) * _STEP
        memory = self._pooled(wanted) or _new(wanted)
        # The finalizer watches this array, which every view of it keeps alive, and holds `memory` itself.
        array = np.frombuffer(memory, np.uint8, size)
        weakref.finalize(array, self._put_back, memory).atexit = False
        return array.data

    def _pooled(self, size: int) -> mmap.mmap | None:
        for memory in list(self._free):
            if len(memory) == size:
                with suppress(ValueError):  # another thread has it by now
                    self._free.remove(memory)
                    return memory
        return None

    def _put_back(self, memory: mmap.mmap) -> None:
        if sum(map(len, self._free)) + len(memory) <= _MAX_POOLED:
            self._free.append(memory)


def _new(size: int) -> mmap.mmap:
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without large pages
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
