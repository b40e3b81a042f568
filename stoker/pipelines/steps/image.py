"""Images decoded, turned upright, resized and written again in one format."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from PIL import Image as Pillow
from pydantic import Field

from stoker.pipelines.images.codec import Format, decode, encode, field_of
from stoker.pipelines.images.colour import Colour
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.step import Step
from stoker.storage.shards.sample import Sample

Mode = Literal["keep", "short_side", "long_side", "center_crop", "pad"]
_LONGEST = {"jpg": 65_500, "webp": 16_383}  # pixels that the format can hold along a side
_SPARE = 2  # a JPEG may be decoded small, but to no less than so many times the size it is resized to


@dataclass(frozen=True)
class Image(Step):
    """Decode the image, turn it upright, resize it, write it anew: 8 bits, sRGB, transparency on white, no metadata.

    ``size`` in pixels is that of the shorter side (``short_side``), of the longer one (``long_side``), of a square
    cut from the middle (``center_crop``), or of a square that holds it all, with white around (``pad``).
    ``only_if_larger``: smaller ones are not enlarged, so that ``center_crop`` may give less than a square of ``size``.

    Example::

        [[steps]]
        name = "image"
        mode = "short_side"
        size = 256
        only_if_larger = true
        format = "jpg"
        quality = 90
    """

    size: Annotated[int, Field(ge=0, le=16384)] = 0  # pixels; 0 with mode "keep"
    mode: Mode = "keep"
    only_if_larger: bool = False
    format: Format = "jpg"
    quality: Annotated[int, Field(ge=1, le=100)] = 90  # of jpg and webp
    colour: Colour = "rgb"
    max_megapixels: Annotated[float, Field(gt=0, le=1000)] = 64.0  # larger ones are rejected by their header

    def __post_init__(self) -> None:
        if (self.mode == "keep") != (self.size == 0):
            what = "needs a size in pixels" if self.size == 0 else "takes no size; did you mean mode = 'short_side'?"
            raise ValueError(f"mode {self.mode!r} {what}")

    def __call__(self, sample: Sample, /) -> Sample | Rejected:
        """See Step."""
        field = field_of(sample)
        if field is None:
            return Rejected("not_an_image", "the sample has no image field")
        picture = decode(
            sample.fields[field],
            colour=self.colour,
            at_least=self.size * _SPARE or None,
            max_pixels=round(self.max_megapixels * 1_000_000),
        )
        if isinstance(picture, Rejected):
            return picture
        width, height, box = self._frame(picture.width, picture.height)
        longest = _LONGEST.get(self.format, max(width, height))
        if max(width, height) > longest or width * height > self.max_megapixels * 1_000_000:
            return Rejected("aspect_ratio", f"{picture.width}x{picture.height} would become {width}x{height}")
        if (width, height) != picture.size or box not in (None, (0, 0, width, height)):
            picture = picture.resize((width, height), Pillow.Resampling.LANCZOS, box)
        if self.mode == "pad":
            picture = self._padded(picture)
        others = {extension: content for extension, content in sample.fields.items() if extension != field}
        return replace(sample, fields=others | {self.format: encode(picture, self.format, quality=self.quality)})

    def _frame(self, width: int, height: int) -> tuple[int, int, tuple[int, int, int, int] | None]:
        """The size to give to a picture, and the part of it that is seen; None: all."""
        if self.mode == "keep":
            return width, height, None
        longer, shorter = max(width, height), min(width, height)
        if self.mode == "center_crop":
            side = shorter if not self.only_if_larger or shorter > self.size else self.size  # pixels of the original
            wide, high = min(side, width), min(side, height)
            left, top = (width - wide) // 2, (height - high) // 2
            scale = self.size / side
            return round(wide * scale), round(high * scale), (left, top, left + wide, top + high)
        scale = self.size / (shorter if self.mode == "short_side" else longer)
        if self.only_if_larger:
            scale = min(1.0, scale)
        return max(1, round(width * scale)), max(1, round(height * scale)), None

    def _padded(self, picture: Pillow.Image) -> Pillow.Image:
        square = Pillow.new(picture.mode, (self.size, self.size), "white")
        square.paste(picture, ((self.size - picture.width) // 2, (self.size - picture.height) // 2))
        return square
