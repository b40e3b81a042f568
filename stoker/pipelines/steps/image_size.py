"""Reject images that are too small or too large."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from stoker.pipelines.images.codec import field_of, header_of
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.step import Step
from stoker.storage.shards.sample import Sample

Pixels = Annotated[int, Field(ge=0, le=10**9)]


@dataclass(frozen=True)
class ImageSize(Step):
    """Reject images with a side that is too short (``too_small``) or too long (``too_many_pixels``).

    Only the header is read.

    Args:
        min_short_side: pixels, default 0: the least length of the shorter side; 0 is no limit.
        max_short_side: pixels, default 0: the greatest length of the shorter side; 0 is no limit.
        min_long_side: pixels, default 0: the least length of the longer side; 0 is no limit.
        max_long_side: pixels, default 0: the greatest length of the longer side; 0 is no limit.
        max_megapixels: up to 1000, default 64: the most pixels in all.

    Example::

        [[steps]]
        name = "image_size"
        min_short_side = 64
        max_long_side = 8192
        max_megapixels = 40
    """

    min_short_side: Pixels = 0
    max_short_side: Pixels = 0
    min_long_side: Pixels = 0
    max_long_side: Pixels = 0
    max_megapixels: Annotated[float, Field(gt=0, le=1000)] = 64.0

    def __post_init__(self) -> None:
        for name in ("short_side", "long_side"):
            least, most = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if most and least > most:
                raise ValueError(f"min_{name} = {least} is more than max_{name} = {most}: no image fits")

    def applies_to(self, sample: Sample, /) -> bool:
        """See Step: to images."""
        return field_of(sample) is not None

    def __call__(self, sample: Sample, /) -> Sample | Rejected:
        """See Step."""
        field = field_of(sample)
        if field is None:
            return sample
        header = header_of(sample.fields[field], max_pixels=round(self.max_megapixels * 1_000_000))
        if isinstance(header, Rejected):
            return header
        shorter, longer = sorted((header.width, header.height))
        if shorter < self.min_short_side or longer < self.min_long_side:
            return Rejected("too_small", f"{header.width}x{header.height}")
        if 0 < self.max_short_side < shorter or 0 < self.max_long_side < longer:
            return Rejected("too_many_pixels", f"{header.width}x{header.height}")
        return sample
