"""Checkpoints in the store: complete or absent, verified by their checksum when read, tensors and plain values only.

::

    <corpus>/runs/<run>/<step>-<sha16>.pt     torch.save of tensors and plain values
    <corpus>/runs/<run>/<step>.json           a CheckpointInfo; written last, so that the checkpoint exists with it

The tensors' file is a pickle, as torch.save writes it. It is read with ``weights_only=True``, which runs no code. What
it holds is put together by ``loop``.
"""

import hashlib
import io
import json
import logging
import pickle
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from typing import Any, NamedTuple

import torch

from stoker.storage.errors import AlreadyExists, CorruptShard, NotFound, StokerError
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout
from stoker.storage.versions.verified import verified_bytes
from stoker.training.errors import TrainingError
from stoker.training.results.checkpoints import CheckpointInfo, best_of, infos, runs

__all__ = ["Checkpoint", "CheckpointInfo", "fitting", "infos", "load", "newest", "prune", "runs", "save"]

# What code raises that is given other values than it wrote.
_UNFIT = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)

_OF_DEVICES = ("CUDA", "cuDNN", "CUBLAS", "NCCL", "HIP", "MPS")  # how messages begin whose type does not say so

_log = logging.getLogger(__name__)

_STEP_DIGITS = 9


class Checkpoint(NamedTuple):
    """A checkpoint that was read and verified."""

    info: CheckpointInfo
    state: dict[str, Any]  # Any: tensors and plain values, on the CPU


def save(
    store: Store, corpus: str, info: CheckpointInfo, state: dict[str, Any]
) -> CheckpointInfo:  # Any: tensors and plain values
    """Write the state, then the info, completed with the state's key, size and checksum."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    sha256 = hashlib.sha256(payload).hexdigest()
    path = f"{layout.run(corpus, info.run)}{info.step:0{_STEP_DIGITS}d}"
    info = replace(info, key=f"{path}-{sha256[:16]}.pt", size=len(payload), sha256=sha256)
    with suppress(AlreadyExists):  # its name has its checksum: the same bytes
        store.create(info.key, payload)
    told = {field.name: getattr(info, field.name) for field in fields(info)}  # asdict would copy all metrics first
    store.write(f"{path}.json", json.dumps(told, sort_keys=True).encode())
    about = {"run": info.run, "step": info.step, "checkpoint": info.key, "size": info.size}
    _log.info("%s: checkpoint of step %d saved, %d bytes", info.run, info.step, info.size, extra=about)
    return info


def load(store: Store, info: CheckpointInfo) -> dict[str, Any] | None:  # Any: tensors and plain values
    """The state of a checkpoint, on the CPU; None if it is missing or its checksum is wrong.

    Raises TrainingError for a file that holds anything but tensors and plain values.
    """
    try:
        payload = verified_bytes(store, info.key, sha256=info.sha256)
    except (NotFound, CorruptShard):
        return None
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0][:100]
        raise TrainingError(
            f"{store.url}/{info.key}: no checkpoint of tensors and plain values ({reason}); delete it"
        ) from None
    if not isinstance(state, dict) or not isinstance(state.get("facts"), dict):
        raise TrainingError(f"{store.url}/{info.key}: no checkpoint that Stoker wrote: expected facts in it; delete it")
    return state


@contextmanager
def fitting(run: str, model: str) -> Iterator[None]:
    """Around what is made of a checkpoint's state. Raises TrainingError where the model's code makes nothing of it.

    Faults of the store and of the device pass: the checkpoint may be sound.
    """
    try:
        yield
    except (StokerError, torch.AcceleratorError, torch.OutOfMemoryError):
        raise
    except _UNFIT as error:
        if isinstance(error, RuntimeError) and str(error).startswith(_OF_DEVICES):
            raise
        raise TrainingError(
            f"{run}: its checkpoint does not fit what model {model} builds now "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]}); train it anew, or install the code that "
            "it was trained with"
        ) from error


def newest(store: Store, corpus: str, run: str) -> Checkpoint | None:
    """The newest intact checkpoint of a run."""
    for info in infos(store, corpus, run):
        state = load(store, info)
        if state is not None:
            return Checkpoint(info, state)
    return None


def prune(store: Store, corpus: str, run: str, *, keep: int) -> None:
    """Delete all checkpoints but the newest ``keep`` and the one of the best score; a checkpoint's info goes first.

    The score of a checkpoint is that of its own weights: later ones hold the last evaluation too, and other weights.
    """
    newest_first = list(infos(store, corpus, run))
    best = best_of(newest_first)
    for info in newest_first[keep:]:
        if best is None or info.step != best.step:
            store.delete(f"{layout.run(corpus, run)}{info.step:0{_STEP_DIGITS}d}.json")
            store.delete(info.key)
