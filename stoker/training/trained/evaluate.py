"""A trained model on a split of any version: its metrics, and what was left out."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from stoker.storage.clock import timestamp, utc_now
from stoker.storage.stores.store import Store
from stoker.storage.stores.urls import with_patience
from stoker.storage.versions.manifest import Manifest
from stoker.training.errors import TrainingError
from stoker.training.loader.loader import Loader
from stoker.training.results.evaluations import Evaluation
from stoker.training.run.model import Corpus, Schema
from stoker.training.run.options import skip_budget_of
from stoker.training.run.steps.streams import divided
from stoker.training.stream.skipped import SkippedSamples
from stoker.training.stream.stream import split_shards
from stoker.training.stream.subset import HELD_OUT, left_out_entry
from stoker.training.trained.load import Trained

_FIRST_SPLITS = ("test", "validation")  # that are evaluated on where none is named


def evaluate(
    trained: Trained,
    store: Store,
    manifest: Manifest,
    *,
    split: str = "",
    cache: Path | None = None,
    batch_size: int = 0,
    workers: int = 2,
    skip_budget: str = "",
    progress: Callable[[int, int], None] = lambda samples, of: None,
) -> Evaluation:
    """Evaluate a trained model.

    Args:
        trained: the model.
        store: where the version is.
        manifest: of the version.
        split: of it; "": test, else validation, else the one that training evaluated on, else the only one.
        cache: for shards.
        batch_size: 0: that of training.
        workers: threads that read and decode.
        skip_budget: see TrainOptions.
        progress: called with the samples that were asked for so far, and how many there are.

    Raises TrainingError, StorageError.
    """
    corpus, split = _corpus_and_split(trained, Corpus(with_patience(store), manifest, cache), split)
    same = manifest.content == trained.info.content
    schema = trained.schema if same else _adapted(trained, corpus, split)
    samples = sum(shard.samples for shard in corpus.manifest.shards if shard.split == split)
    corpus = replace(corpus, skip_budget=skip_budget_of(skip_budget, samples))
    stream = trained.model.data(
        corpus, split, schema, batch_size=batch_size or trained.options.batch_size, seed=0, training=False
    )
    loader = Loader(stream, workers=workers)

    def batches() -> Iterator[Any]:  # Any: the model's own
        batch_samples = samples / max(1, len(stream))
        for number, batch in enumerate(loader, 1):
            yield batch
            progress(min(samples, round(number * batch_samples)), samples)

    try:
        with torch.inference_mode():
            metrics = trained.model.evaluate(trained.module, batches(), schema, trained.device)
        skipped = getattr(stream, "skipped", None)
        by_reason = skipped.by_reason() if isinstance(skipped, SkippedSamples) else {}
    finally:
        loader.close()
        stream.close()
    left_out = [dict(entry) for entry in schema.get("left_out", ()) if entry["split"] == split]
    return Evaluation(
        run=trained.info.run,
        corpus=trained.corpus,
        model=trained.info.identity["model"],
        step=trained.info.step,
        trained_on=trained.info.version,
        reference=manifest.reference,
        content=manifest.content,
        split=split,
        at=timestamp(utc_now()),
        metrics=metrics,
        unknown=dict(schema.get("unknown", {})),
        absent=[name for name in metrics.get("classes", ()) if name not in metrics.get("recall", metrics["classes"])],
        left_out=[*left_out, *(left_out_entry(split, reason, keys) for reason, keys in by_reason.items())],
        seen=trained.info.version.partition("@")[0] == manifest.corpus and split == trained.options.split,
    )


def _corpus_and_split(trained: Trained, corpus: Corpus, split: str) -> tuple[Corpus, str]:
    """The version, a share of it held out as in training if that is evaluated on, and the split."""
    manifest, options = corpus.manifest, trained.options
    own = manifest.corpus == trained.corpus
    splits = [name for name, totals in manifest.splits.items() if totals.samples]
    if options.hold_out and own and (split == HELD_OUT or (not split and options.split in splits)):
        return divided(corpus, options)
    if split:
        split_shards(manifest, split)  # raises, and says which there are
        return corpus, split
    named = [*_FIRST_SPLITS, options.eval_split, *(name for name in splits if name != options.split), *splits]
    chosen = next((name for name in named if name in splits), None)
    if chosen is None:
        raise TrainingError(f"{manifest.reference}: it holds no sample to evaluate on")
    return corpus, chosen


def _adapted(trained: Trained, corpus: Corpus, split: str) -> Schema:
    """The model's schema, with what is left out of this version in place of what was left out of that of training."""
    adapt = getattr(trained.model, "adapt", None)
    if adapt is not None:
        adapted: Schema = adapt(trained.schema, corpus, split)
        return adapted
    left_out = trained.model.prepare(corpus, split).get("left_out", ())
    return {**trained.schema, "left_out": left_out}
