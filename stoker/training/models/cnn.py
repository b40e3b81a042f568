"""Convolutional networks that tell classes of images apart: LeNet-5 and a pre-activation residual net."""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own habit
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn

from stoker.storage import records
from stoker.storage.sample import Sample
from stoker.training.errors import TrainingError
from stoker.training.initialise import initialise
from stoker.training.loader import Stream
from stoker.training.model import Corpus, Facts, Outcome
from stoker.training.networks import Normalised, lenet5, resnet
from stoker.training.stream import ShardStream

_FIELDS = ("jpg", "png", "webp", "gif", "bmp", "tif")
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
        samples: list[Sample] = stream.batch(0, 0)
        stream.close()
        grey = self.colour == "grey" or (self.colour == "auto" and all(_is_grey(sample) for sample in samples[:64]))
        images = np.stack([self.pixels_of(sample, grey=grey) for sample in samples]).astype(np.float64) / 255
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
            fields=_FIELDS,
            decode=_Decode(self, facts),
            augment=self.moved if training and (self.shift or self.flip) else None,
            collate=_collate,
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

    def moved(self, example: tuple[Pixels, int], draws: bytes) -> tuple[Pixels, int]:
        """The image, moved by up to ``shift`` pixels and mirrored as the draws say, and its class."""
        pixels, place = example
        if self.flip and draws[2] & 1:
            pixels = pixels[:, ::-1]
        if self.shift:
            around = (self.shift, self.shift)
            padded = np.pad(pixels, (around, around, (0, 0)), mode="edge")
            down, along = draws[0] % (2 * self.shift + 1), draws[1] % (2 * self.shift + 1)
            pixels = padded[down : down + self.pixels, along : along + self.pixels]
        return pixels, place

    def pixels_of(self, sample: Sample, *, grey: bool) -> Pixels:
        """(H, W, C) uint8: the whole image, squeezed into the square."""
        image = _decoded(sample).convert("L" if grey else "RGB")
        if image.size != (self.pixels, self.pixels):
            image = image.resize((self.pixels, self.pixels), Image.Resampling.BILINEAR)
        return np.asarray(image, np.uint8).reshape(self.pixels, self.pixels, -1)


@dataclass(frozen=True)
class _Decode:
    """A sample as (image, class); picklable, for workers."""

    model: Cnn
    facts: Facts

    def __call__(self, sample: Sample) -> tuple[Pixels, int]:
        return self.model.pixels_of(sample, grey=self.facts["grey"]), self._class(sample)

    def _class(self, sample: Sample) -> int:
        place: int = self.facts["classes"].index(str(sample.record["label"]))
        return place


def _collate(examples: list[Any]) -> tuple[Tensor, Tensor]:
    images = torch.from_numpy(np.ascontiguousarray(np.stack([image for image, _ in examples])))
    return images, torch.tensor([place for _, place in examples], dtype=torch.int64)


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


def _decoded(sample: Sample) -> Image.Image:
    payload = next((sample.fields[name] for name in _FIELDS if name in sample.fields), None)
    if payload is None:
        raise TrainingError(f"sample {sample.key}: no image field; model cnn needs a corpus of images or frames")
    try:
        image = Image.open(io.BytesIO(payload))
        image.load()
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise TrainingError(f"sample {sample.key}: its image does not decode ({error}); run `stoker verify`") from error
    return image


def _is_grey(sample: Sample) -> bool:
    image = _decoded(sample)
    if image.mode in ("1", "L"):
        return True
    red, green, blue = image.convert("RGB").resize((16, 16)).split()
    return red.tobytes() == green.tobytes() == blue.tobytes()
