"""Keep one of each set of near-duplicate images."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from stoker.pipelines.images.hamming import MAX_DISTANCE
from stoker.pipelines.rule import READ_BY_KEEP, Rule, RuleTools, drop_near_duplicates, in_order_of


@dataclass(frozen=True)
class NearDuplicateImages(Rule):
    """Drop an image that is nearly the same as an older image that is kept.

    Two images are near-duplicates if their perceptual hashes differ in at most ``distance`` bits. Copies that were
    re-encoded, resized, brightened or slightly marked are found; crops, rotated and mirrored copies are not. Among 3.8
    million pairs of different photographs the default distance, usual for PDQ, matched none; so did distances up to 57.
    The pairs that were found are kept with the version: `stoker curate` decides by them for any distance up to 31, or
    of a greater one up to 47 or 63, and an ingest looks for the pairs of new images alone.
    The reason is ``near_duplicate``, or ``label_conflict`` if the two have different labels.

    Args:
        distance: bits, default 31: the most in which two hashes of 256 bits may differ.
        min_quality: 0 to 100, default 50: images whose hash has a lower quality (flat, striped or tiny ones) are
            never dropped, because their hash says too little.
        keep: "oldest", "largest" (pixels) or "best_licence", default "oldest": which of several new images is kept.
            A sample that the version before holds stays whatever this says; equal ones go by a hash of their keys.

    Example::

        [[rules]]
        name = "near_duplicate_images"
        distance = 31
    """

    version: ClassVar[int] = 2  # 2: near-duplicates of another label have another reason

    columns: ClassVar[tuple[str, ...]] = ("image_hash", "image_hash_quality")
    added: ClassVar[frozenset[str]] = frozenset({"keep"})
    optional_columns: ClassVar[tuple[str, ...]] = ("label",)

    distance: Annotated[int, Field(ge=0, le=MAX_DISTANCE)] = 31
    min_quality: Annotated[int, Field(ge=0, le=100)] = 50

    keep: Literal["oldest", "largest", "best_licence"] = "oldest"

    def needed_columns(self) -> tuple[str, ...]:
        """See Rule."""
        return (*self.columns, *READ_BY_KEEP[self.keep])

    def decide(self, rows: pa.Table, tools: RuleTools) -> pa.Table:
        """See Rule."""
        rows = in_order_of(self.keep, rows)
        near = tools.near_duplicate_images(rows, distance=self.distance, min_quality=self.min_quality)
        return drop_near_duplicates(rows, near)
