"""One training run: build all of its parts, restore a checkpoint, then train, evaluate and save to the end.

Each batch is one optimiser step. Progress is reported every half second, a checkpoint is saved every ``checkpoint_s``
seconds, and every epoch ends with an evaluation on the held-out split; the best so far is saved, too. The parts of it
are in ``steps``.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from stoker.training.errors import TrainingError
from stoker.training.loader.loader import Loader, Stream
from stoker.training.loader.monitor import StreamMonitor
from stoker.training.run.averaging import Average
from stoker.training.run.checkpoint import Checkpoint, CheckpointInfo, fitting
from stoker.training.run.devices import device_of
from stoker.training.run.loggers.trackers import check_installed
from stoker.training.run.metrics import FILE, MetricsLog
from stoker.training.run.model import Schema
from stoker.training.run.optimisers import learning_rate_at
from stoker.training.run.steps.events import Event, Result, RunConfig, trackers_of
from stoker.training.run.steps.nonfinite import Place
from stoker.training.run.steps.parallel import Parallel, parallel_of
from stoker.training.run.steps.saver import Saver
from stoker.training.run.steps.step import Stepper, StepResult, stepper_of
from stoker.training.run.steps.streams import divided, first_batches_of, left_out_of, skipped_of, with_skip_budget
from stoker.training.stream.subset import HELD_OUT, describe_left_out

_PROGRESS_INTERVAL_S = 0.5  # seconds between two "step" events
_INTERRUPTED_S = 5.0  # that an interrupted run waits for a checkpoint, and for batches that are being made
_EPOCH_ENDED = object()


def run(config: RunConfig, checkpoint: Checkpoint | None = None) -> Result:
    """Train from a checkpoint, or from the start, to the last step or until stopped.

    Draws from torch's global random numbers. Raises TrainingError, StorageError.
    """
    with config.interrupts():
        trainer = _build(config, checkpoint)
    resumed_at = trainer.step
    trainer.report("start", notes=trainer.notes())
    trainer.tell_notes()
    if trainer.left_out and not resumed_at:
        trainer.log_left_out()
    told = trainer.left_out
    try:
        stopped = trainer.train()
        text = "" if stopped else trainer.generate()
        if trainer.left_out != told:  # some did not decode
            trainer.log_left_out()
        if not stopped or trainer.saved != (trainer.step, trainer.position):
            trainer.save(done=not stopped, text=text)
        trainer.wait_saved()
    except KeyboardInterrupt:  # neither a checkpoint nor a batch that waits for the store is worth minutes now
        trainer.saver.close(_INTERRUPTED_S)
        trainer.loader.close(_INTERRUPTED_S)
        raise
    finally:
        trainer.close()
    trainer.report("end")
    return Result(
        run=config.name,
        reference=config.corpus.manifest.reference,
        step=trainer.step,
        steps=trainer.steps,
        metrics=trainer.metrics,
        sample=text,
        folder=config.folder,
        resumed_at=resumed_at,
        stopped=stopped,
        left_out=trainer.left_out,
        held_out=trainer.held_out,
    )


def _build(config: RunConfig, checkpoint: Checkpoint | None) -> "_Trainer":
    """All parts of a run, at its start or at a checkpoint."""
    corpus, model, options = config.corpus, config.model, config.options
    saved = checkpoint.state if checkpoint else None
    corpus, eval_split = divided(corpus, options)
    device = device_of(options.device)
    check_installed(options.loggers)  # before what takes long
    torch.manual_seed(options.seed)
    ranks = config.ranks
    schema = saved["facts"] if saved else ranks.from_first(model.prepare(corpus, options.split) if ranks.first else {})
    with _fitting(config) if saved else nullcontext():
        module = model.build(schema)
    parallel = parallel_of(options, ranks, device)
    module = module.to(parallel.build_device)
    if options.channels_last:
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack it alone
    if saved is None and (prepare_weights := getattr(model, "prepare_weights", None)):
        with closing(first_batches_of(corpus, model, schema, options)) as first_batches:
            prepare_weights(module, first_batches, parallel.build_device)
    average = Average(module, options.ema) if options.ema else None
    batches = {"batch_size": options.batch_size, "seed": options.seed}
    shared = replace(corpus, rank=ranks.rank, world_size=ranks.world_size)
    train_stream, eval_stream = (
        model.data(with_skip_budget(part, options, split), split, schema, **batches, training=split == options.split)
        for part, split in ((shared, options.split), (corpus, eval_split))
    )
    if getattr(train_stream, "world_size", 1) != ranks.world_size:
        raise TrainingError(f"{config.name}: the model's method data gives its stream no rank and world_size of corpus")
    epoch_steps = len(train_stream)
    if epoch_steps < 1:
        raise TrainingError(f"{corpus.manifest.reference}: an epoch has no batch of {options.batch_size}")
    steps = options.epochs * epoch_steps
    step, metrics = 0, dict[str, Any]()  # Any: JSON values
    carried: tuple[Tensor, ...] = ()
    if saved:
        with _fitting(config):
            step, metrics, carried = saved["step"], saved["metrics"], tuple(saved["carried"])
            module.load_state_dict(saved["module"])
            if average:
                average.load_state_dict(saved["average"])
            train_stream.load_state_dict(saved["stream"])
            if (skipped := skipped_of(eval_stream)) is not None:
                skipped.load(saved.get("eval_skipped", {}))
            ranks.restore_random(saved, device)
    elif not ranks.first:
        ranks.seed_random(options.seed)
    steps = min(steps, options.max_steps) if options.max_steps else steps
    for network in (module, average.module) if average else (module,):
        parallel.place(network)
    with _fitting(config) if saved else nullcontext():
        stepper = stepper_of(config, module, parallel, device, steps, saved)
    on_gpu = device.type == "cuda"
    ahead = on_gpu and getattr(model, "takes_device_batches", False)
    return _Trainer(
        config=config,
        eval_split=eval_split,
        held_out=corpus.manifest.splits[HELD_OUT].samples if options.hold_out else 0,
        device=device,
        schema=schema,
        module=module,
        parallel=parallel,
        stepper=stepper,
        average=average,
        train_stream=train_stream,
        eval_stream=eval_stream,
        saver=Saver(corpus.store, corpus.manifest.corpus, config.name, keep=options.keep, metrics=config.folder / FILE),
        steps=steps,
        step=step,
        state=ranks.share_of_state(tuple(tensor.to(device) for tensor in carried), options.batch_size),
        metrics=metrics,
        best=saved.get("best", -math.inf) if saved else -math.inf,
        stale=saved.get("stale", 0) if saved else 0,
        position=train_stream.state_dict(),
        loader=Loader(train_stream, workers=options.workers, pin_memory=on_gpu, device=device if ahead else None),
        # Last: where another part cannot be built, no tracker is left open.
        log=MetricsLog(config.folder, step=step, trackers=trackers_of(config)),
    )


def _fitting(config: RunConfig) -> AbstractContextManager[None]:
    """Around what the model's code makes of a checkpoint alone: not around what devices, stores and data do."""
    return fitting(config.name, str(config.identity.get("model")))


@dataclass(slots=True, kw_only=True)
class _Trainer:
    """The parts of a run and its position in it."""

    config: RunConfig
    eval_split: str
    held_out: int  # samples of the training split, by the option hold_out
    device: torch.device
    schema: Schema
    module: nn.Module
    parallel: Parallel
    stepper: Stepper
    average: Average | None  # of the weights
    train_stream: Stream
    eval_stream: Stream
    log: MetricsLog
    saver: Saver
    steps: int  # of the whole run
    step: int  # steps done
    state: tuple[Tensor, ...]  # of a recurrent model, between two batches of an epoch
    metrics: dict[str, Any]  # Any: JSON values; of the last evaluation
    best: float  # score of all evaluations whose weights were saved
    stale: int  # evaluations since that with the best score
    position: dict[str, Any]  # Any: plain values; the stream's state after the last step, or after the evaluation
    loader: Loader  # of the training split
    saved: tuple[int, dict[str, Any]] | None = None  # Any: as above; step and position of the last checkpoint
    saved_at: float = field(default_factory=time.monotonic)

    def train(self) -> bool:
        """Train to the last step, with an evaluation after each epoch; True if stopped before."""
        try:
            while self.step < self.steps:
                if self._train_epoch():
                    return True
                if self.step < self.steps:
                    if self._evaluate():
                        self.save(done=False)  # or the weights that were evaluated would be lost in the next epoch
                    elif self._is_stale():
                        return False
            if not len(self.train_stream):  # stopped after the very last batch
                self.train_stream.next_epoch()
            self.loader.close()
            self._evaluate()
        except KeyboardInterrupt:
            if not self.config.stop():
                raise
            return True
        return False

    def _is_stale(self) -> bool:
        """Whether the run ends here because its score has not become better for long; it is told."""
        if not 0 < self.config.options.patience <= self.stale:
            return False
        self._tell(f"ends at step {self.step} of {self.steps}: no better score in {self.stale} evaluations (patience)")
        self.steps = self.step
        self.loader.close()
        return True

    def _train_epoch(self) -> bool:
        """Train to the end of the epoch; True if stopped before."""
        if not len(self.train_stream):  # stopped after the last batch of an epoch: only its evaluation is left to do
            self.train_stream.next_epoch()
            self.state = ()
            return False
        self.module.train()
        monitor = StreamMonitor(self.train_stream.counters)
        losses: list[Tensor] = []
        examples, since, reported_at = 0, time.monotonic(), -math.inf
        for batch, place in self._batches():
            result = self._train_step(batch, place)
            if result.applied:
                losses.append(result.loss)
            examples += result.examples
            now = time.monotonic()
            if losses and now - reported_at >= _PROGRESS_INTERVAL_S:
                self.stepper.nonfinite.check(self.train_stream)
                mean = float(torch.stack(losses).mean())
                self._report_step(mean, examples / max(1e-9, now - since), monitor.report())
                losses, examples, since, reported_at = [], 0, now, now
            self._report_saved(self.saver.poll())
            stop, save = result.asked if result.asked else (self.config.stop(), self._save_is_due())
            if save:
                self.save(done=False)
            if stop:
                return True
            if self.step >= self.steps and len(self.train_stream):
                break  # max_steps ends the run inside an epoch
        self.stepper.nonfinite.check(self.train_stream)
        if not self.train_stream.delivered:  # else max_steps ended it, and a longer run goes on there
            self.state = ()
        return False

    def _batches(self) -> Iterator[tuple[Any, Place]]:  # Any: the model's own
        batches = iter(self.loader)
        while True:
            place = Place(self.step, self.train_stream.epoch, self.train_stream.delivered)
            with self.config.interrupts():
                batch = next(batches, _EPOCH_ENDED)
            if batch is _EPOCH_ENDED:
                return
            yield batch, place
            del batch  # its memory is used again

    def _train_step(self, batch: Any, place: Place) -> StepResult:  # Any: the model's own
        ask = (float(self.config.stop()), float(self._save_is_due())) if self.config.ranks.world_size > 1 else ()
        result = self.stepper.step(batch, self.state, self._learning_rate(), ask)
        if not result.applied:
            self._tell(self.stepper.nonfinite.skip(place, float(result.loss), self.train_stream))
        else:
            self.stepper.nonfinite.later(place, result.numbers)
            if self.average:
                self.average.update_parameters(self.module)
        self.state = result.state
        self.step += 1
        self.position = self.train_stream.state_dict()
        self.tell_notes()
        return result

    def _save_is_due(self) -> bool:
        due = time.monotonic() - self.saved_at >= self.config.options.checkpoint_s
        return due and self.config.ranks.first and not self.saver.busy

    def tell_notes(self) -> None:
        """Tell what could not be compiled."""
        notes = self.stepper.compiled.notes
        while notes:
            self._tell(notes.pop())

    def _tell(self, text: str) -> None:
        """Tell of something that happened, and write it down."""
        self.log.write("note", self.step, {"text": text})
        self.report("note", notes=(text,))

    def _learning_rate(self) -> float:
        return learning_rate_at(self.step, self.steps, self.config.options)

    @torch.no_grad()
    def _evaluate(self) -> bool:
        """Compute the metrics over the held-out split; whether the score is the best of the run."""
        random_state = torch.get_rng_state()  # restored after: evaluating more or less often changes no training
        self.eval_stream.epoch = self.eval_stream.delivered = 0
        workers, cuda = self.config.options.workers, self.device.type == "cuda"
        loader = Loader(self.eval_stream, workers=workers, pin_memory=cuda, once=True)
        metrics: dict[str, Any] = {}  # Any: JSON values
        try:
            if self.parallel.evaluates:
                with self.config.interrupts():
                    metrics = self.stepper.evaluate(self._evaluated(), loader, self.schema)
            metrics = self.config.ranks.from_first(metrics)
        finally:
            loader.close()
            torch.set_rng_state(random_state)
        self.metrics = {**metrics, "split": self.eval_split, "epochs": self.train_stream.epoch, "step": self.step}
        self.report("evaluate")
        self.log.write("evaluate", self.step, self.metrics)
        self.position = self.train_stream.state_dict()  # a run that stops before is evaluated when it goes on
        improved: bool = metrics.get("score", -math.inf) > self.best
        self.stale = 0 if improved else self.stale + 1
        return improved

    def _evaluated(self) -> nn.Module:
        """The network in evaluation mode; of its averaged weights if they are kept."""
        module: nn.Module = self.average.module if self.average else self.module
        return module.eval()

    def generate(self) -> str:
        """A text that the trained model writes; empty for models that write none."""
        if not self.parallel.evaluates:
            return ""
        with self.stepper.compiled.left_out():
            text = self.config.model.generate(self._evaluated(), self.schema, self.device, self.config.options.seed)
        if text:
            self.log.add_text("sample", self.step, text)
        return text

    def save(self, *, done: bool, text: str = "") -> None:
        """Save a checkpoint and the metrics into the store, and delete checkpoints that are not kept."""
        self.best = max(self.best, self.metrics.get("score", -math.inf))
        self.stepper.nonfinite.check(self.train_stream)
        self.train_stream.wait_verified()  # no checkpoint may depend on data that is not verified yet
        manifest = self.config.corpus.manifest
        info = CheckpointInfo(
            run=self.config.name,
            step=self.step,
            key="",
            size=0,
            sha256="",
            identity=self.config.identity,
            version=manifest.reference,
            content=manifest.content,
            done=done,
            metrics=self.metrics,
            sample=text,
        )
        state = self._state()
        if self.config.ranks.first:
            self._report_saved(self.saver.save(info, state))
        self.saved, self.saved_at = (self.step, self.position), time.monotonic()

    def wait_saved(self) -> None:
        """Wait until the last checkpoint is in the store. Raises what writing it raised."""
        self._report_saved(self.saver.wait())

    def _report_saved(self, step: int | None) -> None:
        if step is not None:
            self.report("checkpoint", step=step)

    def _state(self) -> dict[str, Any]:  # Any: tensors and plain values
        """What a checkpoint holds; the keys are persistent."""
        ranks = self.config.ranks
        return {
            "facts": dict(self.schema),
            "module": self.parallel.gather(self.module.state_dict()),
            "optimiser": self.parallel.gather(self.stepper.optimiser.state_dict()),
            "average": self.parallel.gather(self.average.state_dict()) if self.average else {},
            "stream": self.position,
            "eval_skipped": skipped.whole_state() if (skipped := skipped_of(self.eval_stream)) else {},
            "left_out": [dict(entry) for entry in self.left_out],
            "carried": list(ranks.gather_state(self.state, self.config.options.batch_size)),
            "step": self.step,
            "steps": self.steps,
            "metrics": self.metrics,
            "best": self.best,
            "stale": self.stale,
            "scaler": self.stepper.precision.state_dict(),
            "nonfinite": self.stepper.nonfinite.skipped,
            **ranks.random_states(self.device),
        }

    def _report_step(self, loss: float, rate: float, stream_rates: dict[str, float]) -> None:
        self.report("step", loss=loss, rate=rate, stall=stream_rates.get("stall", math.nan))
        self.log.write("train", self.step, {"loss": loss, "rate": rate, "learning_rate": self._learning_rate()})
        self.log.write("stream", self.step, stream_rates)

    @property
    def left_out(self) -> Sequence[Mapping[str, Any]]:  # Any: JSON values
        """See Result."""
        streams = {self.config.options.split: self.train_stream, self.eval_split: self.eval_stream}
        return left_out_of(self.schema, streams)

    def log_left_out(self) -> None:
        """Write what is left out until now into the metrics."""
        samples = sum(entry["samples"] for entry in self.left_out)
        self.log.write("left_out", self.step, {"samples": samples, "reasons": list(self.left_out)})

    def notes(self) -> tuple[str, ...]:
        """What is not trained on, and how the run computes, in words."""
        notes = describe_left_out(self.left_out)
        if self.held_out:
            split = self.config.options.split
            totals = self.config.corpus.manifest.splits[split].samples
            share = f"{self.held_out:,} of {totals:,} samples of {split} ({self.held_out / totals:.1%})"
            notes.append(f"held out: {share}")
        how = "deterministic" if self.config.options.deterministic else "not deterministic"
        if self.config.ranks.world_size > 1:
            how += f", on {self.config.ranks.world_size} ranks{self.parallel.name}"
        elif self.config.options.fsdp:
            notes.append("fsdp: not used, since this process trains alone; torchrun starts several")
        notes.append(f"computes on {self.device} in {self.config.options.precision}, {how}")
        return tuple(notes)

    def report(
        self,
        kind: str,
        *,
        loss: float = math.nan,
        rate: float = math.nan,
        stall: float = math.nan,
        notes: tuple[str, ...] = (),
        step: int | None = None,
    ) -> None:
        """Tell whoever shows progress; ``step``: another than that of now."""
        epoch, metrics = self.train_stream.epoch, dict(self.metrics)
        step = self.step if step is None else step
        event = Event(kind, self.config.name, step, self.steps, epoch, loss, rate, stall, metrics, notes)
        self.config.progress(event)

    def close(self) -> None:
        """Write out the metrics and the last checkpoint, and end what reads ahead."""
        self.saver.close()
        self.log.close()
        self.loader.close()
        self.train_stream.close()
        self.eval_stream.close()
