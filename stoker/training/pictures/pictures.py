"""Batches of images: each image is decoded only as far as its crop needs it, and resized into the batch's memory.

A batch is uint8 in (B, H, W, C); normalisation and layout are left to the device.
"""

import io
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image

from stoker.training.errors import CorruptSample, TrainingError
from stoker.training.pictures import crops, jpeg, png
from stoker.training.pictures.batch_memory import BatchMemory
from stoker.training.pictures.crops import Box, Crop
from stoker.training.pictures.exif import oriented_size, read_orientation, to_stored_box, to_upright
from stoker.training.pictures.jpeg import DamagedImage, Pixels
from stoker.training.reading.samples import Samples

if TYPE_CHECKING:
    from types import ModuleType

IMAGE_FIELDS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")
_OBJECT = re.compile(r"<[\w.]+ object at 0x[0-9a-fA-F]+>")
_CLASS_FIELD = "cls"  # where WebDataset tars written by others may have the class
_MAX_CLASS_SIZE = 1000  # bytes of it that are read
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
MAX_PIXELS = 2**28  # of an image; Pillow's own limit is of the same size
_AREA_FILTER_FROM = 1.5  # shrinking by more than this averages areas; otherwise fine patterns alias into coarse ones


class Pictures(NamedTuple):
    """A batch of images and their classes.

    >>> from stoker.testing import sample_corpus
    >>> from stoker.training import PictureMaker, Pictures, ShardStream
    >>> make = PictureMaker(8, label="label", classes=("0", "1", "2", "3"))
    >>> stream = ShardStream(*sample_corpus(12, kind="images"), batch_size=4, shuffle=False, make=make)
    >>> batch = next(iter(stream))
    >>> isinstance(batch, Pictures), batch.images.shape, batch.classes
    (True, torch.Size([4, 8, 8, 3]), tensor([0, 1, 2, 3]))
    >>> stream.close()

    Args:
        images: (B, H, W, C) uint8.
        classes: (B,) int64; empty if no label was asked for.
    """

    images: torch.Tensor
    classes: torch.Tensor


@dataclass(frozen=True)
class PictureMaker:
    """Makes batches of images of one size from samples: ``ShardStream(..., make=PictureMaker(224))``.

    A sample without an image, or whose image cannot be decoded, is a CorruptSample.

    >>> from stoker.testing import sample_corpus
    >>> from stoker.training import PictureMaker, ShardStream
    >>> make = PictureMaker(4, crop="center", grey=True)
    >>> stream = ShardStream(*sample_corpus(12, kind="images"), batch_size=6, make=make)
    >>> [batch.images.shape for batch in stream]
    [torch.Size([6, 4, 4, 1]), torch.Size([6, 4, 4, 1])]
    >>> stream.close()

    Args:
        size: pixels of both sides.
        crop: ``random`` (drawn from seed, epoch and key), ``center`` (the largest square), ``squeeze`` (the whole
            image, its aspect ratio lost).
        scale: share of the image's area that a random crop has: least and greatest.
        ratio: width to height of a random crop: least and greatest.
        flip: mirror half of the images, in random crops only.
        grey: one channel, not three.
        label: name of the record's value that is the class, or of the file in external tars that holds it; "label" is
            the file ``cls`` there. None: no classes.
        classes: names of the classes; a class is the label's index among them. Empty: the label is a whole number and
            is the class itself.
        pinned: batches in pinned memory, for a GPU.
    """

    size: int = 224
    crop: Literal["random", "center", "squeeze"] = "random"
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    grey: bool = False
    label: str | None = None
    classes: tuple[str, ...] = ()
    pinned: bool = False
    _memory: BatchMemory = field(init=False, repr=False, compare=False)
    _class_indices: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 8192:
            raise TrainingError(f"images of {self.size} px: expected 1 to 8192")
        if self.crop not in ("random", "center", "squeeze"):
            raise TrainingError(f"crop {self.crop!r}: expected random, center or squeeze")
        if not 0 < self.scale[0] <= self.scale[1] <= 1 or not 0 < self.ratio[0] <= self.ratio[1]:
            raise TrainingError(f"scale {self.scale}, ratio {self.ratio}: expected 0 < low <= high, and scale up to 1")
        self._prepare()

    def _prepare(self) -> None:
        """Set what is derived from the options, and not pickled."""
        object.__setattr__(self, "_memory", BatchMemory(pinned=self.pinned))
        object.__setattr__(self, "_class_indices", {name: index for index, name in enumerate(self.classes)})

    def __getstate__(self) -> dict[str, Any]:  # Any: the options
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:  # Any: the options
        for name, value in state.items():
            object.__setattr__(self, name, value)
        self._prepare()

    def __call__(self, samples: Samples, draws: Sequence[bytes]) -> Pictures:
        """The batch of these samples. Raises CorruptSample."""
        array, tensor = self._memory.take((len(samples), self.size, self.size, 1 if self.grey else 3))
        crop = self._crop
        for index, (payload, drawn) in enumerate(zip(samples.first(IMAGE_FIELDS), draws, strict=True)):
            if payload is None:
                raise CorruptSample(index, samples.lacks(index, "image field"), "no image")
            try:
                mirror = self.flip and self.crop == "random" and crops.is_mirrored(drawn)
                decode_crop(payload, array[index], crop, drawn, mirror=mirror)
            except DamagedImage as error:
                raise undecodable(samples, index, error, '; on_corrupt="skip" leaves such samples out') from error
        return Pictures(tensor, self._labels(samples))

    @property
    def _crop(self) -> Crop:
        if self.crop == "random":
            return partial(crops.random_crop, scale=self.scale, ratio=self.ratio)
        return crops.centre_crop if self.crop == "center" else crops.whole_image

    def _labels(self, samples: Samples) -> torch.Tensor:
        if self.label is None:
            return torch.empty(0, dtype=torch.int64)
        classes = np.empty(len(samples), np.int64)
        members = samples.column(_CLASS_FIELD if self.label == "label" else self.label)
        for index, (record, member) in enumerate(zip(samples.records(), members, strict=True)):
            value = record.get(self.label)
            if value is None and member is not None:  # external tars have it as a file
                value = bytes(member[:_MAX_CLASS_SIZE]).decode("utf-8", "replace").strip()
            number = self._class_indices.get(str(value)) if self.classes else _whole_number(value)
            if number is None:
                expected = (
                    f"none of {len(self.classes)} classes" if self.classes else "no whole number; name classes=..."
                )
                raise CorruptSample(index, f"{samples.where(index)}: {self.label} is {value!r}, {expected}")
            classes[index] = number
        return torch.from_numpy(classes)


def undecodable(samples: Samples, index: int, error: DamagedImage, remedy: str = "") -> CorruptSample:
    """The error for an image of a batch. Its bytes are as they were published: `stoker verify` would find no damage."""
    return CorruptSample(index, f"{samples.where(index)}: {error}{remedy}", "an image that does not decode")


def _whole_number(value: object) -> int | None:
    """A class as records and files have it: 7 or "7"."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    return value if isinstance(value, int) else None


def decode_crop(
    payload: bytes | memoryview | None, out: Pixels, crop: Crop, draws: bytes, *, mirror: bool = False
) -> None:
    """Fill ``out`` (H, W, 3 or 1) with the crop of an encoded image; its format is told by its first bytes.

    The crop is of the upright image: a JPEG is turned as its EXIF orientation says. Raises DamagedImage.
    """
    if payload is None:
        raise DamagedImage("no image field")
    orientation, pixels = 1, None
    if payload[:3] == jpeg.MAGIC:
        jpeg.check_scans(payload)
        orientation = read_orientation(payload)
        opened = jpeg.open_jpeg(payload)
        if opened is not None:
            box, scale = _region(opened.width, opened.height, orientation, out, crop, draws)
            pixels = jpeg.decode(opened, box, scale=scale, grey=out.shape[2] == 1)
    else:
        pixels = _decode_png(payload, out, crop, draws)
    if pixels is None:
        pixels = _decode_by_pillow(payload, orientation, out, crop, draws)
    if orientation != 1:
        pixels = np.ascontiguousarray(to_upright(pixels, orientation))
    resize(pixels, out, mirror=mirror)


def _decode_png(payload: bytes | memoryview, out: Pixels, crop: Crop, draws: bytes) -> Pixels | None:
    """The crop's pixels of a PNG that OpenCV decodes as Pillow does; None for all other images. Raises DamagedImage."""
    size, cv2 = png.size_of(payload, out.shape[2]), _opencv()
    if size is None or cv2 is None:
        return None
    box, _ = _region(*size, 1, out, crop, draws)
    return png.decode(cv2, payload, size, jpeg.snap_box(box, 1), out.shape[2])


def _region(width: int, height: int, orientation: int, out: Pixels, crop: Crop, draws: bytes) -> tuple[Box, int]:
    """The crop's box in the stored image, and the n of the scale 1/n to decode it at. Raises DamagedImage."""
    if width * height > MAX_PIXELS:
        raise DamagedImage(f"an image of {width} x {height} px; at most {MAX_PIXELS:,} px are read")
    if orientation == 1:
        box, min_size = crop(width, height, draws), (out.shape[1], out.shape[0])
    else:
        upright_size = oriented_size(width, height, orientation)
        box = to_stored_box(crop(*upright_size, draws), *upright_size, orientation)
        min_size = oriented_size(out.shape[1], out.shape[0], orientation)
    scale = jpeg.scale_for(box, min_size)
    return jpeg.snap_box(box, scale), scale


def resize(pixels: Pixels, out: Pixels, *, mirror: bool) -> None:
    """Fill ``out`` with the pixels, resized and perhaps mirrored."""
    cv2 = _opencv()
    height, width = out.shape[:2]
    if cv2 is None:
        resized = np.asarray(_pillow_image(pixels).resize((width, height), Image.Resampling.BILINEAR))
        out[...] = (resized[:, ::-1] if mirror else resized).reshape(out.shape)
        return
    if pixels.shape == out.shape:
        out[...] = pixels[:, ::-1] if mirror else pixels
        return
    shrinking = max(pixels.shape[0] / height, pixels.shape[1] / width)
    interpolation = cv2.INTER_AREA if shrinking > _AREA_FILTER_FROM else cv2.INTER_LINEAR
    target = out if out.shape[2] != 1 else out[:, :, 0]
    cv2.resize(pixels, (width, height), dst=target, interpolation=interpolation)
    if mirror:
        cv2.flip(target, 1, dst=target)


def _pillow_image(pixels: Pixels) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels))


def _decode_by_pillow(payload: bytes | memoryview, orientation: int, out: Pixels, crop: Crop, draws: bytes) -> Pixels:
    """The crop's pixels, oriented as stored. Raises DamagedImage."""
    mode = "L" if out.shape[2] == 1 else "RGB"
    with _pillow_errors():
        image: Image.Image = Image.open(io.BytesIO(payload), formats=_enabled_formats())
        width, height = image.size
    box, scale = _region(width, height, orientation, out, crop, draws)
    with _pillow_errors():
        # draft() has an effect on JPEGs alone, which it decodes at the same scales; it returns the one that it chose.
        drafted = image.draft(mode, (width // scale, height // scale)) if scale > 1 else None
        scale = round(width / drafted[1][2]) if drafted else 1
        left, top, across, down = (edge // scale for edge in jpeg.snap_box(box, scale))
        image = _to_eight_bits(image, mode).crop((left, top, left + across, top + down))
    return np.asarray(image).reshape(down, across, -1)


@contextmanager
def _pillow_errors() -> Iterator[None]:
    """Convert what Pillow raises to DamagedImage."""
    try:
        yield
    # Besides its own exceptions Pillow raises these for altered files: found by fuzzing.
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
        # Pillow names what it was given to read: the address of an object, which says nothing.
        reason = " ".join(_OBJECT.sub("", str(error)).split())[:120] or type(error).__name__
        raise DamagedImage(f"its image does not decode ({reason})") from error


@cache
def _enabled_formats() -> tuple[str, ...]:
    """The formats that Pillow may open: none that is a document, or that starts another program (EPS)."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _to_eight_bits(image: Image.Image, mode: str) -> Image.Image:
    """The image in a mode of eight bits a channel."""
    if image.mode.startswith("I;16"):  # Pillow would clip the values at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image if image.mode == mode else image.convert(mode)


@cache
def _opencv() -> "ModuleType | None":
    """OpenCV with its own threads off, since batches are made in parallel; None if it is not installed."""
    try:
        import cv2
    except ImportError:
        return None
    cv2.setNumThreads(1)
    module: ModuleType = cv2
    return module
