"""A pool of batch memory: reused memory has its pages already, so it costs no page faults."""

import weakref
from collections import defaultdict
from threading import Lock

import numpy as np
import numpy.typing as npt
import torch

_MAX_POOLED = 512 * 2**20  # bytes kept for later batches


class BatchMemory:
    """Arrays for batches, reused. An array returns to the pool when the last tensor over it is gone, never before.

    ``pinned``: memory for copies to a GPU, pooled by torch's own allocator instead. That one knows when a copy in
    progress has ended; a finalizer here does not.
    """

    def __init__(self, *, pinned: bool = False) -> None:
        self._pinned = pinned
        self._free: dict[int, list[npt.NDArray[np.uint8]]] = defaultdict(list)
        self._pooled = 0  # bytes
        self._lock = Lock()

    def take(self, shape: tuple[int, ...]) -> tuple[npt.NDArray[np.uint8], torch.Tensor]:
        """An uninitialised uint8 array of this shape, and the tensor over the same memory."""
        if self._pinned:
            tensor = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
            return tensor.numpy(), tensor
        size = int(np.prod(shape))
        with self._lock:
            memory = self._free[size].pop() if self._free[size] else None
            if memory is not None:
                self._pooled -= size
        if memory is None:
            memory = np.empty(size, np.uint8)
        array: npt.NDArray[np.uint8] = memory.reshape(shape)
        # The finalizer watches this view, which every tensor over it keeps alive, and holds `memory` itself.
        weakref.finalize(array, self._put_back, memory)
        return array, torch.from_numpy(array)

    def _put_back(self, memory: npt.NDArray[np.uint8]) -> None:
        with self._lock:
            if self._pooled + memory.size <= _MAX_POOLED:
                self._free[memory.size].append(memory)
                self._pooled += memory.size
