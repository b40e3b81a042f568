"""Small runs of training, for the tests of this folder."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from stoker.training.run import checkpoint as checkpoints
from stoker.training.run.train import Result, train
from tests.training.conftest import Small

CNN = {"width": 4, "pixels": 16, "epochs": 2, "batch_size": 16, "threads": 1}
LSTM = {
    "hidden": 16,
    "embedding": 8,
    "window": 16,
    "epochs": 1,
    "batch_size": 8,
    "threads": 1,
    "layers": 2,
    "sample_length": 20,
}


def run(small: Small, model: str, values: dict[str, Any], **options: Any) -> Result:
    return train(small.store, small.manifest, model, values, folder=small.folder / "runs", cache=small.cache, **options)


def weights(small: Small, name: str) -> dict[str, torch.Tensor]:
    newest = checkpoints.newest(small.store, small.manifest.corpus, name)
    assert newest is not None
    return dict(newest.state["module"])


def equal(weights: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return weights.keys() == other.keys() and all(torch.equal(weights[name], other[name]) for name in weights)


def after(steps: int) -> Callable[[], bool]:
    """A ``stop`` that is true after so many steps."""
    left = iter(range(steps - 1, -(10**9), -1))
    return lambda: next(left) <= 0


@dataclass
class Interrupt:
    """An ``interrupts`` that raises at its nth use, before the work or after it; ``stop`` is true from then on."""

    use: int
    late: bool
    raised: bool = False

    def stop(self) -> bool:
        return self.raised

    @contextmanager
    def __call__(self) -> Iterator[None]:
        self.use -= 1
        self.raised |= self.use == 0
        if self.raised and not self.late:
            raise KeyboardInterrupt
        yield
        if self.raised:
            raise KeyboardInterrupt
