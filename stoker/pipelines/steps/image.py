"""Decode, rotate upright, resize and re-encode images in one format."""

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
_MAX_SIDE = {"jpg": 65_500, "webp": 16_383}  # pixels: the longest side that the format allows
_OVERSAMPLING = 2  # a JPEG may be decoded at a reduced size, but at least at this multiple of the final size


@dataclass(frozen=True)
class Image(Step):
    """Decode the image, rotate it upright, resize it and encode it again: 8 bits, sRGB, no metadata.

    Transparent pixels are blended with white.

    Args:
        size: pixels, 1 to 16384: the size that ``mode`` refers to; default 0, only with mode "keep".
        mode: default "keep". "keep" does not resize; "short_side" makes the shorter side ``size`` pixels; "long_side"
            the longer one; "center_crop" cuts a square of that size from the middle; "pad" fits the image into a square
            of that size, with white around it.
        only_if_larger: default false: do not enlarge smaller images; "center_crop" may then give less than a square of
            ``size``.
        format: "jpg", "png" or "webp", default "jpg": the format of the result.
        quality: 1 to 100, default 90: of "jpg" and "webp".
        colour: "rgb" or "grey", default "rgb": the colour mode of the result.
        max_megapixels: up to 1000, default 64: larger images are rejected by their header.

    Example::

        [[steps]]
        name = "image"
        mode = "short_side"
        size = 256
        only_if_larger = true
        format = "jpg"
        quality = 90
    """

    size: Annotated[int, Field(ge=0, le=16384)] = 0
    mode: Mode = "keep"
    only_if_larger: bool = False
    format: Format = "jpg"
    quality: Annotated[int, Field(ge=1, le=100)] = 90
    colour: Colour = "rgb"
    max_megapixels: Annotated[float, Field(gt=0, le=1000)] = 64.0

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
            at_least=self.size * _OVERSAMPLING or None,
            max_pixels=round(self.max_megapixels * 1_000_000),
        )
        if isinstance(picture, Rejected):
            return picture
        width, height, box = self._frame(picture.width, picture.height)
        max_side = _MAX_SIDE.get(self.format, max(width, height))
        if max(width, height) > max_side or width * height > self.max_megapixels * 1_000_000:
            return Rejected("aspect_ratio", f"{picture.width}x{picture.height} would become {width}x{height}")
        if (width, height) != picture.size or box not in (None, (0, 0, width, height)):
            picture = picture.resize((width, height), Pillow.Resampling.LANCZOS, box)
        if self.mode == "pad":
            picture = self._padded(picture)
        other_fields = {extension: content for extension, content in sample.fields.items() if extension != field}
        return replace(sample, fields=other_fields | {self.format: encode(picture, self.format, quality=self.quality)})

    def _frame(self, width: int, height: int) -> tuple[int, int, tuple[int, int, int, int] | None]:
        """The new width and height, and the box (left, top, right, bottom) that is cut out first; None: the whole."""
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
