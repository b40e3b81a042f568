"""A network as a consumer of batches: how many samples a second it trains on, alone and fed by a stream."""

import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own habit
from torch import Tensor, nn

from stoker.training.feeding.resnets import resnet18, resnet50
from stoker.training.loader.loader import Loader
from stoker.training.loader.monitor import StreamMonitor
from stoker.training.networks.classifiers import Normalised
from stoker.training.run.options import parse_options
from stoker.training.stream.stream import ShardStream
from stoker.training.stream.tokens import VOCABULARY

_IMAGENET: dict[str, Callable[[], nn.Module]] = {"resnet18": resnet18, "resnet50": resnet50}
_GROUP = 10  # steps of a GPU between two looks at the clock
_WARM_UP = 3  # batches that are not measured: memory is taken and algorithms are chosen
_CLASSES = 10


@dataclass(frozen=True, slots=True)
class Workload:
    """A network and a step of its training, on a device: in bfloat16 and channels last on a GPU."""

    network: str
    module: nn.Module
    device: torch.device
    step: Callable[[Tensor], None]  # on what ``synthetic`` gives, or images of a stream
    synthetic: Callable[[int], Tensor]  # so many samples on the device: uint8 images (B, H, W, C), or (B, T + 1) tokens
    tokens: int = 0  # of text in a sample of a synthetic batch; 0: images

    def wait(self) -> None:
        """Wait until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    @property
    def where(self) -> str:
        """The device in words."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else str(self.device)


@dataclass(frozen=True, slots=True)
class Fed:
    """What a network came to while a stream fed it."""

    samples_per_s: float
    waited: float  # share of its time that the loop waited for a batch
    idle: float | None  # share that the device had no work, by its own events; None: not a GPU


def workload_of(network: str, device: torch.device, *, size: int = 224) -> Workload:
    """The consumer of a name; images have ``size`` pixels each side."""
    if network == "lstm":
        return _texts(device)
    if network in _IMAGENET:
        module: nn.Module = Normalised(_IMAGENET[network](), [0.45] * 3, [0.225] * 3)
    else:
        model, _ = parse_options("cnn", {"net": {"lenet": "lenet5"}.get(network, network), "pixels": size})
        names = [str(number) for number in range(_CLASSES)]
        module = model.build({"classes": names, "grey": False, "mean": [0.45] * 3, "deviation": [0.225] * 3})
    return _images(network, module.to(device), device, size)


def _images(network: str, module: nn.Module, device: torch.device, size: int) -> Workload:
    if device.type == "cuda":
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack it alone
    optimiser = torch.optim.SGD(module.parameters(), lr=0.001, momentum=0.9)
    classes = torch.arange(_CLASSES, device=device).repeat(1024)

    def step(images: Tensor) -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext():
            loss = F.cross_entropy(module(images).float(), classes[: len(images)])
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
        optimiser.step()

    def synthetic(samples: int) -> Tensor:
        return torch.randint(256, (samples, size, size, 3), dtype=torch.uint8, device=device)

    return Workload(network, module, device, step, synthetic)


def _texts(device: torch.device) -> Workload:
    model, _ = parse_options("lstm", {})
    module = model.build({"vocabulary": VOCABULARY, "start": ""}).to(device)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.001)

    def step(tokens: Tensor) -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext():
            loss = model.compute_loss(module, (tokens[:, :-1], tokens[:, 1:]), (), device).loss
        loss.backward()
        optimiser.step()

    def synthetic(samples: int) -> Tensor:
        return torch.randint(256, (samples, model.window + 1), device=device)

    return Workload("lstm", module, device, step, synthetic, tokens=model.window)


def replay(workload: Workload, batch: Tensor, *, seconds: float, stop: Callable[[], bool] = lambda: False) -> float:
    """Samples a second of training on one batch, which lies on the device, again and again: no data to wait for."""
    group = _GROUP if workload.device.type == "cuda" else 1
    workload.step(batch)
    workload.wait()
    steps, begun = 0, time.monotonic()
    while not steps or (time.monotonic() - begun < seconds and not stop()):
        for _ in range(group):
            workload.step(batch)
        steps += group
        workload.wait()
    return steps * len(batch) / (time.monotonic() - begun)


def feed(
    workload: Workload,
    stream: ShardStream,
    *,
    workers: int,
    seconds: float,
    stop: Callable[[], bool] = lambda: False,
) -> Fed:
    """Train on a stream of images (a PictureMaker's batches) for some seconds. The stream is not moved."""
    with closing(replace(stream)) as own, closing(Loader(own, workers=workers, pin_memory=True)) as loader:
        samples, number, begun, monitor = 0, 0, time.monotonic(), StreamMonitor(own.counters)
        while not samples or (time.monotonic() - begun < seconds and not stop()):
            for batch in loader:
                workload.step(batch.images.to(workload.device, non_blocking=True))
                number += 1
                if number == _WARM_UP:
                    workload.wait()
                    samples, begun, monitor = 0, time.monotonic(), StreamMonitor(own.counters)
                    continue
                samples += len(batch.images)
                if number > _WARM_UP and (time.monotonic() - begun >= seconds or stop()):
                    break
            if stop():
                break
        workload.wait()
        passed, seen = time.monotonic() - begun, monitor.report()
    return Fed(samples / max(passed, 1e-9), seen.get("stall", 0.0), seen.get("device_idle"))


def first_images(stream: ShardStream, device: torch.device) -> Tensor:
    """The images of a stream's first batch, on the device, to be replayed."""
    batch: Any = stream.batch(0, 0)  # Any: a PictureMaker's
    images: Tensor = batch.images.to(device)
    return images
