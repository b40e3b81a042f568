"""Batches made ahead of the training loop, and how fast they come."""

from typing import TYPE_CHECKING

from stoker.old_paths import moved_names

if not TYPE_CHECKING:  # they have no types under their old paths
    _MOVED = {
        "Batches": "stoker.training.loader.loader",
        "Loader": "stoker.training.loader.loader",
        "Stream": "stoker.training.loader.loader",
    }
    __getattr__ = moved_names(__name__, _MOVED)
