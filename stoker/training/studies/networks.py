"""Trains a network on batches in memory: the leanest loop around the models' own loss, evaluation and optimisers."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from stoker.training.models.cnn import Cnn
from stoker.training.models.lstm import Lstm
from stoker.training.run.devices import device_of
from stoker.training.run.model import Model, Schema
from stoker.training.run.optimisers import build_optimiser, learning_rate_at
from stoker.training.run.options import TrainOptions, parse_options
from stoker.training.studies.data import Images, Numbers, Texts
from stoker.training.studies.plan import Row, samples_of

_TEST_BATCH = 250
_POINTS = 60  # of a curve, and of the layers whose gradients are kept
Batch = tuple[Tensor, Tensor]


@dataclass
class _Trained:
    """What one training left."""

    curve: list[tuple[int, float | None]]
    gradients: list[float | None]
    cpu_s: float
    seconds: float
    note: str


def measure_network(row: Row, data: Images | Texts, seed: int) -> dict[str, Any]:  # Any: JSON values
    """Train and test the model of a row. Raises TrainingError."""
    model, options = parse_options(row.method, {**row.options, **row.training})
    device = device_of(options.device if options.device != "auto" else "cpu")
    torch.manual_seed(seed)
    if isinstance(data, Images):
        assert isinstance(model, Cnn)
        task: _ImageTask | _TextTask = _ImageTask(row, model, data.resized(model.pixels), options.batch_size)
    else:
        assert isinstance(model, Lstm)
        task = _TextTask(row, model, data, options.batch_size)
    module = model.build(task.schema)
    about = {"parameters": sum(p.numel() for p in module.parameters()), "multiplications": task.count(module)}
    module = module.to(device)
    trained = _train(model, module, task, seed, options, device)
    begun = time.process_time()
    module.eval()
    with torch.no_grad():
        metrics = model.evaluate(module, task.tests(), task.schema, device)
    score, kept = task.score(metrics)
    return {
        "score": score,
        "metrics": kept,
        "curve": trained.curve,
        "gradients": trained.gradients,
        "cpu_s": round(trained.cpu_s, 2),
        "seconds": round(trained.seconds, 2),
        "test_cpu_s": round(time.process_time() - begun, 2),
        "note": trained.note,
        **about,
    }


class _ImageTask:
    """Batches of images for training, shuffled anew in each epoch, and for testing."""

    def __init__(self, row: Row, model: Cnn, images: Images, batch_size: int) -> None:
        self.schema: Schema = images.schema
        self._model, self._images, self._batch_size = model, images, batch_size
        self._train = samples_of(row, len(images.train))
        self._test = min(row.tested or len(images.test), len(images.test))

    def batches(self, seed: int) -> Iterator[Batch]:
        generator = np.random.default_rng(seed)
        augments = self._model.shift or self._model.flip
        size = min(self._batch_size, self._train)
        while True:
            order = generator.permutation(self._train)
            for start in range(0, self._train - size + 1, size):
                chosen = np.sort(order[start : start + size])  # sorted: read from a file that is mapped
                images = np.array(self._images.train[chosen])
                if augments:
                    draws = generator.bytes(4 * size)
                    for index in range(size):
                        images[index] = self._model.augment(images[index], draws[4 * index : 4 * index + 4])
                yield torch.from_numpy(images), torch.from_numpy(np.array(self._images.train_classes[chosen]))

    @property
    def epoch(self) -> int:
        return max(1, self._train // self._batch_size)

    def tests(self) -> Iterator[Batch]:
        for start in range(0, self._test, _TEST_BATCH):
            stop = min(self._test, start + _TEST_BATCH)
            classes = np.array(self._images.test_classes[start:stop])
            yield torch.from_numpy(np.array(self._images.test[start:stop])), torch.from_numpy(classes)

    def count(self, module: nn.Module) -> int:
        return _multiplications(module, torch.from_numpy(np.array(self._images.train[:1])))

    def score(self, metrics: dict[str, Any]) -> tuple[float, dict[str, Any]]:  # Any: JSON values
        return metrics["accuracy"], {"loss": _finite(metrics["loss"])}


class _TextTask:
    """Windows of a text in rows that go on from one batch to the next; from the beginning again at its end."""

    def __init__(self, row: Row, model: Lstm, texts: Texts, batch_size: int) -> None:
        self.schema: Schema = {**texts.schema, "start": ""}
        self._window, self._rows = model.window, batch_size
        self._train = texts.train[: samples_of(row, len(texts.train))]
        self._test = texts.test[: row.tested or len(texts.test)]

    def batches(self, seed: int) -> Iterator[Batch]:
        while True:
            yield from self._windows(self._train, self._rows)

    @property
    def epoch(self) -> int:
        return max(1, len(self._train) // (self._rows * self._window))

    def tests(self) -> Iterator[Batch]:
        return self._windows(self._test, max(1, min(self._rows, len(self._test) // (4 * self._window))))

    def _windows(self, tokens: Numbers, rows: int) -> Iterator[Batch]:
        lane = len(tokens) // rows
        lanes = torch.from_numpy(np.array(tokens[: lane * rows], np.int64).reshape(rows, lane))
        for start in range(0, lane - 1, self._window):
            stop = min(start + self._window, lane - 1)
            yield lanes[:, start:stop], lanes[:, start + 1 : stop + 1]

    def count(self, module: nn.Module) -> int:
        return 0  # torch does not count those of its recurrent layers

    def score(self, metrics: dict[str, Any]) -> tuple[float, dict[str, Any]]:  # Any: JSON values
        return metrics["bits_per_character"], {"loss": _finite(metrics["loss"])}


def _train(
    model: Model,
    module: nn.Module,
    task: "_ImageTask | _TextTask",
    seed: int,
    options: TrainOptions,
    device: torch.device,
) -> _Trained:
    begun, cpu = time.monotonic(), time.process_time()
    if prepare_weights := getattr(model, "prepare_weights", None):
        prepare_weights(module, islice(task.batches(seed), task.epoch), device)
    optimiser = build_optimiser(module, options)
    module.train()
    state: tuple[Tensor, ...] = ()
    steps = options.max_steps
    # One tensor: a small one of each step stands in the way of the next steps' large ones, and the heap grows.
    losses = torch.zeros(steps, device=device)
    done = 0
    gradients: list[float | None] = []
    note, batches = "", task.batches(seed)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate_at(step, steps, options)
        optimiser.zero_grad(set_to_none=True)
        output = model.compute_loss(module, next(batches), state, device)
        output.loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
        gradients = gradients or _gradient_norms(module)
        if options.clip:
            nn.utils.clip_grad_norm_(module.parameters(), options.clip)
        optimiser.step()
        state = output.state
        losses[step], done = output.loss.detach(), step + 1
        if step % 10 == 0 and not math.isfinite(float(losses[step])):
            note = f"diverged by step {step}"
            break
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds, cpu = time.monotonic() - begun, time.process_time() - cpu
    every = max(1, done // _POINTS)
    curve = [
        (start, _finite(float(losses[start : min(done, start + every)].mean()))) for start in range(0, done, every)
    ]
    return _Trained(curve, gradients, cpu, seconds, note)


def _gradient_norms(module: nn.Module) -> list[float | None]:
    """The norm of the gradient of each layer's weights, from the input to the output; of some if there are many."""
    weights = [tensor for tensor in module.parameters() if tensor.dim() > 1 and tensor.grad is not None]
    chosen = np.unique(np.linspace(0, len(weights) - 1, min(_POINTS, len(weights))).round().astype(int))
    return [_finite(float(weights[index].grad.norm())) for index in chosen]


def _multiplications(module: nn.Module, sample: Tensor) -> int:
    """Multiplications of one forward pass: torch counts a multiplication and an addition as two."""
    was_training = module.training
    module.eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module(sample)
    module.train(was_training)
    return counter.get_total_flops() // 2


def _finite(value: float) -> float | None:
    """A number as JSON holds it."""
    return float(f"{value:.5g}") if math.isfinite(value) else None
