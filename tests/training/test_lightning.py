"""Lightning's own loop over a loader: stopped and resumed in mid-epoch through its checkpoints, the same batches."""

from collections.abc import Sequence
from contextlib import closing, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from stoker.training.loader.loader import Batches, Loader
from stoker.training.reading.samples import Samples
from stoker.training.stream.stream import ShardStream
from tests.training.conftest import Small

EPOCHS = 3


def make(samples: Samples, draws: Sequence[bytes]) -> tuple[torch.Tensor, list[str]]:
    keys = samples.keys
    return torch.tensor([[float(ord(key) - 97) / 26] for key in keys]), keys


class Killed(Exception):
    pass


@lru_cache(maxsize=1)
def classes() -> tuple[Any, Any, Any]:
    """Lightning, a module that tells what it saw, and a callback that saves at a place and stops as if killed there."""
    lightning = pytest.importorskip("lightning.pytorch")  # not at the head: it takes seconds

    class Net(lightning.LightningModule):  # type: ignore[misc,name-defined]  # imported when it runs: mypy sees Any
        def __init__(self) -> None:
            super().__init__()
            self.net = torch.nn.Linear(1, 1)
            self.tested = ""
            self.seen: list[tuple[int, int, list[str]]] = []

        def training_step(self, batch: Any, number: int) -> torch.Tensor:
            inputs, keys = batch
            self.seen.append((self.current_epoch, number, keys))
            loss: torch.Tensor = self.net(inputs).square().mean()
            return loss

        def validation_step(self, batch: Any, number: int) -> None:
            self.tested += "".join(batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)

    class Save(lightning.Callback):  # type: ignore[misc,name-defined]  # as above
        def __init__(self, path: Path, steps: int, hook: str) -> None:
            self.path, self.steps = path, steps
            setattr(self, hook, self.save)

        def save(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == self.steps:
                trainer.save_checkpoint(self.path)
                raise Killed

    return lightning, Net, Save


def fitted(small: Small, workers: int, callbacks: Sequence[Any] = (), *, checkpoint: Path | None = None) -> Any:
    lightning, net, _ = classes()
    torch.manual_seed(0)
    module = net()
    options: Any = {"batch_size": 4, "seed": 1, "make": make, "cache": small.cache}
    with (
        closing(ShardStream(small.store, small.manifest, **options)) as stream,
        closing(ShardStream(small.store, small.manifest, shuffle=False, **options)) as tests,
        closing(Loader(stream, workers=workers)) as loader,
    ):
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_epochs=EPOCHS,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=small.folder,
            callbacks=list(callbacks),
        )
        with suppress(Killed):
            trainer.fit(module, loader, DataLoader(Batches(tests), batch_size=None), ckpt_path=checkpoint)
    return module


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("steps", "hook"),
    [
        *((steps, "on_train_batch_end") for steps in (1, 3, 6, 7, 8, 13, 14, 20)),
        *((steps, "on_validation_end") for steps in (7, 14)),
        *((steps, "on_train_epoch_end") for steps in (7, 14)),
    ],
)
def test_a_fit_resumed_from_lightnings_checkpoint_has_the_remaining_batches(
    letters: Small, steps: int, hook: str
) -> None:
    whole = fitted(letters, 2)
    plain = ShardStream(letters.store, letters.manifest, batch_size=4, seed=1, make=make, cache=letters.cache)
    expected = [(epoch, number, keys) for epoch in range(EPOCHS) for number, (_, keys) in enumerate(plain)]
    assert whole.seen == expected
    path = letters.folder / "stopped.ckpt"
    first = fitted(letters, 2, [classes()[2](path, steps, hook)])
    second = fitted(letters, 0, checkpoint=path)
    assert first.seen == expected[:steps]
    assert second.seen == expected[steps:]
    assert torch.equal(second.net.weight, whole.net.weight)
    assert (
        whole.tested == "abcdefgh" + EPOCHS * "abcdefghijklmnopqrstuvwxyz"
    )  # two batches before all else, to see whether they work


def test_an_epoch_is_set_only_where_nothing_is_known_of_it(letters: Small) -> None:
    options: Any = {"batch_size": 4, "make": make, "cache": letters.cache}
    fresh = Loader(ShardStream(letters.store, letters.manifest, **options))
    fresh.sampler.set_epoch(2)
    assert fresh.state_dict()["epoch"] == 2
    begun = Loader(ShardStream(letters.store, letters.manifest, **options))
    next(iter(begun))
    resumed = Loader(ShardStream(letters.store, letters.manifest, **options))
    resumed.load_state_dict(fresh.state_dict())
    for one in (begun, resumed):
        before = one.state_dict()
        one.set_epoch(5)
        assert one.state_dict() == before
