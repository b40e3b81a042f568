"""Runs of very deep networks on scikit-learn's digits, for the tests of this folder."""

from pathlib import Path
from typing import Any

from stoker.storage.stores.memory import MemoryStore
from stoker.training.studies.threads import one_thread
from tests.training import corpora
from tests.training.conftest import Small
from tests.training.run.small_runs import run

_TRAINED = 1347  # of 1,797 digits
_RUN = {"pixels": 8, "shift": 0, "epochs": 3, "optimiser": "nesterov", "weight_decay": 0, "checkpoint_s": 10_000}
_PLACE = {"threads": 1, "workers": 0, "device": "cpu"}


def accuracy(folder: Path, values: dict[str, Any]) -> float:
    """On digits that were not trained on."""
    store, digits = MemoryStore(), corpora.digits()
    splits = {"train": digits[:_TRAINED], "validation": digits[_TRAINED:]}
    small = Small(store, corpora.version(store, folder, splits, per_shard=500), folder)
    with one_thread():
        return float(run(small, "cnn", _RUN | _PLACE | values).metrics["accuracy"])
