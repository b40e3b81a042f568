"""One training run: its module, optimiser, feed and clock, from start or checkpoint to end."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stoker.storage.versions import layout
from stoker.storage.versions.manifest import Manifest
from stoker.training.errors import TrainingError
from stoker.training.loader.loader import Loader, Stream
from stoker.training.loader.monitor import Watch
from stoker.training.run import checkpoint
from stoker.training.run.checkpoint import Mark
from stoker.training.run.devices import device_of
from stoker.training.run.metrics import Metrics
from stoker.training.run.model import Corpus, Facts, Model
from stoker.training.run.optimisers import optimiser_of, rate_at
from stoker.training.run.options import TrainOptions

_TOLD_S = 0.5  # seconds between steps that are told of


@dataclass(frozen=True, slots=True)
class Event:
    """What happens in a run, for whoever shows it. ``kind``: start, step, evaluate, checkpoint, end."""

    kind: str
    run: str
    step: int
    steps: int  # of the whole run
    epoch: int
    loss: float = math.nan  # of the last steps, mean
    rate: float = math.nan  # samples or tokens a second
    stall: float = math.nan  # share of the time since the last event that was spent waiting for data
    metrics: dict[str, Any] = field(default_factory=dict)  # Any: JSON values; of an evaluation


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to. ``stopped``: before its end, to be resumed; ``resumed_at``: the step it went on from."""

    run: str
    reference: str
    step: int
    steps: int
    metrics: dict[str, Any]  # Any: JSON values; of the last evaluation
    sample: str
    folder: Path  # of metrics.jsonl and TensorBoard's events
    resumed_at: int
    stopped: bool


def silent(event: Event) -> None:
    """Show no progress."""


def never() -> bool:
    """Do not stop."""
    return False


def held_out_split(manifest: Manifest, options: TrainOptions) -> str:
    """The split to evaluate on. Raises TrainingError if there is none but the one that is trained on."""
    there = [name for name, totals in manifest.splits.items() if totals.samples]
    wish = options.held_out or ("validation" if "validation" in there else "")
    wish = wish or next((name for name in there if name != options.split), "")
    if wish not in there or wish == options.split:
        raise TrainingError(
            f"{manifest.reference}: no held-out split {wish!r} with samples; it has: {', '.join(there)}. Set "
            "`held_out`, or give the recipe a validation split"
        )
    return wish


class Run:
    """One run: its module, optimiser, feed and clock."""

    def __init__(
        self,
        corpus: Corpus,
        model: Model,
        options: TrainOptions,
        who: dict[str, Any],  # Any: JSON values
        run: str,
        folder: Path,
        progress: Callable[[Event], None],
        stop: Callable[[], bool],
    ) -> None:
        self.corpus, self.model, self.options, self.who = corpus, model, options, who
        self.run, self.folder, self.progress, self.stop = run, folder, progress, stop
        self.held_out = held_out_split(corpus.manifest, options)
        self.device = device_of(options.device)
        self.step = 0
        self.carried: tuple[Tensor, ...] = ()
        self.metrics: dict[str, Any] = {}
        self.saved_at = time.monotonic()
        self.saved_step = -1

    def go(self, found: tuple[Mark, dict[str, Any]] | None) -> Result:  # Any: tensors and plain values
        """Train to the end, or until stopped."""
        torch.manual_seed(self.options.seed)
        self.facts: Facts = found[1]["facts"] if found else self.model.learn(self.corpus, self.options.split)
        self.module: nn.Module = self.model.build(self.facts).to(self.device)
        self.optimiser = optimiser_of(self.module, self.options)
        self.stream: Stream = self.model.feed(
            self.corpus,
            self.options.split,
            self.facts,
            batch_size=self.options.batch_size,
            seed=self.options.seed,
            training=True,
        )
        self.tests = self.model.feed(
            self.corpus,
            self.held_out,
            self.facts,
            batch_size=self.options.batch_size,
            seed=self.options.seed,
            training=False,
        )
        self.epoch_steps = len(self.stream)
        if self.epoch_steps < 1:
            raise TrainingError(f"{self.corpus.manifest.reference}: an epoch has no batch of {self.options.batch_size}")
        self.steps = self.options.epochs * self.epoch_steps
        if self.options.max_steps:
            self.steps = min(self.steps, self.options.max_steps)
        resumed_at = self._restore(found[1]) if found else 0
        self.sink = Metrics(self.folder, step=resumed_at)
        self._tell("start")
        try:
            stopped = self._epochs()
            sample = (
                "" if stopped else self.model.sample(self._evaluating(), self.facts, self.device, self.options.seed)
            )
            if sample:
                self.sink.text("sample", self.step, sample)
            self._save(done=not stopped, sample=sample)
        finally:
            self.sink.close()
            self.stream.close()
            self.tests.close()
        self._tell("end")
        return Result(
            self.run,
            self.corpus.manifest.reference,
            self.step,
            self.steps,
            self.metrics,
            sample,
            self.folder,
            resumed_at,
            stopped,
        )

    def _epochs(self) -> bool:
        """Whether the run was stopped before its end."""
        loader = Loader(self.stream, workers=self.options.workers, pin_memory=self.device.type == "cuda")
        try:
            while self.step < self.steps:
                if self._epoch(loader):
                    return True
                if self.step < self.steps:
                    self._evaluate()
        finally:
            loader.close()
        self._evaluate()
        return False

    def _epoch(self, loader: Loader) -> bool:
        if not len(self.stream):  # stopped behind the last batch of an epoch: what comes after it is to be done
            self.stream.turn()
            self.carried = ()
            return False
        self.module.train()
        losses: list[Tensor] = []
        examples, since, told = 0, time.monotonic(), 0.0
        watch = Watch(self.stream.counters)
        for batch in loader:
            loss, count = self._learn(batch)
            losses.append(loss)
            examples += count
            now = time.monotonic()
            if now - told >= _TOLD_S:
                mean = float(torch.stack(losses).mean())
                self._finite(mean)
                rate = examples / max(1e-9, now - since)
                seen = watch.tell()
                self._tell("step", loss=mean, rate=rate, stall=seen.get("stall", math.nan))
                self.sink.write("train", self.step, {"loss": mean, "rate": rate, "learning_rate": self._rate()})
                self.sink.write("stream", self.step, seen)
                losses, examples, since, told = [], 0, now, now
            if now - self.saved_at >= self.options.checkpoint_s:
                self._save(done=False)
            if self.stop():
                return True
            if self.step >= self.steps and len(self.stream):
                break  # max_steps ends the run inside an epoch
        if losses:
            self._finite(float(torch.stack(losses).mean()))
        self.carried = ()
        return False

    def _learn(self, batch: Any) -> tuple[Tensor, int]:  # Any: the model's own
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate()
        self.optimiser.zero_grad(set_to_none=True)
        outcome = self.model.outcome(self.module, batch, self.carried, self.device)
        outcome.loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
        if self.options.clip:
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.options.clip)
        self.optimiser.step()
        self.carried = outcome.carried
        self.step += 1
        return outcome.loss.detach(), outcome.examples

    def _rate(self) -> float:
        return rate_at(self.step, self.steps, self.options)

    def _finite(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise TrainingError(
                f"{self.run}: the loss is {loss} at step {self.step} of {self.steps} (epoch {self.stream.epoch}, "
                f"position {self.stream.delivered}); lower learning_rate; "
                "the last checkpoint is from before"
            )

    def _evaluating(self) -> nn.Module:
        self.module.eval()
        return self.module

    @torch.no_grad()
    def _evaluate(self) -> None:
        random = torch.get_rng_state()  # so that evaluating more or less often changes no training
        self.tests.epoch = self.tests.delivered = 0
        found = self.model.evaluate(self._evaluating(), Loader(self.tests), self.facts, self.device)
        torch.set_rng_state(random)
        self.metrics = {**found, "split": self.held_out, "epochs": self.stream.epoch}
        self._tell("evaluate")
        self.sink.write("evaluate", self.step, self.metrics)

    def _save(self, *, done: bool, sample: str = "") -> None:
        self.stream.settle()  # a checkpoint holds nothing of what is not proven
        mark = Mark(
            run=self.run,
            step=self.step,
            key="",
            size=0,
            sha256="",
            identity=self.who,
            version=self.corpus.manifest.reference,
            content=self.corpus.manifest.content,
            done=done,
            metrics=self.metrics,
            sample=sample,
        )
        state = {
            "facts": dict(self.facts),
            "module": self.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "stream": self.stream.state_dict(),
            "carried": [one.cpu() for one in self.carried],
            "step": self.step,
            "steps": self.steps,
            "metrics": self.metrics,
            "random": torch.get_rng_state(),
            "cuda_random": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        corpus, name = self.corpus.manifest.corpus, self.run
        checkpoint.save(self.corpus.store, corpus, mark, state)
        self.corpus.store.write(f"{layout.run(corpus, name)}metrics.jsonl", self.sink.path)
        checkpoint.prune(self.corpus.store, corpus, name, keep=self.options.keep)
        self.saved_at = time.monotonic()
        self._tell("checkpoint")

    def _restore(self, state: dict[str, Any]) -> int:  # Any: tensors and plain values
        self.module.load_state_dict(state["module"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.stream.load_state_dict(state["stream"])
        self.carried = tuple(one.to(self.device) for one in state["carried"])
        self.step, self.metrics = state["step"], state["metrics"]
        torch.set_rng_state(state["random"])
        if state["cuda_random"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda_random"])
        return self.step

    def _tell(self, kind: str, *, loss: float = math.nan, rate: float = math.nan, stall: float = math.nan) -> None:
        epoch, metrics = self.stream.epoch, dict(self.metrics)
        self.progress(Event(kind, self.run, self.step, self.steps, epoch, loss, rate, stall, metrics))
