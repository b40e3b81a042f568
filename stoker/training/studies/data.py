"""The samples of a study in memory: read and decoded once, and mapped from files by the processes that measure.

A corpus that is larger than the limits is sampled: the first samples of the stream's shuffled order.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stoker.training.errors import TrainingError
from stoker.training.loader.loader import Loader
from stoker.training.models.cnn import Cnn
from stoker.training.models.lstm import Lstm
from stoker.training.run.model import Corpus, Model, Schema
from stoker.training.stream.tokens import BOUNDARY

PIXELS = 32  # side of the images that are kept; rows may ask for half or a quarter of it
_BATCH = 250
_WINDOW = 1024  # tokens
_MAX_PIXELS = 200_000_000  # bytes of images of one split

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Limits:
    """How many samples of each split are kept, or bytes of text."""

    train: int
    test: int


@dataclass(frozen=True, eq=False)
class Images:
    """Images of two splits, (N, PIXELS, PIXELS, C) uint8, and their classes."""

    train: Bytes
    train_classes: Numbers
    test: Bytes
    test_classes: Numbers
    schema: Schema  # of model cnn

    @property
    def chance(self) -> float:
        """Accuracy of whoever always says the most frequent class."""
        return float(np.bincount(self.test_classes).max() / len(self.test_classes))

    @lru_cache(maxsize=4)  # noqa: B019  # one for the life of a process
    def resized(self, pixels: int) -> "Images":
        """The same images with another side: the mean of squares of pixels."""
        if pixels == PIXELS:
            return self
        train, test = (_pooled(images, PIXELS // pixels) for images in (self.train, self.test))
        sample = train[:2000].astype(np.float64) / 255
        deviation = np.maximum(sample.std(axis=(0, 1, 2)), 1e-3)
        measured = {"mean": sample.mean(axis=(0, 1, 2)).tolist(), "deviation": deviation.tolist()}
        return Images(train, self.train_classes, test, self.test_classes, {**self.schema, **measured})


@dataclass(frozen=True)
class Texts:
    """Tokens of two splits: bytes, and a boundary before each document."""

    train: Numbers
    test: Numbers
    schema: Schema  # of model lstm


def gather_images(corpus: Corpus, split: str, eval_split: str, limits: Limits, folder: Path) -> dict[str, Any]:
    """Decode the images of both splits into files of a folder; what ``open_images`` needs to know, as JSON values.

    Raises TrainingError where the corpus has no images with two classes or more; StorageError.
    """
    model = Cnn(pixels=PIXELS, shift=0)
    schema = model.prepare(corpus, split)
    size = PIXELS * PIXELS * (1 if schema["grey"] else 3)
    for name, chosen, most in (("train", split, limits.train), ("test", eval_split, limits.test)):
        images, classes = _gathered(model, corpus, chosen, schema, min(most, _MAX_PIXELS // size))
        np.save(folder / f"{name}.npy", images)
        np.save(folder / f"{name}_classes.npy", classes)
    return {"kind": "images", "schema": dict(schema)}


def _gathered(model: Cnn, corpus: Corpus, split: str, schema: Schema, most: int) -> tuple[Bytes, Numbers]:
    images, classes, count = [], [], 0
    for batch in _batches(model, corpus, split, schema, batch_size=_BATCH):
        images.append(batch[0].numpy().copy())  # its memory is used again
        classes.append(batch[1].numpy())
        count += len(batch[1])
        if count >= most:
            break
    if not count:
        raise TrainingError(f"{corpus.manifest.reference}: no image of split {split!r} decodes")
    return np.concatenate(images)[:most], np.concatenate(classes)[:most]


def gather_texts(corpus: Corpus, split: str, eval_split: str, limits: Limits, folder: Path) -> dict[str, Any]:
    """Read the texts of both splits into files of a folder; what ``open_texts`` needs to know, as JSON values.

    Raises TrainingError where the corpus has no texts; StorageError.
    """
    model = Lstm(window=_WINDOW)
    schema = model.prepare(corpus, split)
    for name, chosen, most in (("train", split, limits.train), ("test", eval_split, limits.test)):
        parts, count = [], 0
        for tokens, _ in _batches(model, corpus, chosen, schema, batch_size=1):
            parts.append(tokens.numpy()[0].astype(np.int16))
            count += _WINDOW
            if count >= most:
                break
        if count < 2 * _WINDOW:
            raise TrainingError(f"{corpus.manifest.reference}: split {chosen!r} has fewer than {2 * _WINDOW} bytes")
        np.save(folder / f"{name}.npy", np.concatenate(parts)[:most])
    return {"kind": "texts", "schema": {"vocabulary": schema["vocabulary"]}}


def _batches(model: Model, corpus: Corpus, split: str, schema: Schema, *, batch_size: int) -> Any:  # Any: its own
    stream = model.data(corpus, split, schema, batch_size=batch_size, seed=0, training=True)
    loader = Loader(stream, workers=1)
    try:
        yield from loader
    finally:
        loader.close()
        stream.close()


def open_data(folder: Path) -> Images | Texts:
    """What was gathered in a folder, mapped."""
    about = json.loads((folder / "about.json").read_bytes())

    def mapped(name: str) -> Any:  # Any: an array of the type that was saved
        return np.load(folder / f"{name}.npy", mmap_mode="r")

    if about["kind"] == "texts":
        return Texts(mapped("train"), mapped("test"), about["schema"])
    train, train_classes, test, test_classes = map(mapped, ("train", "train_classes", "test", "test_classes"))
    return Images(train, train_classes, test, test_classes, about["schema"])


def describe(folder: Path, about: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON values
    """How much there is, for people."""
    data = open_data(folder)
    found: dict[str, Any] = {"kind": about["kind"], "train": len(data.train), "test": len(data.test)}
    if isinstance(data, Images):
        found |= {"classes": len(data.schema["classes"]), "colour": not data.schema["grey"], "pixels": PIXELS}
        found["chance"] = data.chance
    else:
        found["characters"] = characters(data.test)
    return found


def characters(tokens: Numbers) -> int:
    """How many characters of UTF-8 begin in these tokens."""
    return int(((tokens < BOUNDARY) & (tokens & 0xC0 != 0x80)).sum())


def _pooled(images: Bytes, factor: int) -> Bytes:
    count, side, _, channels = images.shape
    out = np.empty((count, side // factor, side // factor, channels), np.uint8)
    for start in range(0, count, 4096):
        some = images[start : start + 4096]
        blocks = some.reshape(len(some), side // factor, factor, side // factor, factor, channels)
        out[start : start + 4096] = blocks.mean((2, 4)).round()
    return out
