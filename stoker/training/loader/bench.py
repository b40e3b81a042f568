"""How fast a loader on this machine can feed a loop, and what limits it: each stage alone, then all together."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from stoker.training.loader.loader import Loader
from stoker.training.loader.monitor import Watch
from stoker.training.reading.counters import Counters
from stoker.training.reading.samples import Samples
from stoker.training.stream.shuffling import Quality, quality
from stoker.training.stream.stream import ShardStream

_HELD = 4  # batches that the stage of making is measured on, again and again


@dataclass(frozen=True, slots=True)
class Stage:
    """What one stage does when it need not wait for any other."""

    name: str
    samples_per_s: float
    bytes_per_s: float  # of the members of the samples
    cpu_ms: float  # of this process for 1,000 samples, all threads

    def needs(self, rate: float) -> float:
        """Cores that are busy with it at so many samples a second."""
        return rate * self.cpu_ms / 1e6


@dataclass(frozen=True, slots=True)
class Measured:
    """What was found."""

    reference: str
    split: str
    samples: int  # of an epoch
    sample_bytes: float  # mean, of a sample's members
    batch_size: int
    workers: int
    cores: int
    first_batch_s: float
    reading: Stage  # every payload byte touched, nothing decoded
    making: Stage | None  # batches of samples that lie in memory, on one thread; None: nothing is decoded
    loading: Stage  # all of it, through the loader
    seen: dict[str, float] = field(hash=False)  # see Watch.tell, over the measurement of loading
    shuffle: Quality | None  # None: not shuffled

    @property
    def rate(self) -> float:
        """Samples a second that a loop which does nothing gets."""
        return self.loading.samples_per_s

    @property
    def limit(self) -> str:
        """What holds it back: ``reading``, ``making`` or ``hand-over``."""
        if self.making is None:
            return "reading"
        alone = self.making.samples_per_s * max(1, min(self.workers, self.cores))
        slowest = min(alone, self.reading.samples_per_s)
        if self.rate < slowest / 2:
            return "hand-over"  # the stages do not overlap as they should
        return "reading" if self.reading.samples_per_s < alone else "making"


def measure(
    stream: ShardStream,
    *,
    workers: int = 2,
    seconds: float = 10.0,
    tell: Callable[[str], None] = lambda stage: None,
    stop: Callable[[], bool] = lambda: False,
) -> Measured:
    """Measure a stream in about ``seconds``; ``tell`` hears of each stage. Raises what the stream raises.

    The stream is left where it was; epochs begin again when they are over.
    """
    raw = replace(stream, make=None, decode=None, augment=None, collate=None)
    with closing(raw):
        tell("reading")
        begun = time.monotonic()
        first = raw.batch(0, 0)
        _touch(first)
        waited = time.monotonic() - begun
        reading, _ = _loaded(raw, workers, seconds * 0.3, _touch, stop)
        held = [raw.batch(0, start) for start in range(0, min(raw.samples, _HELD * raw.batch_size), raw.batch_size)]
        made: Stage | None = None
        decodes = stream.make is not None or stream.decode is not None
        if decodes:
            tell("making")
            begun = time.monotonic()
            stream.made(held[0], 0)
            waited += time.monotonic() - begun
            made = _making(stream, held, seconds * 0.2, stop)
    tell("loading")
    own = replace(stream)
    with closing(own):
        loading, seen = _loaded(own, workers, seconds * 0.5, lambda batch: None, stop) if decodes else (reading, {})
    return Measured(
        reference=stream.manifest.reference,
        split=stream.split,
        samples=stream.samples,
        sample_bytes=reading.bytes_per_s / max(reading.samples_per_s, 1e-9),
        batch_size=stream.batch_size,
        workers=workers,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        first_batch_s=waited,
        reading=reading,
        making=made,
        loading=replace(loading, name="loading"),
        seen=seen,
        shuffle=quality(stream.order(stream.epoch), stream.batch_size) if stream.shuffle else None,
    )


def _touch(samples: Samples) -> None:
    """Copy every payload byte once, as a loop that uses them must."""
    for extension in samples.extensions:
        for payload in samples.column(extension):
            if payload is not None:
                bytes(payload)


def _loaded(
    stream: ShardStream, workers: int, seconds: float, use: Callable[[Any], None], stop: Callable[[], bool]
) -> tuple[Stage, dict[str, float]]:  # Any: batches
    """The stage of loading through a loader for about so long."""
    watch, before = Watch(stream.counters), stream.counters.sums()
    begun, cpu = time.monotonic(), time.process_time()
    until = begun + seconds
    with closing(Loader(stream, workers=workers)) as loader:
        while time.monotonic() < until and not stop():
            for batch in loader:
                use(batch)
                if time.monotonic() >= until or stop():
                    break
    passed, used = time.monotonic() - begun, time.process_time() - cpu
    return _stage("reading", _since(stream.counters, before), passed, used), watch.tell()


def _making(stream: ShardStream, held: Sequence[Samples], seconds: float, stop: Callable[[], bool]) -> Stage:
    """The stage of making batches, on this thread, of samples that lie in memory."""
    samples = size = 0
    begun, cpu = time.monotonic(), time.thread_time()
    while time.monotonic() < begun + seconds and not stop():
        for one in held:
            stream.made(one, 0)
            samples += len(one)
            size += one.size
    passed, used = time.monotonic() - begun, time.thread_time() - cpu
    return _stage("making", {"samples": samples, "bytes": size}, passed, used)


def _since(counters: Counters, before: dict[str, float]) -> dict[str, float]:
    return {name: value - before.get(name, 0) for name, value in counters.sums().items()}


def _stage(name: str, sums: dict[str, float], passed: float, cpu: float) -> Stage:
    samples, size = sums.get("samples", 0), sums.get("bytes", 0)
    passed = max(passed, 1e-9)
    return Stage(name, samples / passed, size / passed, cpu * 1e6 / samples if samples else 0.0)
