"""The streams of a run: which split is evaluated on, what may be left out, and what was."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from stoker.training.errors import TrainingError
from stoker.training.loader.loader import Loader, Stream
from stoker.training.run.model import Corpus, Model, Schema
from stoker.training.run.options import TrainOptions, skip_budget_of
from stoker.training.stream.skipped import SkippedSamples
from stoker.training.stream.stream import split_shards
from stoker.training.stream.subset import HELD_OUT, hold_out, left_out_entry


def divided(corpus: Corpus, options: TrainOptions) -> tuple[Corpus, str]:
    """The corpus as it is trained on, a share of it held out if asked for, and the split to evaluate on.

    Raises TrainingError if only the training split has samples, and none of them is to be held out.
    """
    manifest = corpus.manifest
    if options.hold_out:
        manifest = hold_out(corpus.store, manifest, options.hold_out, split=options.split, cache=corpus.cache)
        return replace(corpus, manifest=manifest), HELD_OUT
    splits = [name for name, totals in manifest.splits.items() if totals.samples]
    chosen = options.eval_split or ("validation" if "validation" in splits else "")
    chosen = chosen or next((name for name in splits if name != options.split), "")
    if chosen not in splits or chosen == options.split:
        split_shards(manifest, options.split)
        missing = f"no split {chosen!r} to evaluate on" if chosen else f"no split to evaluate on beside {options.split}"
        if chosen == options.split:
            missing = f"split {chosen!r} cannot be trained on and evaluated on"
        raise TrainingError(
            f"{manifest.reference}: {missing}; it has: {', '.join(splits)}. Hold a share of the training split out "
            "(`hold_out`: --hold-out 10%), name a split (`eval_split`), or give the recipe a validation split"
        )
    return corpus, chosen


def with_skip_budget(corpus: Corpus, options: TrainOptions, split: str) -> Corpus:
    """The corpus with the number of samples of a split that may be left out because they do not decode."""
    totals = corpus.manifest.splits.get(split)
    return replace(corpus, skip_budget=skip_budget_of(options.skip_budget, totals.samples if totals else 0))


def first_batches_of(
    corpus: Corpus, model: Model, schema: Schema, options: TrainOptions
) -> Generator[Any]:  # Any: as data
    """The batches of a first epoch, read by a stream of their own, which is opened when the first one is asked for."""
    stream = model.data(
        with_skip_budget(corpus, options, options.split),
        options.split,
        schema,
        batch_size=options.batch_size,
        seed=options.seed,
        training=True,
    )
    try:
        yield from Loader(stream)
    finally:
        stream.close()


def skipped_of(stream: Stream) -> SkippedSamples | None:
    """The samples that a stream left out because they do not decode; None for streams that leave none out."""
    skipped = getattr(stream, "skipped", None)
    return skipped if isinstance(skipped, SkippedSamples) else None


def left_out_of(schema: Schema, streams: Mapping[str, Stream]) -> Sequence[Mapping[str, Any]]:  # Any: JSON values
    """What the model could not use, and what of the splits' streams did not decode; see Result."""
    left_out: list[Mapping[str, Any]] = list(schema.get("left_out", ()))
    for split, stream in streams.items():
        skipped = skipped_of(stream)
        for reason, keys in skipped.by_reason().items() if skipped else ():
            left_out.append(left_out_entry(split, reason, keys))
    return left_out
