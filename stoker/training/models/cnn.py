"""Convolutional networks that tell classes of images apart: LeNet-5 and a pre-activation residual net."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own habit
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn

from stoker.storage.shards import records
from stoker.training.errors import CorruptSample, TrainingError
from stoker.training.loader.loader import Stream
from stoker.training.pictures.batch_memory import Slots
from stoker.training.pictures.crops import whole
from stoker.training.pictures.jpeg import Damaged
from stoker.training.pictures.pictures import FIELDS, picture
from stoker.training.reading.samples import Samples
from stoker.training.run.initialise import initialise
from stoker.training.run.model import Corpus, Facts, Outcome
from stoker.training.run.networks import Normalised, lenet5, resnet
from stoker.training.stream.stream import ShardStream

_CLASS = "cls"
Pixels = np.ndarray[Any, np.dtype[np.uint8]]
_MEASURED = 512  # samples that means are taken over


@dataclass(frozen=True)
class Cnn:
    """A classifier of images by the ``label`` of their records.

    ``lenet5``: LeCun et al., "Gradient-based learning applied to document recognition", Proc. IEEE 1998.
    ``resnet``: He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016: three stages of ``blocks`` blocks,
    ``width``, 2 and 4 times ``width`` channels. ``batch_norm``: Ioffe and Szegedy, ICML 2015. ``separable``: depthwise
    separable convolutions: Chollet, "Xception", CVPR 2017.

    Example::

        stoker train cnn digits --epochs 20 --set net=lenet5
    """

    net: Literal["lenet5", "resnet"] = "resnet"
    pixels: int = 32  # images become squares of this side
    colour: Literal["auto", "grey", "rgb"] = "auto"
    width: int = 16  # channels of the first stage of resnet
    blocks: int = 1  # of each stage of resnet; depth = 6 * blocks + 2
    residual: bool = True
    batch_norm: bool = True
    separable: bool = False
    activation: Literal["relu", "tanh", "gelu", "sigmoid", "silu"] = "relu"
    initialisation: Literal["he", "glorot", "orthogonal", "default"] = "he"
    shift: int = 2  # pixels that training images are moved by, at most, in each direction
    flip: bool = False  # mirror half of the training images: not for digits and letters

    defaults: ClassVar[dict[str, Any]] = {"epochs": 12, "batch_size": 64, "learning_rate": 0.004}

    def __post_init__(self) -> None:
        if not 8 <= self.pixels <= 1024 or not 1 <= self.width <= 1024 or not 1 <= self.blocks <= 2000:
            raise TrainingError(
                f"cnn: pixels {self.pixels}, width {self.width}, blocks {self.blocks}; expected pixels 8 to 1024, "
                "width 1 to 1024, blocks 1 to 2000"
            )
        if self.net == "lenet5" and self.pixels < 28:
            raise TrainingError(f"cnn: net lenet5 needs pixels = 28 or more, found {self.pixels}")
        if not 0 <= self.shift < self.pixels // 2:
            raise TrainingError(f"cnn: shift {self.shift}; expected 0 to {self.pixels // 2 - 1}")

    def learn(self, corpus: Corpus, split: str) -> Facts:
        """Classes from the indexes of all splits; channels, means and deviations from the first training images."""
        classes = _classes(corpus)
        stream = ShardStream(corpus.store, corpus.manifest, split, batch_size=_MEASURED, cache=corpus.cache)
        samples: Samples = stream.batch(0, 0)
        stream.close()
        looked_at = [payload for payload in samples.first(FIELDS)[:64] if payload is not None]
        grey = self.colour == "grey" or (self.colour == "auto" and all(map(_is_grey, looked_at)))
        images = self._images(samples, grey=grey).astype(np.float64) / 255
        deviation = np.maximum(images.std(axis=(0, 1, 2)), 1e-3)
        return {
            "classes": classes,
            "grey": grey,
            "mean": images.mean(axis=(0, 1, 2)).round(6).tolist(),
            "deviation": deviation.round(6).tolist(),
        }

    def feed(self, corpus: Corpus, split: str, facts: Facts, *, batch_size: int, seed: int, training: bool) -> Stream:
        """See Model. A batch: (B, H, W, C) uint8 images and (B,) int64 classes."""
        return ShardStream(
            corpus.store,
            corpus.manifest,
            split,
            batch_size=batch_size,
            seed=seed,
            shuffle=training,
            cache=corpus.cache,
            make=_Maker(self, facts, training),
        )

    def build(self, facts: Facts) -> nn.Module:
        """See Model."""
        channels, classes = (1 if facts["grey"] else 3), len(facts["classes"])
        network = lenet5(self, channels, classes) if self.net == "lenet5" else resnet(self, channels, classes)
        initialise(network, self.initialisation)
        return Normalised(network, facts["mean"], facts["deviation"])

    def outcome(self, module: nn.Module, batch: Any, carried: tuple[Tensor, ...], device: torch.device) -> Outcome:
        """See Model: cross-entropy in nats."""
        images, classes = batch[0].to(device, non_blocking=True), batch[1].to(device, non_blocking=True)
        return Outcome(F.cross_entropy(module(images), classes), int(classes.shape[0]))

    def evaluate(self, module: nn.Module, batches: Iterable[Any], facts: Facts, device: torch.device) -> dict[str, Any]:
        """``accuracy`` and ``loss`` over all samples, ``confusion[expected][found]`` and ``recall`` by class."""
        names = facts["classes"]
        confusion = torch.zeros(len(names), len(names), dtype=torch.int64)
        loss, samples = 0.0, 0
        for images, classes in batches:
            logits = module(images.to(device)).float().cpu()
            loss += float(F.cross_entropy(logits, classes, reduction="sum"))
            samples += int(classes.shape[0])
            confusion += torch.bincount(classes * len(names) + logits.argmax(1), minlength=len(names) ** 2).reshape(
                len(names), -1
            )
        accuracy = float(confusion.diagonal().sum()) / max(1, samples)
        recall = confusion.diagonal() / confusion.sum(1).clamp(min=1)
        return {
            "score": accuracy,
            "accuracy": accuracy,
            "loss": loss / max(1, samples),
            "samples": samples,
            "recall": dict(zip(names, [round(value, 4) for value in recall.tolist()], strict=True)),
            "confusion": confusion.tolist(),
        }

    def sample(self, module: nn.Module, facts: Facts, device: torch.device, seed: int) -> str:
        """See Model: none."""
        return ""

    def moved(self, pixels: Pixels, draws: bytes) -> Pixels:
        """The image, moved by up to ``shift`` pixels and mirrored as the draws say."""
        if self.flip and draws[2] & 1:
            pixels = pixels[:, ::-1]
        if self.shift:
            around = (self.shift, self.shift)
            padded = np.pad(pixels, (around, around, (0, 0)), mode="edge")
            down, along = draws[0] % (2 * self.shift + 1), draws[1] % (2 * self.shift + 1)
            pixels = padded[down : down + self.pixels, along : along + self.pixels]
        return pixels

    def _images(self, samples: Samples, *, grey: bool, out: Pixels | None = None) -> Pixels:
        """(B, H, W, C) uint8: whole images, squeezed into the square. Raises CorruptSample."""
        if out is None:
            out = np.empty((len(samples), self.pixels, self.pixels, 1 if grey else 3), np.uint8)
        for place, payload in enumerate(samples.first(FIELDS)):
            try:
                picture(payload, out[place], whole, b"")
            except Damaged as error:
                raise CorruptSample(
                    place, f"{samples.where(place)}: {error}; model cnn needs images: run `stoker verify`"
                ) from error
        return out


class _Maker:
    """Samples as (B, H, W, C) uint8 images and (B,) int64 classes; picklable, for worker processes."""

    def __init__(self, model: Cnn, facts: Facts, training: bool) -> None:
        self._model, self._grey, self._slots = model, bool(facts["grey"]), Slots()
        self._places = {name: place for place, name in enumerate(facts["classes"])}
        self._moves = training and bool(model.shift or model.flip)

    def __call__(self, samples: Samples, draws: Sequence[bytes]) -> tuple[Tensor, Tensor]:
        pixels = self._model.pixels
        out, images = self._slots.take((len(samples), pixels, pixels, 1 if self._grey else 3))
        self._model._images(samples, grey=self._grey, out=out)
        if self._moves:
            for place, drawn in enumerate(draws):
                out[place] = self._model.moved(out[place], drawn)
        return images, torch.tensor(self._classes(samples), dtype=torch.int64)

    def _classes(self, samples: Samples) -> list[int]:
        found = []
        for place, (record, cls) in enumerate(zip(samples.records(), samples.column(_CLASS), strict=True)):
            # Tars that others wrote may have their class in a field of its own.
            label = record.get("label", None if cls is None else bytes(cls).decode("utf-8", "replace").strip())
            if str(label) not in self._places:
                raise CorruptSample(place, f"{samples.where(place)}: label {label!r} is none of the index's classes")
            found.append(self._places[str(label)])
        return found

    def __getstate__(self) -> dict[str, Any]:  # Any: attributes
        return self.__dict__ | {"_slots": None}

    def __setstate__(self, state: dict[str, Any]) -> None:  # Any: attributes
        self.__dict__.update(state | {"_slots": Slots()})


def _classes(corpus: Corpus) -> list[str]:
    found: set[str] = set()
    for shard in corpus.manifest.shards:
        index = records.decode(corpus.store.read(shard.index), columns=["key", "label"])
        labels = index["label"].to_pylist() if "label" in index.column_names else [None] * index.num_rows
        if None in labels:
            raise TrainingError(
                f"{corpus.manifest.reference}: sample {index['key'][labels.index(None)].as_py()!r} has no label; a "
                "classifier needs one in every record (see the label options of the recipe's source)"
            )
        found.update(str(label) for label in labels)
    if len(found) < 2:
        raise TrainingError(f"{corpus.manifest.reference}: {len(found)} class; a classifier needs two or more")
    if len(found) > 100_000:
        raise TrainingError(f"{corpus.manifest.reference}: {len(found)} classes; is `label` a class?")
    return sorted(found)


def _is_grey(payload: memoryview) -> bool:
    try:
        image = Image.open(io.BytesIO(payload))
        if image.mode in ("1", "L"):
            return True
        red, green, blue = image.convert("RGB").resize((16, 16)).split()
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError):
        return True  # says nothing; it is told when it is decoded
    return red.tobytes() == green.tobytes() == blue.tobytes()
