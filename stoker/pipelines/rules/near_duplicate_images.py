"""Keep one of each set of near-duplicate images."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

import pyarrow as pa
from pydantic import Field

from stoker.pipelines.errors import RecipeError
from stoker.pipelines.images.hamming import BITS, MAX_DISTANCE, near_duplicates, parse_hashes
from stoker.pipelines.rule import Decision, Rule, differ, labels_of


@dataclass(frozen=True)
class NearDuplicateImages(Rule):
    """Drop an image that is nearly the same as an older image that is kept.

    Two images are near-duplicates if their perceptual hashes differ in at most ``distance`` bits. Copies that were
    re-encoded, resized, brightened or slightly marked are found; crops, rotated and mirrored copies are not. Among 3.8
    million pairs of different photographs the default distance, usual for PDQ, matched none; so did distances up to 57.
    The reason is ``near_duplicate``, or ``label_conflict`` if the two have different labels.

    Args:
        distance: bits, default 31: the most in which two hashes of 256 bits may differ.
        min_quality: 0 to 100, default 50: images whose hash has a lower quality (flat, striped or tiny ones) are
            never dropped, because their hash says too little.

    Example::

        [[rules]]
        name = "near_duplicate_images"
        distance = 31
    """

    version: ClassVar[int] = 2  # 2: near-duplicates of another label have another reason

    distance: Annotated[int, Field(ge=0, le=MAX_DISTANCE)] = 31
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
        keys, labels = records["key"].to_pylist(), labels_of(records)
        hashes = records["image_hash"].to_pylist()
        qualities = records["image_hash_quality"].to_pylist()
        rows = [
            row
            for row, (image_hash, quality) in enumerate(zip(hashes, qualities, strict=True))
            if image_hash is not None and quality is not None and quality >= self.min_quality
        ]
        try:
            words = parse_hashes([hashes[row] for row in rows])
        except (ValueError, TypeError) as error:
            raise RecipeError(f"rule 'near_duplicate_images': column 'image_hash' is not Stoker's: {error}") from error
        for duplicate in near_duplicates(words, self.distance):
            row, older = rows[duplicate.index], rows[duplicate.representative]
            reason = "label_conflict" if differ(labels[row], labels[older]) else "near_duplicate"
            yield Decision(keys[row], "drop", reason, witness=keys[older], similarity=1 - duplicate.distance / BITS)
