"""Batches on a GPU: the next one is copied there by a stream of its own, while the network computes on this one."""

from typing import Any

import torch

from stoker.training.loader.batches import of_tensors

Copied = tuple[Any, Any]  # Any: a batch; a CUDA event, for which torch has no type


class DeviceCopies:
    """Copies batches to a device. On a GPU a copy from pinned memory holds up neither the loop nor the network.

    On any other device ``start`` copies at once.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: Any = None  # Any: torch has no types for streams
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # as above

    def start(self, batch: Any) -> Copied:  # Any: tensors in tuples, lists and mappings
        """Begin a copy."""
        if self._stream is None:
            return of_tensors(batch, lambda tensor: tensor.to(self._device)), None
        with torch.cuda.stream(self._stream):
            moved = of_tensors(batch, lambda tensor: tensor.to(self._device, non_blocking=True))
            return moved, self._stream.record_event()

    def finish(self, copied: Copied) -> Any:  # Any: as above
        """The batch, for whatever the device is given from now on: it waits for the copy, the loop does not."""
        batch, done = copied
        if done is None:
            return batch
        current = torch.cuda.current_stream(self._device)
        current.wait_event(done)

        def used(tensor: torch.Tensor) -> torch.Tensor:
            tensor.record_stream(current)  # or its memory could be taken for the next copy while it is used
            return tensor

        return of_tensors(batch, used)
