"""Networks and their parts, each with its source: layers, initial weights, pretraining."""

from typing import TYPE_CHECKING

from stoker.old_paths import moved_names

if not TYPE_CHECKING:  # they have no types under their old paths
    _MOVED = {
        "NetworkOptions": "stoker.training.networks.options",
        "Normalised": "stoker.training.networks.classifiers",
        "lenet5": "stoker.training.networks.lenet",
        "resnet": "stoker.training.networks.resnet",
    }
    __getattr__ = moved_names(__name__, _MOVED)
