"""Checkpoints in the store: whole or not at all, proven before they are believed, free of code.

::

    <corpus>/runs/<run>/<step>-<sha16>.pt     tensors and plain values
    <corpus>/runs/<run>/<step>.json           written last: the checkpoint is there
"""

import hashlib
import io
import json
import pickle
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import torch

from stoker.storage.errors import AlreadyExists, NotFound
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.training.errors import TrainingError

_STEP = 9  # digits


@dataclass(frozen=True, slots=True)
class Mark:
    """What is known of a checkpoint without its tensors."""

    run: str
    step: int
    key: str
    size: int  # bytes
    sha256: str
    identity: dict[str, Any]  # Any: JSON values; model and options
    version: str  # digits@2
    content: str  # of that version
    done: bool  # the run is over
    metrics: dict[str, Any]  # Any: JSON values; of the last evaluation
    sample: str = ""  # a text that the model wrote at the end


def save(store: Store, corpus: str, mark: Mark, state: dict[str, Any]) -> Mark:  # Any: tensors and plain values
    """Put the state into the store, then the mark, completed with where and what it is."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    sha256 = hashlib.sha256(payload).hexdigest()
    folder = layout.run(corpus, mark.run)
    key = f"{folder}{mark.step:0{_STEP}d}-{sha256[:16]}.pt"
    with suppress(AlreadyExists):  # named by its content: it is the same
        store.create(key, payload)
    whole = Mark(**asdict(mark) | {"key": key, "size": len(payload), "sha256": sha256})
    store.write(f"{folder}{mark.step:0{_STEP}d}.json", json.dumps(asdict(whole), sort_keys=True).encode())
    return whole


def marks(store: Store, corpus: str, run: str) -> Iterator[Mark]:
    """The checkpoints of a run, newest first; marks that cannot be read are passed over, as if they were not there."""
    folder = layout.run(corpus, run)
    for stored in sorted(store.list(folder), key=lambda one: one.key, reverse=True):
        name = stored.key.removeprefix(folder)
        if name.endswith(".json") and name[:-5].isdecimal():
            with suppress(ValueError, TypeError, NotFound):
                yield Mark(**json.loads(store.read(stored.key)))


def load(store: Store, mark: Mark) -> dict[str, Any] | None:  # Any: tensors and plain values
    """The state of a checkpoint, on the CPU; None if its bytes are not those that were saved.

    Only tensors and plain values are ever unpickled. Raises TrainingError for bytes that were marked but hold more.
    """
    try:
        payload = store.read(mark.key)
    except NotFound:
        return None
    if hashlib.sha256(payload).hexdigest() != mark.sha256:
        return None
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        first = str(error).splitlines()[0][:100]
        raise TrainingError(
            f"{store.url}/{mark.key}: no checkpoint of tensors and plain values ({first}); delete it"
        ) from None
    return state


def newest(store: Store, corpus: str, run: str) -> tuple[Mark, dict[str, Any]] | None:  # Any: as in load
    """The newest checkpoint of a run that is whole."""
    for mark in marks(store, corpus, run):
        state = load(store, mark)
        if state is not None:
            return mark, state
    return None


def prune(store: Store, corpus: str, run: str, *, keep: int) -> None:
    """Remove all but the newest ``keep`` checkpoints and the one with the best score: mark first, then tensors."""
    found = list(marks(store, corpus, run))
    best = max(found, key=lambda mark: mark.metrics.get("score", float("-inf")), default=None)
    for mark in found[keep:]:
        if best is None or mark.step != best.step:
            store.delete(f"{layout.run(corpus, run)}{mark.step:0{_STEP}d}.json")
            store.delete(mark.key)


def runs(store: Store, corpus: str) -> list[str]:
    """The runs of a corpus, in order of their names."""
    return list(store.folders(layout.runs(corpus)))
