"""Batches of images: JPEG regions, EXIF orientation, crops."""

from typing import TYPE_CHECKING

from stoker.old_paths import moved_names

if not TYPE_CHECKING:  # they have no types under their old paths
    _MOVED = {
        "PictureMaker": "stoker.training.pictures.pictures",
        "Pictures": "stoker.training.pictures.pictures",
    }
    __getattr__ = moved_names(__name__, _MOVED)
