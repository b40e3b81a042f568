"""A version as a stream of batches in a stated order."""

from typing import TYPE_CHECKING

from stoker.old_paths import moved_names

if not TYPE_CHECKING:  # they have no types under their old paths
    _MOVED = {
        "ShardStream": "stoker.training.stream.stream",
        "split_shards": "stoker.training.stream.stream",
        "version_of": "stoker.training.stream.stream",
    }
    __getattr__ = moved_names(__name__, _MOVED)
