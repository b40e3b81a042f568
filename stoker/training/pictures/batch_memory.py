"""Memory of batches that is used again: a batch's pages are touched for the first time only once."""

import weakref
from collections import defaultdict
from threading import Lock

import numpy as np
import numpy.typing as npt
import torch

_MOST = 512 * 2**20  # bytes that are kept for later batches

Pixels = npt.NDArray[np.uint8]


class Slots:
    """Arrays for batches. One goes back by itself when the last tensor over it is gone, never before.

    For a GPU they are pinned, and then torch's own allocator keeps them: it knows when a copy that is under way has
    ended, which a batch that is dropped does not.
    """

    def __init__(self, *, pinned: bool = False) -> None:
        self._pinned = pinned
        self._free: dict[int, list[npt.NDArray[np.uint8]]] = defaultdict(list)
        self._kept = 0
        self._lock = Lock()

    def take(self, shape: tuple[int, ...]) -> tuple[Pixels, torch.Tensor]:
        """An array of this shape, its contents anything, and the tensor over the same memory."""
        if self._pinned:
            tensor = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
            return tensor.numpy(), tensor
        size = int(np.prod(shape))
        with self._lock:
            memory = self._free[size].pop() if self._free[size] else None
            if memory is not None:
                self._kept -= size
        if memory is None:
            memory = np.empty(size, np.uint8)
        array: Pixels = memory.reshape(shape)
        # Not `memory` itself: the finalizer holds that. Whoever holds the tensor holds this view of it.
        weakref.finalize(array, self._give, memory)
        return array, torch.from_numpy(array)

    def _give(self, memory: npt.NDArray[np.uint8]) -> None:
        with self._lock:
            if self._kept + memory.size <= _MOST:
                self._free[memory.size].append(memory)
                self._kept += memory.size
