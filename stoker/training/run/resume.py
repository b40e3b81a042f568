"""Which run ``resume`` goes on with, and where there is none, what is other about the nearest."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from stoker.storage.versions.manifest import Manifest
from stoker.training.run import checkpoint as checkpoints
from stoker.training.run.checkpoint import Checkpoint, CheckpointInfo
from stoker.training.run.model import Corpus
from stoker.training.run.options import LENGTH, without_length

_MAX_NAMED = 6  # options that differ, in a message
_NAMES = {"held_out": "eval_split"}  # keys of an identity that are not their options' present names


def checkpoint_of(corpus: Corpus, identity: dict[str, Any]) -> Checkpoint | None:  # Any: JSON values
    """The checkpoint to go on from: of the same run, or else of one that was to be shorter."""
    return _same_run(corpus, identity) or _lengthened(corpus, identity)


def describe_nearest(corpus: Corpus, identity: dict[str, Any]) -> str:  # Any: JSON values
    """How the run of the same model with the fewest other options, the newest of these, differs from this one."""
    nearest, differences = "", list[str]()
    for name, info in _runs(corpus):
        if info.identity.get("model") != identity["model"]:
            continue
        other = _differences(info, corpus.manifest, json.loads(json.dumps(identity)))
        if not nearest or len(other) < len(differences):
            nearest, differences = name, other
    if not nearest:
        return f"no run of {identity['model']} on {corpus.manifest.corpus} has a checkpoint"
    if not differences:
        return f"{nearest} has the same options and version, but no checkpoint that is whole"
    more = len(differences) - _MAX_NAMED
    return f"the nearest run, {nearest}, has {', '.join(differences[:_MAX_NAMED])}" + (f" and {more} more" * (more > 0))


def _runs(corpus: Corpus) -> Iterator[tuple[str, CheckpointInfo]]:
    """The runs on a corpus that have a checkpoint, with what their newest says; the newest run first."""
    for name in reversed(checkpoints.runs(corpus.store, corpus.manifest.corpus)):
        info = next(checkpoints.infos(corpus.store, corpus.manifest.corpus, name), None)
        if info is not None:
            yield name, info


def _differences(info: CheckpointInfo, version: Manifest, identity: Mapping[str, Any]) -> list[str]:  # Any: JSON values
    """What the run of a checkpoint has, and a run of this identity on this version has not."""
    texts = []
    if info.version != version.reference and info.content != version.content:
        texts.append(f"version = {info.version} (now {version.reference})")
    elif info.content != version.content:
        texts.append(f"another {info.version}, of other content")
    theirs, ours = _by_option(info.identity), _by_option(identity)
    lengths = zip(LENGTH, _length(info.identity), _length(identity), strict=True)
    longer = {name for name, was, asked in lengths if was <= asked}  # which alone would not hinder it
    for name in dict.fromkeys([*ours, *theirs]):
        if name in longer:
            continue
        there, now = _text(theirs.get(name)), _text(ours.get(name))
        if there != now:
            texts.append(f"{name} = {there} (now {now})")
    return texts


def _by_option(identity: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON values
    """The values of an identity by the options' names."""
    options = {**identity.get("options", {}), **identity.get("training", {})}
    others = {name: value for name, value in identity.items() if name not in ("model", "options", "training")}
    return others | {_NAMES.get(name, name): value for name, value in options.items()}


def _text(value: object) -> str:
    return "none" if value in (None, "") else str(value)


def _same_run(corpus: Corpus, identity: dict[str, Any]) -> Checkpoint | None:  # Any: JSON values
    """The newest checkpoint of the newest run with this identity on this version."""
    expected = json.loads(json.dumps(identity)), corpus.manifest.content
    for name, info in _runs(corpus):
        if (info.identity, info.content) == expected:
            checkpoint = checkpoints.newest(corpus.store, corpus.manifest.corpus, name)
            if checkpoint is not None:
                return checkpoint
    return None


def _lengthened(corpus: Corpus, identity: dict[str, Any]) -> Checkpoint | None:  # Any: JSON values
    """The newest checkpoint of the newest run of the same kind that was to be shorter."""
    expected = without_length(json.loads(json.dumps(identity))), corpus.manifest.content
    asked = _length(identity)
    for name, info in _runs(corpus):
        if (without_length(info.identity), info.content) != expected:
            continue
        if all(mine <= longer for mine, longer in zip(_length(info.identity), asked, strict=True)):
            return checkpoints.newest(corpus.store, corpus.manifest.corpus, name)
    return None


def _length(identity: Mapping[str, Any]) -> tuple[float, ...]:  # Any: JSON values
    """Epochs, steps at most, and evaluations without a better score at most; without end where nothing is said."""
    training = identity.get("training", {})
    return tuple(training.get(name) or math.inf for name in LENGTH)
