"""Train a model on a pinned version: stop it anywhere, and the same call goes on as if it had not been stopped."""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from stoker.storage.errors import AlreadyExists
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.manifest import Manifest
from stoker.training.run import checkpoint
from stoker.training.run.checkpoint import Mark
from stoker.training.run.model import Corpus
from stoker.training.run.options import TrainOptions, identity, make
from stoker.training.run.run import Event, Result, Run, never, silent

__all__ = ["Event", "Result", "train"]


def train(
    store: Store,
    version: Manifest,
    model: str,
    given: dict[str, Any] | None = None,  # Any: option's texts or values by name
    *,
    resume: bool = False,
    folder: Path | None = None,
    cache: Path | None = None,
    progress: Callable[[Event], None] = silent,
    stop: Callable[[], bool] = never,
) -> Result:
    """Train ``model`` on a version with options of the model and of TrainOptions, by name.

    ``resume``: go on with the newest run of the same model, options and version, if there is one; a run that is
    over is returned as it is. Otherwise a new run begins. ``folder``: where each run's metrics go, in a folder of
    their own. ``stop`` is asked at every step; the run is then saved and ends. On the CPU, with the same number of
    threads, a run resumed any number of times ends with the weights of an undisturbed one, bit for bit.

    Raises TrainingError, StorageError.
    """
    built, options = make(model, given or {})
    corpus = Corpus(store, version, cache)
    who = identity(model, built, options)
    found = _newest_run(corpus, who) if resume else None
    run = found[0].run if found else _new_run(store, version.corpus, model, who)
    own = (folder or Path(tempfile.gettempdir()) / "stoker-runs") / version.corpus / run
    if found and found[0].done:
        mark = found[0]
        return Result(
            run, version.reference, mark.step, mark.step, mark.metrics, mark.sample, own, mark.step, stopped=False
        )
    with _torch_set(options):
        return Run(corpus, built, options, who, run, own, progress, stop).go(found)


def _new_run(store: Store, corpus: str, model: str, who: dict[str, Any]) -> str:  # Any: JSON values
    """A name that no other run has or will have."""
    taken = [name.rpartition("-")[2] for name in checkpoint.runs(store, corpus) if name.startswith(f"{model}-")]
    number = max((int(one) for one in taken if one.isdecimal()), default=0)
    while True:
        number += 1
        with suppress(AlreadyExists):  # another run was named at the same time
            store.create(f"{layout.run(corpus, f'{model}-{number:04d}')}run.json", json.dumps(who).encode())
            return f"{model}-{number:04d}"


def _newest_run(corpus: Corpus, who: dict[str, Any]) -> tuple[Mark, dict[str, Any]] | None:  # Any: JSON; tensors
    for run in reversed(checkpoint.runs(corpus.store, corpus.manifest.corpus)):
        found = checkpoint.newest(corpus.store, corpus.manifest.corpus, run)
        if found and found[0].identity == json.loads(json.dumps(who)) and found[0].content == corpus.manifest.content:
            return found
    return None


@contextmanager
def _torch_set(options: TrainOptions) -> Iterator[None]:
    """Threads and determinism for the run, and torch's random numbers, as they were afterwards."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        if options.threads:
            torch.set_num_threads(options.threads)
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic)
            torch.set_num_threads(threads)
