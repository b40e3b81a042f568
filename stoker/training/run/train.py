"""Train a model on a pinned version; a run that was stopped anywhere resumes with the same call."""

import json
import os
import stat
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from stoker.storage.errors import AlreadyExists
from stoker.storage.stores.store import Store
from stoker.storage.stores.urls import with_patience
from stoker.storage.versions import layout
from stoker.storage.versions.manifest import Manifest
from stoker.training.errors import TrainingError
from stoker.training.run import checkpoint as checkpoints
from stoker.training.run.averaging import weights_of
from stoker.training.run.checkpoint import Checkpoint
from stoker.training.run.devices import device_of
from stoker.training.run.loop import run
from stoker.training.run.model import Corpus, Model, run_name
from stoker.training.run.options import TrainOptions, parse_options, run_identity
from stoker.training.run.resume import checkpoint_of, describe_nearest
from stoker.training.run.steps.events import Event, Result, RunConfig
from stoker.training.run.steps.ranks import Ranks, joined
from stoker.training.run.steps.streams import divided
from stoker.training.stream.subset import HELD_OUT

__all__ = ["Event", "Result", "train"]


def _no_progress(event: Event) -> None:
    """Show nothing."""


def _never_stop() -> bool:
    return False


def train(
    store: Store,
    version: Manifest,
    model: str,
    options: dict[str, Any] | None = None,  # Any: texts or values, by the option's name
    *,
    resume: bool = False,
    folder: Path | None = None,
    cache: Path | None = None,
    progress: Callable[[Event], None] = _no_progress,
    stop: Callable[[], bool] = _never_stop,
    interrupts: Callable[[], AbstractContextManager[None]] = nullcontext,
    given: dict[str, Any] | None = None,
) -> Result:
    """Train a model on a version, and save checkpoints and metrics into its store.

    On the CPU, with the same number of threads, a run that was resumed any number of times ends with the weights of
    one that was never stopped, bit for bit.

    >>> import tempfile
    >>> from dataclasses import replace
    >>> from pathlib import Path
    >>> from stoker.testing import sample_corpus
    >>> from stoker.training import train
    >>> store, manifest = sample_corpus(200, kind="images")  # two shards; one is to be the held-out split
    >>> manifest = replace(manifest, shards=(manifest.shards[0], replace(manifest.shards[1], split="validation")))
    >>> options = {"pixels": 8, "width": 2, "epochs": 2, "batch_size": 50, "workers": 0, "device": "cpu"}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = train(store, manifest, "cnn", options, folder=Path(folder), cache=Path(folder, "cache"))
    >>> result.run, result.step, result.metrics["samples"]
    ('cnn-0001', 4, 100)

    Args:
        store: where the version is, and where checkpoints go.
        version: its manifest.
        model: name of a model, as ``cnn``.
        options: of the model and of TrainOptions, by name.
        resume: go on with the newest run of the same model, options and version, if there is one; a finished run is
            returned as it is. With more ``epochs`` or ``max_steps`` than that run had it goes on, too, finished or not:
            the learning rate then follows the schedule of the longer run. Otherwise a new run begins.
        folder: for metrics, in a subfolder for each run; by default one under the system's temporary folder.
        cache: for shards.
        progress: called with each Event.
        stop: asked after every step; if it returns True, the run is saved and ends.
        interrupts: entered around what leaves nothing half done and may take long (waiting for a batch, an evaluation).
            KeyboardInterrupt may be raised inside; if ``stop`` is true then, the run is saved and ends.
        given: the old name of ``options``.

    A store that is out of reach is waited for, by default 300 s: see ``open_store``.

    Raises TrainingError, StorageError.
    """
    if given is not None:
        if options is not None:
            raise TrainingError("train: given is the old name of options; pass options alone")
        warnings.warn("train(given=...) is now called train(options=...)", DeprecationWarning, stacklevel=2)
        options = given
    built, train_options = parse_options(model, options or {})
    corpus = Corpus(with_patience(store), version, cache)
    with joined(train_options.device) as ranks:
        if ranks.world_size > 1:  # an interrupt of one rank would leave the others waiting: ``stop`` is asked together
            interrupts = nullcontext
        if not ranks.first:
            progress = _no_progress
        calls = _Calls(progress, stop, interrupts)
        return _train(corpus, model, built, train_options, ranks, calls, folder=folder, resume=resume)


class _Calls(NamedTuple):
    """See ``train``."""

    progress: Callable[[Event], None]
    stop: Callable[[], bool]
    interrupts: Callable[[], AbstractContextManager[None]]


def _train(
    corpus: Corpus,
    model: str,
    built: Model,
    train_options: TrainOptions,
    ranks: Ranks,
    calls: _Calls,
    *,
    folder: Path | None,
    resume: bool,
) -> Result:
    store, version = corpus.store, corpus.manifest
    identity = run_identity(model, built, train_options)
    checkpoint = checkpoint_of(corpus, identity) if resume and ranks.first else None
    name = ""
    if ranks.first:
        name = checkpoint.info.run if checkpoint else _new_run(store, version.corpus, run_name(model), identity)
    if resume and not checkpoint and ranks.first:
        calls.progress(Event("new", name, 0, 0, 0, notes=(describe_nearest(corpus, identity),)))
    name, key = ranks.from_first([name, checkpoint.info.key if checkpoint else ""])
    if key and not ranks.first:
        checkpoint = _of_key(corpus, name, key)
    run_folder = (folder or _default_folder()) / version.corpus / name
    if not ranks.first:
        run_folder /= f"rank-{ranks.rank}"
    if checkpoint and checkpoint.info.done and checkpoint.info.identity == json.loads(json.dumps(identity)):
        result = _finished(checkpoint, corpus, run_folder, train_options)
        if any(getattr(built, name) for name in getattr(built, "shown", ())):
            with _torch_settings(train_options):
                result = replace(result, sample=_written_again(checkpoint, built, train_options))
        return result
    config = RunConfig(
        name=name,
        corpus=corpus,
        model=built,
        options=train_options,
        identity=identity,
        folder=run_folder,
        progress=calls.progress,
        stop=calls.stop,
        interrupts=calls.interrupts,
        ranks=ranks,
    )
    with _torch_settings(train_options):
        return run(config, checkpoint)


def _of_key(corpus: Corpus, run: str, key: str) -> Checkpoint:
    """The checkpoint that rank 0 has chosen. Raises TrainingError."""
    for info in checkpoints.infos(corpus.store, corpus.manifest.corpus, run):
        state = checkpoints.load(corpus.store, info) if info.key == key else None
        if state is not None:
            return Checkpoint(info, state)
    raise TrainingError(f"{corpus.store.url}/{key}: a checkpoint that rank 0 has read, and this rank cannot")


def _default_folder() -> Path:
    """A private folder of this user's under the system's folder for temporary files. Raises TrainingError."""
    folder = Path(tempfile.gettempdir()) / f"stoker-runs-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():  # any user can create names in /tmp
        raise TrainingError(f"{folder}: no folder of yours; remove it, or name a folder for the run: train(folder=...)")
    return folder


def _finished(checkpoint: Checkpoint, corpus: Corpus, folder: Path, options: TrainOptions) -> Result:
    """The result of a run whose last checkpoint is this one."""
    info, version = checkpoint.info, corpus.manifest
    return Result(
        run=info.run,
        reference=version.reference,
        step=info.step,
        steps=info.step,
        metrics=info.metrics,
        sample=info.sample,
        folder=folder,
        resumed_at=info.step,
        stopped=False,
        left_out=checkpoint.state.get("left_out") or checkpoint.state["facts"].get("left_out", ()),
        held_out=divided(corpus, options)[0].manifest.splits[HELD_OUT].samples if options.hold_out else 0,
    )


def _written_again(checkpoint: Checkpoint, model: Model, options: TrainOptions) -> str:
    """What the model of a finished run writes with the options of now."""
    device, schema = device_of(options.device), checkpoint.state["facts"]
    with checkpoints.fitting(checkpoint.info.run, str(checkpoint.info.identity.get("model"))):
        module = model.build(schema)
        module.load_state_dict(weights_of(checkpoint.state))
    return model.generate(module.to(device).eval(), schema, device, options.seed)


def _new_run(store: Store, corpus: str, model: str, identity: dict[str, Any]) -> str:  # Any: JSON values
    """A name that no other run has or will have: reserved in the store."""
    suffixes = [name.rpartition("-")[2] for name in checkpoints.runs(store, corpus) if name.startswith(f"{model}-")]
    number = max((int(suffix) for suffix in suffixes if suffix.isdecimal()), default=0)
    while True:
        number += 1
        name = f"{model}-{number:04d}"
        with suppress(AlreadyExists):  # another process took the name at the same time
            store.create(f"{layout.run(corpus, name)}run.json", json.dumps(identity).encode())
            return name


@contextmanager
def _torch_settings(options: TrainOptions) -> Iterator[None]:
    """Threads and determinism for the run; afterwards these and torch's random numbers are as before."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    memory: Any = torch.utils.deterministic  # Any: torch has no type for its setting
    fills = memory.fill_uninitialized_memory
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        if options.threads:
            torch.set_num_threads(options.threads)
        torch.use_deterministic_algorithms(options.deterministic, warn_only=True)
        # Deterministic algorithms need it not: to fill each new tensor with NaN takes 2 to 4 % of a small network.
        memory.fill_uninitialized_memory = False
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic)
            memory.fill_uninitialized_memory = fills
            torch.set_num_threads(threads)
