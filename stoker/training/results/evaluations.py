"""What a run's model came to on a split of a version, as a JSON file beside its checkpoints. Imports no torch."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from stoker.storage.errors import NotFound
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout

_MAX_NAMED = 8  # classes in a remark


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The metrics of a checkpoint on a split; the fields are the file's keys.

    ``unknown``: samples by their class, where the model does not know it: they are left out. ``absent``: classes of the
    model of which the split has no sample. ``left_out``: for each reason ``samples`` and some ``keys``.
    """

    run: str
    corpus: str  # in whose folder the run lies
    model: str
    step: int  # of the checkpoint
    trained_on: str  # reference of the version
    reference: str  # of the version that it was evaluated on
    content: str  # digest of that version
    split: str
    at: str  # ISO time
    metrics: dict[str, Any]  # Any: JSON values; see ``Model.evaluate``
    unknown: dict[str, int] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)
    left_out: Sequence[dict[str, Any]] = ()  # Any: JSON values
    seen: bool = False  # the model was trained on this split, of this version or another one

    def remarks(self) -> list[str]:
        """What a reader of the figures must know: other classes, samples that the model was trained on."""
        remarks = []
        if self.unknown:
            named = [f"{name} ({samples:,})" for name, samples in sorted(self.unknown.items())]
            remarks.append(f"classes of {self.reference} that the model does not know, left out: {_listed(named)}")
        if self.absent:
            remarks.append(f"classes of the model without a sample in {self.split}: {_listed(self.absent)}")
        if self.seen:
            remarks.append(
                f"the model was trained on split {self.split} of {self.trained_on}: it has seen these samples"
            )
        return remarks

    def to_json(self) -> dict[str, Any]:  # Any: JSON values
        """As it is kept, and printed for programs."""
        return asdict(self)


def confused_pairs(metrics: Mapping[str, Any]) -> list[tuple[str, str, int]]:  # Any: JSON values
    """Class, what it was taken for, and how often: the most frequent first.

    >>> confused_pairs({"classes": ["cat", "dog"], "confusion": [[5, 1], [2, 5]]})
    [('dog', 'cat', 2), ('cat', 'dog', 1)]
    """
    if "confused" in metrics:  # of many classes
        return [(str(name), str(other), int(count)) for name, other, count in metrics["confused"]]
    classes, confusion = metrics["classes"], metrics["confusion"]
    pairs = [
        (classes[row], classes[column], count)
        for row, counts in enumerate(confusion)
        for column, count in enumerate(counts)
        if count and row != column
    ]
    return sorted(pairs, key=lambda pair: -pair[2])


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def keep(store: Store, evaluation: Evaluation) -> str:
    """Write an evaluation, in place of one of the same checkpoint, version and split; the key."""
    one = evaluation
    key = layout.evaluation(one.corpus, one.run, one.reference, one.split, one.step)
    store.write(key, json.dumps(evaluation.to_json(), sort_keys=True).encode())
    return key


def evaluations(store: Store, corpus: str, run: str) -> list[Evaluation]:
    """The evaluations of a run, the newest first; one that cannot be read is skipped."""
    found = []
    for entry in store.list(layout.evaluations(corpus, run)):
        with suppress(ValueError, TypeError, NotFound):
            found.append(Evaluation(**json.loads(store.read(entry.key))))
    return sorted(found, key=lambda one: one.at, reverse=True)
