"""A loss or gradient that is not finite: the samples of its batch by name, and how many such batches may be skipped."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from stoker.storage.errors import StokerError
from stoker.training.errors import TrainingError
from stoker.training.loader.loader import Stream
from stoker.training.run.steps.shards import whole

FILE = "nonfinite.jsonl"
_NAMED = 3  # samples in a message; the file has all
_MOST_URL = 120  # characters


@dataclass(frozen=True, slots=True)
class Place:
    """Where the batch of a step is in its stream."""

    step: int  # counted from 0
    epoch: int
    start: int


@dataclass(slots=True)
class NonFiniteSteps:
    """Looks after each step whether its loss and gradient are finite.

    On a GPU the answer is there later than the next step begins, and waiting for it would let the GPU idle. So where
    the first such step ends the run, answers are collected and looked at before anything is saved or evaluated.
    """

    run: str
    steps: int  # of the whole run
    folder: Path
    allowed: int  # batches that may be skipped
    skipped: int = 0
    _pending: list[tuple[Place, torch.Tensor]] = field(default_factory=list)

    def must_wait(self, device: torch.device) -> bool:
        """Whether a step has to know at once if its gradient is finite."""
        return self.allowed > 0 or device.type == "cpu"

    def later(self, place: Place, numbers: torch.Tensor) -> None:
        """Look at the loss and the norm of the gradient at the next ``check``."""
        self._pending.append((place, numbers))

    def check(self, stream: Stream) -> None:
        """Raise TrainingError for the first of the collected steps that was not finite."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        numbers = torch.stack([numbers for _, numbers in pending]).tolist()
        for (place, _), (loss, norm) in zip(pending, numbers, strict=True):
            if not math.isfinite(loss) or not math.isfinite(norm):
                raise self.error(place, loss, stream)

    def skip(self, place: Place, loss: float, stream: Stream) -> str:
        """Count a batch as skipped; what to tell. Raises TrainingError if no more may be skipped."""
        if self.skipped >= self.allowed:
            raise self.error(place, loss, stream)
        self.skipped += 1
        named = self._name(place, stream)
        of_all = f"{self.skipped} of at most {self.allowed}"
        return f"{_what(loss)} at step {place.step}: its batch was skipped ({of_all}){named}"

    def error(self, place: Place, loss: float, stream: Stream) -> TrainingError:
        """The error that ends the run."""
        remedy = "lower learning_rate, or let some such batches be skipped (on_nan: --on-nan skip:10)"
        if self.skipped:
            remedy = f"{self.skipped} such batches were skipped before (on_nan = skip:{self.allowed})"
        return TrainingError(
            f"{self.run}: {_what(loss)} at step {place.step} of {self.steps} (epoch {place.epoch}, position "
            f"{place.start}){self._name(place, stream)}; {remedy}; the last checkpoint is from before"
        )

    def _name(self, place: Place, stream: Stream) -> str:
        """The batch's samples, for a message; all of them are written into a file of the run's folder."""
        samples = samples_of(stream, place)
        if not samples:
            return ""
        path = self.folder / FILE
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps({"step": place.step, **sample}, sort_keys=True) + "\n" for sample in samples)
        texts = [f"{sample['key']} ({sample['url'][:_MOST_URL]})" for sample in samples[:_NAMED]]
        more = f" and {len(samples) - _NAMED} more, see {path}" if len(samples) > _NAMED else f", see {path}"
        return f"; its samples: {', '.join(texts)}{more}"


def samples_of(stream: Stream, place: Place) -> list[dict[str, str]]:
    """Key, URL (of the record, or else of the shard) and shard of each sample of the batch, over all ranks."""
    at = getattr(stream, "samples_at", None)  # streams of plug-ins may not have it
    if at is None:
        return []
    try:
        samples = at(place.epoch, place.start)
        shards, records = samples.shards, samples.records()
    except StokerError:
        return []  # the run ends because of another error
    return [
        {"key": key, "url": str(record.get("url") or shard), "shard": shard}
        for key, record, shard in zip(samples.keys, records, shards, strict=True)
    ]


class Buffers:
    """The buffers of a network, such as means of batch normalisation: a forward pass changes them, and NaN stays."""

    def __init__(self, module: nn.Module) -> None:
        self._saved = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]

    @torch.no_grad()
    def restore(self) -> None:
        """Set them as they were."""
        for buffer, saved in self._saved:
            buffer.copy_(saved)


def _what(loss: float) -> str:
    return "the gradient is not finite" if math.isfinite(loss) else f"the loss is {loss}"


def norm_of(parameters: Iterable[nn.Parameter], clip: float) -> torch.Tensor:
    """The norm of the whole gradient, before it is clipped."""
    parameters = [parameter for parameter in parameters if parameter.grad is not None]
    if clip:
        return whole(torch.nn.utils.clip_grad_norm_(parameters, clip))
    return whole(
        torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
    )
