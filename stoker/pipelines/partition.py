"""Partitions: the unit of ingest, retry and parallelism, cut so that growth moves as few of them as possible."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


def digest(value: object) -> str:
    """SHA-256 (hex) of a JSON value in its one canonical form.

    >>> digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Partition:
    """A part of a source that one task reads.

    ``name`` is unique in its source and shown to people. ``payload`` is all that ``Source.read`` needs, as JSON
    values. ``fingerprint`` stands for the input as far as it is known before reading (a file's SHA-256, say):
    when it changes, the partition is read again.
    """

    name: str
    payload: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON values
    fingerprint: str = ""


def cut(items: Iterable[T], identity: Callable[[T], str], *, target: int) -> Iterator[list[T]]:
    """The items in order, cut into runs of about ``target`` (at most four times that).

    A cut falls behind an item whose identity's hash says so, not at a count, so an item added in the middle
    changes the one run it falls into and the runs behind it stay as they are: content-defined chunking
    (Muthitacharoen, Chen and Mazieres, "A Low-bandwidth Network File System", SOSP 2001).

    >>> [len(run) for run in cut(range(100), str, target=20)]
    [10, 24, 7, 19, 11, 29]
    """
    run: list[T] = []
    for item in items:
        run.append(item)
        mark = int.from_bytes(hashlib.sha256(identity(item).encode("utf-8", "surrogatepass")).digest()[:8], "big")
        # No cut before a quarter of the target: tasks of a few samples cost more to start than to do.
        if (len(run) * 4 >= target and mark % target == 0) or len(run) >= 4 * target:
            yield run
            run = []
    if run:
        yield run
