"""How fast a stream can be read, compared with what a network consumes."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from stoker.training.errors import TrainingError
from stoker.training.feeding.consumption import HERE, Consumption, parse_like, published, stall_of
from stoker.training.feeding.workload import Fed, Workload, feed, first_images, replay, workload_of
from stoker.training.pictures.pictures import PictureMaker
from stoker.training.run.devices import device_of
from stoker.training.stream.stream import ShardStream

_CPU_BATCH = 8  # samples: a step of a large network takes seconds there


@dataclass(frozen=True, slots=True)
class Comparison:
    """A consumer, and what it would come to; ``fed`` and ``fed_stall``: what it did, on a GPU that is here."""

    consumption: Consumption
    feeds: bool
    ratio: float  # of what can be fed to what is consumed
    stall: float  # share of its time that the device would wait
    fed: Fed | None = None
    fed_stall: float | None = None  # by the rate of training on one batch again and again


def compare(
    stream: ShardStream,
    like: str,
    *,
    rate: float,
    size: int,
    workers: int,
    seconds: float,
    stop: Callable[[], bool] = lambda: False,
) -> list[Comparison]:
    """Compare a stream that can be fed at ``rate`` with a network on the devices of known figures, or on this one.

    Published figures are taken unless this machine has a GPU, or ``@here`` asks for it. Raises TrainingError.
    """
    network, device = parse_like(like)
    images = isinstance(stream.make, PictureMaker)
    if images == (network == "lstm"):
        has = "images" if images else "no images"
        raise TrainingError(f"{network} does not consume what {stream.manifest.reference} has: {has}")
    here = device == HERE or (not device and torch.cuda.is_available())
    if not here and (found := published(network, device)):
        return [_compared(one, rate) for one in found]
    return [_measured(workload_of(network, device_of(), size=size), stream, rate, workers, seconds, stop)]


def _compared(consumption: Consumption, rate: float) -> Comparison:
    consumed = consumption.samples_per_s
    return Comparison(consumption, rate >= consumed, rate / consumed, stall_of(rate, consumed))


def _measured(
    workload: Workload, stream: ShardStream, rate: float, workers: int, seconds: float, stop: Callable[[], bool]
) -> Comparison:
    on_gpu = workload.device.type == "cuda"
    batch_size = stream.batch_size if on_gpu else min(stream.batch_size, _CPU_BATCH)
    consumed = replay(workload, workload.synthetic(batch_size), seconds=seconds, stop=stop)
    if workload.tokens:
        consumed *= workload.tokens / _text_bytes(stream)
    source = f"measured here on synthetic batches of {batch_size}"
    found = _compared(Consumption(workload.network, workload.where, consumed, source), rate)
    if not on_gpu or workload.tokens:
        return found  # on a CPU network and decoding would compete
    fed = feed(workload, stream, workers=workers, seconds=seconds, stop=stop)
    alone = replay(workload, first_images(stream, workload.device), seconds=seconds, stop=stop)
    return Comparison(found.consumption, found.feeds, found.ratio, found.stall, fed, stall_of(fed.samples_per_s, alone))


def _text_bytes(stream: ShardStream) -> float:
    """The mean of the first batch; a token is a byte."""
    texts = [len(text) for text in stream.batch(0, 0).column("txt") if text is not None]
    if not sum(texts):
        raise TrainingError(f"lstm does not consume what {stream.manifest.reference} has: no texts")
    return sum(texts) / len(texts)
