"""Reject images that are too long and narrow."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from stoker.pipelines.images.codec import field_of, header_of
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.step import Step
from stoker.storage.shards.sample import Sample


@dataclass(frozen=True)
class AspectRatio(Step):
    """Reject images whose longer side is more than ``maximum`` times the shorter one. Only the header is read.

    Args:
        maximum: 1 to 1000, default 3: the largest ratio of the longer to the shorter side.

    Example::

        [[steps]]
        name = "aspect_ratio"
        maximum = 2.5
    """

    maximum: Annotated[float, Field(ge=1, le=1000)] = 3.0

    def applies_to(self, sample: Sample, /) -> bool:
        """See Step: to images."""
        return field_of(sample) is not None

    def __call__(self, sample: Sample, /) -> Sample | Rejected:
        """See Step."""
        field = field_of(sample)
        if field is None:
            return sample
        header = header_of(sample.fields[field])
        if isinstance(header, Rejected):
            return header
        shorter, longer = sorted((header.width, header.height))
        return (
            sample if longer <= self.maximum * shorter else Rejected("aspect_ratio", f"{header.width}x{header.height}")
        )
