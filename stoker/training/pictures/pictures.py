"""Batches of images: each decoded as far as its crop needs it, and resized straight into the batch's memory.

A batch is uint8 in (B, H, W, C); its normalisation and layout are the device's work.
"""

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from stoker.training.errors import CorruptSample, TrainingError
from stoker.training.pictures import crops, jpeg
from stoker.training.pictures.batch_memory import Slots
from stoker.training.pictures.crops import Box, Crop
from stoker.training.pictures.exif import orientation, seen, stored, upright
from stoker.training.pictures.jpeg import Damaged
from stoker.training.reading.samples import Samples

if TYPE_CHECKING:
    from types import ModuleType

Pixels = npt.NDArray[np.uint8]
FIELDS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")  # that hold images
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
MOST_PIXELS = 2**28  # of an image; Pillow's own limit is of the same size
_AREA_FROM = 1.5  # shrinking by more than this averages areas, or fine patterns would turn into coarse ones


class Pictures(NamedTuple):
    """A batch: (B, H, W, C) uint8 images, and (B,) int64 classes, empty where no label was asked for."""

    images: torch.Tensor
    classes: torch.Tensor


@dataclass(frozen=True)
class PictureMaker:
    """Makes batches of images of one size: ``ShardStream(..., make=PictureMaker(224))``.

    ``crop``: ``random`` (area in ``scale``, aspect ratio in ``ratio``; what it draws is a function of seed, epoch and
    key), ``center`` (the greatest square) or ``squeeze`` (all of it, its aspect ratio lost). ``flip``: half of the
    images are mirrored, in random crops only. ``label``: that value of the record is the class, through its place in
    ``classes``, or as it is where it is a whole number. A sample without an image, or whose image does not decode,
    is a CorruptSample.
    """

    size: int = 224  # pixels, of both sides
    crop: Literal["random", "center", "squeeze"] = "random"
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    grey: bool = False
    label: str | None = None
    classes: tuple[str, ...] = ()
    pinned: bool = False  # batches in pinned memory, for a GPU
    _slots: Slots = field(init=False, repr=False, compare=False)
    _places: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 8192:
            raise TrainingError(f"images of {self.size} px: expected 1 to 8192")
        if self.crop not in ("random", "center", "squeeze"):
            raise TrainingError(f"crop {self.crop!r}: expected random, center or squeeze")
        if not 0 < self.scale[0] <= self.scale[1] <= 1 or not 0 < self.ratio[0] <= self.ratio[1]:
            raise TrainingError(f"scale {self.scale}, ratio {self.ratio}: expected 0 < low <= high, and scale up to 1")
        self._set()

    def _set(self) -> None:
        object.__setattr__(self, "_slots", Slots(pinned=self.pinned))
        object.__setattr__(self, "_places", {name: place for place, name in enumerate(self.classes)})

    def __getstate__(self) -> dict[str, Any]:  # Any: the options
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:  # Any: the options
        for name, value in state.items():
            object.__setattr__(self, name, value)
        self._set()

    def __call__(self, samples: Samples, draws: Sequence[bytes]) -> Pictures:
        """The batch of these samples. Raises CorruptSample."""
        array, tensor = self._slots.take((len(samples), self.size, self.size, 1 if self.grey else 3))
        crop = self._crop
        for place, (payload, drawn) in enumerate(zip(samples.first(FIELDS), draws, strict=True)):
            try:
                mirror = self.flip and self.crop == "random" and crops.mirrored(drawn)
                picture(payload, array[place], crop, drawn, mirror=mirror)
            except Damaged as error:
                raise CorruptSample(place, f"{samples.where(place)}: {error}; run `stoker verify`") from error
        return Pictures(tensor, self._labels(samples))

    @property
    def _crop(self) -> Crop:
        if self.crop == "random":
            return partial(crops.random_crop, scale=self.scale, ratio=self.ratio)
        return crops.centre if self.crop == "center" else crops.whole

    def _labels(self, samples: Samples) -> torch.Tensor:
        if self.label is None:
            return torch.empty(0, dtype=torch.int64)
        found = np.empty(len(samples), np.int64)
        for place, record in enumerate(samples.records()):
            value = record.get(self.label)
            if self.classes:
                number = self._places.get(str(value))
            else:
                number = value if isinstance(value, int) else None
            if number is None:
                raise CorruptSample(
                    place, f"{samples.where(place)}: {self.label} is {value!r}, none of {len(self.classes)} classes"
                )
            found[place] = number
        return torch.from_numpy(found)


def picture(payload: bytes | memoryview | None, out: Pixels, crop: Crop, draws: bytes, *, mirror: bool = False) -> None:
    """Fill ``out`` (H, W, 3 or 1) with the crop of an image. What decodes it is chosen by its first bytes.

    A JPEG is turned upright as its EXIF says, before it is cropped. Raises Damaged.
    """
    if payload is None:
        raise Damaged("no image field")
    turned, pixels = 1, None
    if payload[:3] == jpeg.MAGIC:
        turned = orientation(payload)
        opened = jpeg.open_jpeg(payload)
        if opened is not None:
            box, scale = _wanted(opened.width, opened.height, turned, out, crop, draws)
            pixels = jpeg.decode(opened, box, scale=scale, grey=out.shape[2] == 1)
    if pixels is None:
        pixels = _by_pillow(payload, turned, out, crop, draws)
    if turned != 1:
        pixels = np.ascontiguousarray(upright(pixels, turned))
    _resize(pixels, out, mirror=mirror)


def _wanted(width: int, height: int, turned: int, out: Pixels, crop: Crop, draws: bytes) -> tuple[Box, int]:
    """The crop's box in what is stored, and the n of the scale 1/n to decode it at. Raises Damaged."""
    if width * height > MOST_PIXELS:
        raise Damaged(f"an image of {width} x {height} px; at most {MOST_PIXELS:,} px are read")
    if turned == 1:
        box, least = crop(width, height, draws), (out.shape[1], out.shape[0])
    else:
        shown = seen(width, height, turned)
        box, least = stored(crop(*shown, draws), *shown, turned), seen(out.shape[1], out.shape[0], turned)
    scale = jpeg.scale_for(box, least)
    return jpeg.snapped(box, scale), scale


def _resize(pixels: Pixels, out: Pixels, *, mirror: bool) -> None:
    cv2 = _opencv()
    height, width = out.shape[:2]
    if cv2 is None:
        made = np.asarray(_image(pixels).resize((width, height), Image.Resampling.BILINEAR))
        out[...] = (made[:, ::-1] if mirror else made).reshape(out.shape)
        return
    if pixels.shape == out.shape:
        out[...] = pixels[:, ::-1] if mirror else pixels
        return
    shrunk = max(pixels.shape[0] / height, pixels.shape[1] / width)
    how = cv2.INTER_AREA if shrunk > _AREA_FROM else cv2.INTER_LINEAR
    flat = out if out.shape[2] != 1 else out[:, :, 0]
    cv2.resize(pixels, (width, height), dst=flat, interpolation=how)
    if mirror:
        cv2.flip(flat, 1, dst=flat)


def _image(pixels: Pixels) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels))


def _by_pillow(payload: bytes | memoryview, turned: int, out: Pixels, crop: Crop, draws: bytes) -> Pixels:
    """The crop's pixels as they are stored. Raises Damaged."""
    mode = "L" if out.shape[2] == 1 else "RGB"
    with _readable():
        image: Image.Image = Image.open(io.BytesIO(payload), formats=_formats())
        width, height = image.size
    box, scale = _wanted(width, height, turned, out, crop, draws)
    with _readable():
        # Only JPEGs can be drafted, and these at the same scales; it says which it chose.
        drafted = image.draft(mode, (width // scale, height // scale)) if scale > 1 else None
        scale = round(width / drafted[1][2]) if drafted else 1
        left, top, across, down = (edge // scale for edge in jpeg.snapped(box, scale))
        image = _plain(image, mode).crop((left, top, left + across, top + down))
    return np.asarray(image).reshape(down, across, -1)


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    # What Pillow raises, besides its own, for bytes that were altered: found by fuzzing.
    except (
        OSError,
        ValueError,
        SyntaxError,
        RuntimeError,
        TypeError,
        EOFError,
        LookupError,
        ArithmeticError,
        struct.error,
        zlib.error,
        Image.DecompressionBombError,
    ) as error:
        raise Damaged(f"its image does not decode ({' '.join(str(error).split())[:120]})") from error


@cache
def _formats() -> tuple[str, ...]:
    """Those of images, of Pillow's many: none that starts another program (EPS) or is a document."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _plain(image: Image.Image, mode: str) -> Image.Image:
    """Eight bits, in one mode."""
    if image.mode.startswith("I;16"):  # Pillow would cut its values at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image if image.mode == mode else image.convert(mode)


@cache
def _opencv() -> "ModuleType | None":
    """OpenCV, its own threads off: batches are made in parallel already. None where it is not installed."""
    try:
        import cv2
    except ImportError:
        return None
    cv2.setNumThreads(1)
    module: ModuleType = cv2
    return module
