"""How long a GPU had no work between two steps, measured by the GPU itself."""

from collections import deque
from typing import Any

import torch

from stoker.training.reading.counters import Counters

_MAX_PENDING = 64  # gaps whose end the device has not reached yet


class DeviceIdle:
    """Adds ``idle_s`` and ``device_s`` to the counters; does nothing while CUDA is not in use.

    One CUDA event is recorded behind the work of each step, another before the work of the next. The device passes both
    in the order of its work, so the time between them is its idle time. Nothing here waits for the device.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._last_ended: Any = None  # Any: torch has no types for events
        self._gaps: deque[tuple[Any, Any, Any]] = deque()  # end of a step, begin of the next, end of that
        self._step_begun: Any = None

    def begin(self) -> None:
        """The loop has its batch, and will give work to the device."""
        self._step_begun = self._event()

    def end(self) -> None:
        """The loop has given all of its work to the device."""
        ended = self._event()
        if ended is not None and self._step_begun is not None and self._last_ended is not None:
            self._gaps.append((self._last_ended, self._step_begun, ended))
        self._last_ended = ended
        while self._gaps and (len(self._gaps) > _MAX_PENDING or self._gaps[0][2].query()):
            before, begun, after = self._gaps.popleft()
            if after.query():
                self._counters.add(idle_s=before.elapsed_time(begun) / 1000, device_s=before.elapsed_time(after) / 1000)

    def _event(self) -> Any:  # Any: as above
        if not torch.cuda.is_available() or not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch
            return None
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch has no types here
        event.record()
        return event
