"""One image of each look."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

import pyarrow as pa
from pydantic import Field

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.images.hamming import BITS, MAX_DISTANCE, near_duplicates, parse_hashes
from stoker.pipelines.rule import Decision, Rule


@dataclass(frozen=True)
class NearDuplicateImages(Rule):
    """Drop an image that looks like an older one that is kept.

    Their perceptual hashes differ in at most ``distance`` of 256 bits; those of quality below ``min_quality`` (flat,
    striped, tiny pictures) say too little, and are left alone. The default, usual for PDQ, sees through re-encoding,
    resizing, light and small marks; among 3.8 million pairs of different photographs it took none for the same, and
    57 was the largest distance that did so. Crops, turned and mirrored copies are not found.

    Example::

        [[rules]]
        name = "near_duplicate_images"
        distance = 31
    """

    distance: Annotated[int, Field(ge=0, le=MAX_DISTANCE)] = 31  # bits
    min_quality: Annotated[int, Field(ge=0, le=100)] = 50

    def decide(self, records: pa.Table, split_of: Callable[[str], str]) -> Iterator[Decision]:
        """See Rule."""
        if not records.num_rows:
            return
        for column in ("image_hash", "image_hash_quality"):
            if column not in records.column_names:
                raise RecipeError(
                    f"rule 'near_duplicate_images': the records have no column {column!r}, which is measured of every "
                    "image; this corpus has none: leave the rule out, or name image fields jpg, png or webp"
                )
        keys = records["key"].to_pylist()
        hashes = records["image_hash"].to_pylist()
        qualities = records["image_hash_quality"].to_pylist()
        fit = [
            place
            for place, (one, quality) in enumerate(zip(hashes, qualities, strict=True))
            if one is not None and quality is not None and quality >= self.min_quality
        ]
        try:
            words = parse_hashes([hashes[place] for place in fit])
        except (ValueError, TypeError) as error:
            raise RecipeError(f"rule 'near_duplicate_images': column 'image_hash' is not Stoker's: {error}") from error
        for found in near_duplicates(words, self.distance):
            key, witness = keys[fit[found.index]], keys[fit[found.representative]]
            yield Decision(key, "drop", "near_duplicate", witness=witness, similarity=1 - found.distance / BITS)
