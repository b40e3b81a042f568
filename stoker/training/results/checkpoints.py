"""The JSON file of each checkpoint: what it says of it. Imports no torch, so that the web page can read it.

::

    <corpus>/runs/<run>/<step>.json     a CheckpointInfo; written last, so that the checkpoint exists with it
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from stoker.storage.errors import NotFound
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """What a checkpoint's JSON file says of it; the fields are its keys."""

    run: str
    step: int
    key: str  # of the tensors' file
    size: int  # bytes
    sha256: str
    identity: dict[str, Any]  # Any: JSON values; model and options
    version: str  # reference of the corpus, as digits@2
    content: str  # digest of that version
    done: bool  # the run has reached its last step
    metrics: dict[str, Any]  # Any: JSON values; of the last evaluation
    sample: str = ""  # a text that the model wrote at the end

    @property
    def evaluated(self) -> bool:
        """Whether the metrics are those of its own weights: later checkpoints hold the last evaluation's, too."""
        return bool(self.metrics.get("step") == self.step)


def infos(store: Store, corpus: str, run: str) -> Iterator[CheckpointInfo]:
    """The checkpoints of a run, newest first; an info that cannot be read is skipped."""
    folder = layout.run(corpus, run)
    for entry in sorted(store.list(folder), key=lambda entry: entry.key, reverse=True):
        name = entry.key.removeprefix(folder)
        if name.endswith(".json") and name[:-5].isdecimal():
            with suppress(ValueError, TypeError, RecursionError, NotFound):
                info = CheckpointInfo(**json.loads(store.read(entry.key)))
                if _is_sound(info):
                    yield info


def _is_sound(info: CheckpointInfo) -> bool:
    """Whether its values are of the types that are written: a store may have been edited by hand."""
    texts = (info.run, info.key, info.sha256, info.version, info.content, info.sample)
    if not all(isinstance(text, str) for text in texts) or not isinstance(info.metrics, dict):
        return False
    score, identity = info.metrics.get("score", 0.0), info.identity
    return (
        all(isinstance(number, int) for number in (info.step, info.size))
        and isinstance(score, int | float | None)
        and isinstance(identity, dict)
        and isinstance(identity.get("model"), str)
        and all(isinstance(identity.get(name, {}), dict) for name in ("options", "training"))
    )


def best_of(found: Iterable[CheckpointInfo]) -> CheckpointInfo | None:
    """The checkpoint whose own weights had the greatest score, the first of equals; None if none was evaluated."""
    evaluated = [info for info in found if info.evaluated]
    return max(evaluated, key=lambda info: info.metrics.get("score", float("-inf")), default=None)


def runs(store: Store, corpus: str) -> list[str]:
    """The names of a corpus's runs, sorted."""
    return list(store.folders(layout.runs(corpus)))
