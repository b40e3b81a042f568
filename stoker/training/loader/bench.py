"""A benchmark of how fast a loader on this machine can feed a loop: each stage alone, then all together."""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from stoker.training.loader.loader import Loader
from stoker.training.loader.monitor import StreamMonitor
from stoker.training.reading.counters import Counters
from stoker.training.reading.samples import Samples
from stoker.training.stream.shuffling import ShuffleQuality, shuffle_quality
from stoker.training.stream.stream import ShardStream

_MAKING_BATCHES = 4  # that the stage of making is measured on, again and again


@dataclass(frozen=True, slots=True)
class Stage:
    """The speed of one stage when it waits for no other."""

    name: str
    samples_per_s: float
    bytes_per_s: float  # of the members of the samples
    cpu_ms: float  # of this process for 1,000 samples, all threads

    def needs(self, rate: float) -> float:
        """Cores that are busy with it at ``rate`` samples a second."""
        return rate * self.cpu_ms / 1e6


@dataclass(frozen=True, slots=True)
class BenchResult:
    """The result of a benchmark; `stoker stream --json` prints these fields."""

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
    seen: dict[str, float] = field(hash=False)  # see StreamMonitor.report, over the measurement of loading
    shuffle: ShuffleQuality | None  # None: not shuffled

    @property
    def rate(self) -> float:
        """Samples per second delivered to an empty loop."""
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
    on_stage: Callable[[str], None] = lambda stage: None,
    stop: Callable[[], bool] = lambda: False,
) -> BenchResult:
    """Measure a stream in about ``seconds``; ``on_stage`` is called with the name of each stage that begins.

    The stream is not moved; an epoch that ends is followed by the next. Raises what the stream raises.
    """
    raw = replace(stream, make=None, decode=None, augment=None, collate=None)
    with closing(raw):
        on_stage("reading")
        started = time.monotonic()
        _touch(raw.batch(0, 0))
        first_batch_s = time.monotonic() - started
        reading, _ = _load(raw, workers, seconds * 0.3, _touch, stop)
        starts = range(0, min(raw.samples, _MAKING_BATCHES * raw.batch_size), raw.batch_size)
        batches = [raw.batch(0, start) for start in starts]
        making: Stage | None = None
        decodes = stream.make is not None or stream.decode is not None
        if decodes:
            on_stage("making")
            started = time.monotonic()
            stream.assemble_batch(batches[0], 0)
            first_batch_s += time.monotonic() - started
            making = _make(stream, batches, seconds * 0.2, stop)
    on_stage("loading")
    whole = replace(stream)
    with closing(whole):
        loading, seen = _load(whole, workers, seconds * 0.5, lambda batch: None, stop) if decodes else (reading, {})
    return BenchResult(
        reference=stream.manifest.reference,
        split=stream.split,
        samples=stream.samples,
        sample_bytes=reading.bytes_per_s / max(reading.samples_per_s, 1e-9),
        batch_size=stream.batch_size,
        workers=workers,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        first_batch_s=first_batch_s,
        reading=reading,
        making=making,
        loading=replace(loading, name="loading"),
        seen=seen,
        shuffle=shuffle_quality(stream.order(stream.epoch), stream.batch_size) if stream.shuffle else None,
    )


def _touch(samples: Samples) -> None:
    """Copy every payload byte once, as a loop that uses them must."""
    for extension in samples.extensions:
        for payload in samples.column(extension):
            if payload is not None:
                bytes(payload)


def _load(
    stream: ShardStream, workers: int, seconds: float, use: Callable[[Any], None], stop: Callable[[], bool]
) -> tuple[Stage, dict[str, float]]:  # Any: batches
    """The stage of loading through a loader, and its monitor's report, over ``seconds``."""
    monitor, before = StreamMonitor(stream.counters), stream.counters.sums()
    started, cpu = time.monotonic(), time.process_time()
    until = started + seconds
    with closing(Loader(stream, workers=workers)) as loader:
        while time.monotonic() < until and not stop():
            for batch in loader:
                use(batch)
                if time.monotonic() >= until or stop():
                    break
    passed, cpu_s = time.monotonic() - started, time.process_time() - cpu
    return _stage("reading", _since(stream.counters, before), passed, cpu_s), monitor.report()


def _make(stream: ShardStream, batches: Sequence[Samples], seconds: float, stop: Callable[[], bool]) -> Stage:
    """The stage of making batches, on this thread, of samples that are in memory."""
    samples = size = 0
    started, cpu = time.monotonic(), time.thread_time()
    while time.monotonic() < started + seconds and not stop():
        for batch in batches:
            stream.assemble_batch(batch, 0)
            samples += len(batch)
            size += batch.size
    passed, cpu_s = time.monotonic() - started, time.thread_time() - cpu
    return _stage("making", {"samples": samples, "bytes": size}, passed, cpu_s)


def _since(counters: Counters, before: dict[str, float]) -> dict[str, float]:
    return {name: value - before.get(name, 0) for name, value in counters.sums().items()}


def _stage(name: str, sums: dict[str, float], passed: float, cpu_s: float) -> Stage:
    samples, size = sums.get("samples", 0), sums.get("bytes", 0)
    passed = max(passed, 1e-9)
    return Stage(name, samples / passed, size / passed, cpu_s * 1e6 / samples if samples else 0.0)
