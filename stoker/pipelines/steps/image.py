"""Decode, rotate upright, resize and re-encode images in one format."""

from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

from PIL import Image as Pillow
from pydantic import Field

from stoker.pipelines.images.codec import Format, encode, field_of, frames_column
from stoker.pipelines.images.colour import Colour
from stoker.pipelines.images.containers.metadata import strip_jpeg, strip_metadata
from stoker.pipelines.images.decoded import DecodedImage, Decoding, Need, image_of
from stoker.pipelines.images.decoding import NeedsProcess, call_in_process, decode_here, is_decoder_process
from stoker.pipelines.images.formats import without_junk
from stoker.pipelines.images.jpeg import JpegData, check_jpeg
from stoker.pipelines.images.png import is_plain
from stoker.pipelines.images.process.budget import PIXEL, bytes_of_rendering, rendering_is_for_process
from stoker.pipelines.images.process.child import Buffer
from stoker.pipelines.images.resize import Box, resize
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.step import Step
from stoker.storage.shards.sample import Sample

Mode = Literal["keep", "short_side", "long_side", "center_crop", "pad"]
_MEMORY_TIMES = {"webp": 2}  # libwebp keeps all that it will write, some 25 bytes a pixel of noise
_MAX_SIDE = {"jpg": 65_500, "webp": 16_383}  # pixels: the longest side that the format allows


@dataclass(frozen=True)
class Image(Step):
    """Decode the image, rotate it upright, resize it and encode it again: 8 bits, sRGB, no metadata.

    Transparent pixels are blended with white. Damage is noticed as far as the format allows: strips and tiles of TIFF
    compressed with Deflate are compared with their checksums; those with Zstandard, LZW or PackBits have none, and a
    wrong bit in them may pass as other pixels.

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
        decoding: "fast" or "exact", default "fast": how images are resized. "fast" decodes large JPEGs at a fraction
            of their size where that can hardly be seen: at least 47 dB from an ideal Lanczos filter. "exact" decodes
            all pixels and filters with 16 bits: at least 57 dB, for about twice the work.
        reencode: "needed" or "always", default "needed": a JPEG or PNG that has the right format, size and colours and
            is upright keeps its compressed pixels, and loses its metadata only. "always" encodes every image.
        max_enlargement: at least 1, default 8: images that would have to be enlarged more than so many times are
            rejected as ``too_small``.
        max_megapixels: up to 1000, default 64: larger images are rejected by their header.
        animated: "first" or "reject", default "first": of an image with several frames or pages the first is taken, and
            ``frames`` in the record says how many they were; or it is rejected as ``animated``. Without this step such
            a file stays whole in its sample, with all its frames: the columns of the record (size, brightness, hash)
            are those of the first, rules compare the first, and ``frames`` says how many there are.

    Example::

        [[steps]]
        name = "image"
        mode = "short_side"
        size = 256
        only_if_larger = true
        format = "jpg"
        quality = 90
    """

    version: ClassVar[int] = 2
    added: ClassVar[frozenset[str]] = frozenset({"animated"})

    size: Annotated[int, Field(ge=0, le=16384)] = 0
    mode: Mode = "keep"
    only_if_larger: bool = False
    format: Format = "jpg"
    quality: Annotated[int, Field(ge=1, le=100)] = 90
    colour: Colour = "rgb"
    decoding: Decoding = "fast"
    reencode: Literal["needed", "always"] = "needed"
    max_enlargement: Annotated[float, Field(ge=1, le=10**6)] = 8.0
    max_megapixels: Annotated[float, Field(gt=0, le=1000)] = 64.0
    animated: Literal["first", "reject"] = "first"

    def __post_init__(self) -> None:
        if (self.mode == "keep") != (self.size == 0):
            what = "needs a size in pixels" if self.size == 0 else "takes no size; did you mean mode = 'short_side'?"
            raise ValueError(f"mode {self.mode!r} {what}")

    def applies_to(self, sample: Sample, /) -> bool:
        """See Step: to images."""
        return field_of(sample) is not None

    def __call__(self, sample: Sample, /) -> Sample | Rejected:
        """See Step."""
        field = field_of(sample)
        if field is None:
            return sample
        payload = sample.fields[field]
        try:
            rendered = self.render(payload)
        except NeedsProcess:
            rendered = None  # out of this clause first: it holds what was decoded
        if rendered is None:
            rendered = self._render_in_process(payload)
        if isinstance(rendered, Rejected):
            return rendered
        content, frames = rendered
        other_fields = {extension: content for extension, content in sample.fields.items() if extension != field}
        return replace(sample, fields=other_fields | {self.format: content}, measures=dict(sample.measures) | frames)

    def render(self, payload: bytes) -> tuple[bytes, dict[str, int]] | Rejected:
        """The new file and the column ``frames``, if any. Raises NeedsProcess if it takes too much in this one."""
        decoded = decode_here(
            payload,
            self.colour,
            need=Need(self.size or None, self.decoding, of_longer=self.mode in ("long_side", "pad"), encoded=True),
            max_pixels=round(self.max_megapixels * 1_000_000),
        )
        if isinstance(decoded, Rejected):
            return decoded
        frames = frames_column(payload, decoded.header.extension)
        if frames and self.animated == "reject":
            return Rejected("animated", f"{frames['frames']} frames or pages")
        width, height, box = self._frame(decoded.width, decoded.height)
        max_side = _MAX_SIDE.get(self.format, max(width, height))
        if max(width, height) > max_side or width * height > self.max_megapixels * 1_000_000:
            return Rejected("aspect_ratio", f"{decoded.width}x{decoded.height} would become {width}x{height}")
        if width > box[2] * self.max_enlargement or height > box[3] * self.max_enlargement:
            return Rejected("too_small", f"{decoded.width}x{decoded.height} would become {width}x{height}")
        is_whole = (0, 0, width, height) == box == (0, 0, decoded.width, decoded.height)
        content = self._kept_bytes(without_junk(payload), decoded) if is_whole else None
        if content is None:
            picture = self._resized(decoded, width, height, box)
            del decoded  # to encode takes memory, too
            content = encode(picture, self.format, quality=self.quality)
        return content, frames

    def _render_in_process(self, payload: bytes) -> tuple[bytes, dict[str, int]] | Rejected:
        """The same from a decoder process."""
        task = {"options": asdict(self), "memory_times": _MEMORY_TIMES.get(self.format, 1)}
        result = call_in_process("stoker.pipelines.steps.image:render_task", task, payload)
        if isinstance(result, Rejected):
            return result
        head, content = result
        return Rejected(*head["rejected"]) if "rejected" in head else (content.getvalue(), head["frames"])

    def _kept_bytes(self, payload: bytes, decoded: DecodedImage) -> bytes | None:
        """The image's own bytes without metadata, if nothing else of it has to change; else None."""
        is_square = self.mode != "pad" or decoded.width == decoded.height == self.size
        if self.reencode == "always" or not is_square or decoded.header.extension != self.format:
            return None
        if not decoded.is_as_stored or decoded.header.mode != ("RGB" if self.colour == "rgb" else "L"):
            return None
        if self.format == "webp" or (self.format == "png" and not is_plain(payload)):
            return None
        if self.format == "jpg":
            jpeg: JpegData | Rejected | None = decoded.jpeg
            if isinstance(jpeg, JpegData) and jpeg.coefficients:  # a smaller image may have fewer scans
                jpeg = check_jpeg(payload, max_pixels=decoded.width * decoded.height)
            # Few programs read lossless JPEG, which is not decoded strictly.
            return strip_jpeg(jpeg, profile=False) if isinstance(jpeg, JpegData) else None
        stripped = strip_metadata(payload, self.format, max_pixels=decoded.width * decoded.height, profile=False)
        return None if isinstance(stripped, Rejected) else stripped

    def _resized(self, decoded: DecodedImage, width: int, height: int, box: Box) -> Pillow.Image:
        """The box of the image at this size, upright, padded if so asked."""
        is_whole = box[2:] == (decoded.width, decoded.height) == (width, height)
        source = decoded.width * decoded.height // decoded.scale**2
        ratio = None if is_whole else (source / width / height) ** 0.5
        taken = source * PIXEL + bytes_of_rendering(source, ratio)
        if rendering_is_for_process(taken) and not is_decoder_process():
            raise NeedsProcess
        if is_whole and decoded.scale == 1:
            picture = decoded.image()
        else:
            size = (height, width) if decoded.is_turned else (width, height)
            pixels = resize(decoded.pixels(), size, decoded.stored_box(box), exact=self.decoding == "exact")
            picture = image_of(pixels)
            if decoded.transpose is not None:
                picture = picture.transpose(decoded.transpose)
        return self._padded(picture) if self.mode == "pad" else picture

    def _frame(self, width: int, height: int) -> tuple[int, int, Box]:
        """The new width and height, and the box (left, top, width, height) that is cut out first."""
        whole = (0, 0, width, height)
        if self.mode == "keep":
            return width, height, whole
        longer, shorter = max(width, height), min(width, height)
        if self.mode == "center_crop":
            side = shorter if not self.only_if_larger or shorter > self.size else self.size  # pixels of the original
            wide, high = min(side, width), min(side, height)
            left, top = (width - wide) // 2, (height - high) // 2
            scale = self.size / side
            return round(wide * scale), round(high * scale), (left, top, wide, high)
        scale = self.size / (shorter if self.mode == "short_side" else longer)
        if self.only_if_larger:
            scale = min(1.0, scale)
        return max(1, round(width * scale)), max(1, round(height * scale)), whole

    def _padded(self, picture: Pillow.Image) -> Pillow.Image:
        square = Pillow.new(picture.mode, (self.size, self.size), "white")
        square.paste(picture, ((self.size - picture.width) // 2, (self.size - picture.height) // 2))
        return square


def render_task(task: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], Buffer]:  # Any: JSON
    """In a decoder process: the rendered image, for step ``image``."""
    rendered = Image(**task["options"]).render(payload)
    if isinstance(rendered, Rejected):
        return {"rejected": [rendered.reason, rendered.detail]}, b""
    return {"frames": rendered[1]}, rendered[0]
