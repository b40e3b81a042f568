"""What a run is told and tells: its configuration, its progress and its result."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stoker.training.run.loggers.trackers import Tracked, Tracker, open_trackers
from stoker.training.run.model import Corpus, Model
from stoker.training.run.options import TrainOptions
from stoker.training.run.steps.ranks import Ranks


@dataclass(frozen=True, slots=True)
class Event:
    """Progress of a run. ``kind``: new (no run to resume), start, step, evaluate, checkpoint, note or end."""

    kind: str
    run: str
    step: int
    steps: int  # of the whole run
    epoch: int
    loss: float = math.nan  # mean since the last step event
    rate: float = math.nan  # samples or tokens a second
    stall: float = math.nan  # share of the time since the last step event that was spent waiting for data
    metrics: dict[str, Any] = field(default_factory=dict)  # Any: JSON values; of the last evaluation
    # of "start": what is not trained on, and how it computes; of "new": what is other in the nearest run
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended. ``stopped``: before its last step, to be resumed; ``resumed_at``: the step that it began at.

    ``left_out``: the samples that the model could not use, or that did not decode, for each split and reason
    ``samples`` and some ``keys``.
    """

    run: str
    reference: str
    step: int
    steps: int
    metrics: dict[str, Any]  # Any: JSON values; of the last evaluation
    sample: str
    folder: Path  # of metrics.jsonl and TensorBoard's events
    resumed_at: int
    stopped: bool
    left_out: Sequence[Mapping[str, Any]] = ()  # Any: JSON values
    held_out: int = 0  # samples of the training split, by the option hold_out


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """What a run trains, with which options, and where it reports."""

    name: str
    corpus: Corpus
    model: Model
    options: TrainOptions
    identity: dict[str, Any]  # Any: JSON values; saved with each checkpoint, see run_identity
    folder: Path  # for metrics
    progress: Callable[[Event], None]
    stop: Callable[[], bool]  # asked after every step
    interrupts: Callable[[], AbstractContextManager[None]]  # see ``train.train``
    ranks: Ranks = field(default_factory=Ranks)


def trackers_of(config: RunConfig) -> Sequence[Tracker]:
    """The trackers that a run's options name; none on other ranks than the first. Raises TrainingError."""
    if not config.ranks.first or not config.options.loggers:
        return ()
    config.folder.mkdir(parents=True, exist_ok=True)
    options = {**config.identity["options"], **config.identity["training"]}
    manifest = config.corpus.manifest
    return open_trackers(
        config.options.loggers, Tracked(config.name, manifest.corpus, manifest.reference, options, config.folder)
    )
