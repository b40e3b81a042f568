"""A batch in several parts, each small enough for the device; together they give the gradient of the whole."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from stoker.training.errors import TrainingError

ROWS = 1  # dimension of a recurrent state, as of torch's LSTM: (layers, rows, units)


def split(batch: Any, parts: int) -> list[Any]:  # Any: the model's own
    """The rows of a batch in so many parts of nearly equal size; of fewer rows, fewer parts, but always one.

    >>> [part.tolist() for part, names in split((torch.arange(5), list("abcde")), 2)]
    [[0, 1, 2], [3, 4]]

    A part has the batch's form: tensors and lists of one entry a row, in tuples, lists and mappings. Raises
    TrainingError for a batch without a tensor.
    """
    rows = rows_of(batch)
    if rows is None:
        raise TrainingError(
            f"accumulate = {parts}: a batch of type {type(batch).__name__} has no tensor whose rows could be divided; "
            "set accumulate = 1"
        )
    parts = max(1, min(parts, rows))
    edges = [0]
    for number in range(parts):
        edges.append(edges[-1] + rows // parts + (number < rows % parts))
    return [_rows(batch, rows, start, stop) for start, stop in pairwise(edges)]


def rows_of(batch: Any) -> int | None:  # Any: as above
    """The rows of the first tensor of a batch; None if there is none."""
    if isinstance(batch, Tensor):
        return int(batch.shape[0]) if batch.dim() else None
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, tuple | list) else ()
    return next((rows for rows in map(rows_of, parts) if rows is not None), None)


def _rows(batch: Any, rows: int, start: int, stop: int) -> Any:  # Any: as above
    if isinstance(batch, Tensor):
        return batch[start:stop] if batch.dim() and batch.shape[0] == rows else batch
    if isinstance(batch, Mapping):
        return {name: _rows(part, rows, start, stop) for name, part in batch.items()}
    if isinstance(batch, list) and len(batch) == rows and not any(isinstance(part, Tensor) for part in batch):
        return batch[start:stop]
    if isinstance(batch, tuple | list):
        parts = [_rows(part, rows, start, stop) for part in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return batch


def split_state(state: tuple[Tensor, ...], sizes: list[int]) -> list[tuple[Tensor, ...]]:
    """A recurrent state by the rows of the parts. Raises TrainingError if its rows are not those of the batch."""
    if not state or len(sizes) == 1:
        return [state] * len(sizes)
    for tensor in state:
        if tensor.dim() <= ROWS or tensor.shape[ROWS] != sum(sizes):
            raise TrainingError(
                f"accumulate: a recurrent state of shape {tuple(tensor.shape)}, for {sum(sizes)} rows; expected them "
                f"along dimension {ROWS}, as in torch's LSTM"
            )
    return list(zip(*(torch.split(tensor, sizes, ROWS) for tensor in state), strict=True))


def join_state(states: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """The recurrent state of all rows."""
    return states[0] if len(states) == 1 else tuple(torch.cat(parts, ROWS) for parts in zip(*states, strict=True))
