"""Measures of texts and their language."""

from typing import TYPE_CHECKING

from stoker.old_paths import moved_names

if not TYPE_CHECKING:  # they have no types under their old paths
    _MOVED = {
        "measures_of_text": "stoker.pipelines.text.measures",
        "minhash": "stoker.pipelines.text.measures",
        "shingles": "stoker.pipelines.text.measures",
    }
    __getattr__ = moved_names(__name__, _MOVED)
