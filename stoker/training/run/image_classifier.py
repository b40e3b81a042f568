"""A classifier of images by the labels of their records, whatever its network: data, loss, evaluation."""

import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own habit
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn

from stoker.storage.plural import plural
from stoker.training.errors import CorruptSample, TrainingError
from stoker.training.loader.loader import Stream
from stoker.training.pictures.augmentation import CropName, crop_of
from stoker.training.pictures.batch_memory import BatchMemory
from stoker.training.pictures.crops import is_mirrored
from stoker.training.pictures.jpeg import DamagedImage, Pixels
from stoker.training.pictures.mixed import MixedPictures
from stoker.training.pictures.pictures import IMAGE_FIELDS, decode_crop, undecodable
from stoker.training.reading.samples import Samples
from stoker.training.results.classification import Classification, Source
from stoker.training.run.distributed import rank_and_world
from stoker.training.run.model import Corpus, Schema, StepOutput, Traceable
from stoker.training.stream.stream import ShardStream, split_shards
from stoker.training.stream.subset import Needs, Survey, describe_left_out, survey, usable

_NEEDS = Needs(IMAGE_FIELDS, "image", label=True)
_CLASS_FIELD = "cls"  # where WebDataset tars written by others may have the class
_MEASURED_SAMPLES = 512  # for means and deviations
_COLOUR_SAMPLES = 64  # that are looked at for colour
_MAX_CLASSES = 100_000
_SHOWN_CLASSES = 8  # in a message


class ImageClassifier(ABC):
    """A Model of images with a ``label`` but for its network: a subclass has the options, and ``build``.

    The network takes (B, H, W, C) uint8 images, squares of ``pixels``, and returns (B, classes) logits.
    """

    takes_device_batches: ClassVar[bool] = True

    @property
    @abstractmethod
    def pixels(self) -> int:
        """Images become squares of this side."""

    @property
    @abstractmethod
    def colour(self) -> str:
        """Channels: auto, grey or rgb."""

    @property
    def crop(self) -> CropName:
        """How an image becomes a square; of ``random``, evaluations and predictions see the middle."""
        return "squeeze"

    @property
    def crop_area(self) -> float:
        """The least share of an image's area that a random crop has."""
        return 0.08

    @property
    def mixup(self) -> float:
        """a of the shares Beta(a, a) by which training images are blended; 0: they are not."""
        return 0.0

    @property
    def cutmix(self) -> float:
        """a of the shares Beta(a, a) of training images that keep their place from a box of another; 0: all do."""
        return 0.0

    @property
    @abstractmethod
    def shift(self) -> int:
        """Pixels that training images are moved by, at most; not in random crops."""

    @property
    @abstractmethod
    def flip(self) -> bool:
        """Whether half of the training images are mirrored."""

    @property
    @abstractmethod
    def label_smoothing(self) -> float:
        """Share of a label that is spread over all classes."""

    @abstractmethod
    def build(self, schema: Schema) -> nn.Module:
        """See Model."""

    def prepare(self, corpus: Corpus, split: str) -> Schema:
        """See Model: classes from the indexes of all splits; channels, means and deviations from the first images.

        Samples without an image or a label are left out.
        """
        found = survey(corpus.store, corpus.manifest, _NEEDS, cache=corpus.cache)
        classes = _classes_of(corpus, split, found)
        manifest = usable(corpus.store, corpus.manifest, split, _NEEDS, left_out=found.left_out, cache=corpus.cache)
        stream = ShardStream(corpus.store, manifest, split, batch_size=_MEASURED_SAMPLES, cache=corpus.cache)
        samples: Samples | None = next((batch for batch in stream if len(batch)), None)
        stream.close()
        if samples is None:
            raise TrainingError(f"{manifest.reference}: every image of split {split!r} was taken out of the corpus")
        payloads = [payload for payload in samples.first(IMAGE_FIELDS)[:_COLOUR_SAMPLES] if payload is not None]
        grey = self.colour == "grey" or (self.colour == "auto" and all(map(_is_grey, payloads)))
        images = self._measured(samples, grey=grey).astype(np.float64) / 255
        deviation = np.maximum(images.std(axis=(0, 1, 2)), 1e-3)
        return {
            "classes": classes,
            "grey": grey,
            "mean": images.mean(axis=(0, 1, 2)).round(6).tolist(),
            "deviation": deviation.round(6).tolist(),
            **({"left_out": found.left_out} if found.left_out else {}),
        }

    def adapt(self, schema: Schema, corpus: Corpus, split: str) -> Schema:
        """See Model: samples of classes that the model does not know are left out; ``unknown`` counts them by class."""
        needs = replace(_NEEDS, labels=frozenset(schema["classes"]))
        manifest = replace(corpus.manifest, shards=tuple(split_shards(corpus.manifest, split)))
        found = survey(corpus.store, manifest, needs, cache=corpus.cache)
        if not found.usable.get(split):
            theirs = f"its classes: {_listed(sorted(found.unknown))}" if found.unknown else "it has no labelled images"
            raise TrainingError(
                f"{manifest.reference}: no sample of split {split!r} has an image and a class that the model knows "
                f"({_listed(schema['classes'])}); {theirs}"
            )
        return {**schema, "left_out": found.left_out, "unknown": dict(found.unknown)}

    def data(self, corpus: Corpus, split: str, schema: Schema, *, batch_size: int, seed: int, training: bool) -> Stream:
        """See Model. A batch: (B, H, W, C) uint8 images and (B,) int64 classes; for evaluation also their Sources.

        Of mixed images also the (B,) classes that are mixed in, and the (B,) share of each first class.
        """
        left_out, needs = schema.get("left_out", []), replace(_NEEDS, labels=frozenset(schema["classes"]))
        mixes = training and bool(self.mixup or self.cutmix)
        kind = partial(MixedPictures, mixup=self.mixup, cutmix=self.cutmix) if mixes else ShardStream
        return kind(
            corpus.store,
            usable(corpus.store, corpus.manifest, split, needs, left_out=left_out, cache=corpus.cache),
            split,
            batch_size=batch_size,
            seed=seed,
            shuffle=training,
            cache=corpus.cache,
            make=_BatchMaker(self, schema, training, mixes),
            on_corrupt="skip_samples",
            skip_budget=corpus.skip_budget,
            rank=corpus.rank,
            world_size=corpus.world_size,
        )

    def compute_loss(
        self, module: nn.Module, batch: Any, state: tuple[Tensor, ...], device: torch.device
    ) -> StepOutput:
        """See Model: cross-entropy in nats."""
        images, classes = batch[0].to(device, non_blocking=True), batch[1].to(device, non_blocking=True)
        if not len(classes) and rank_and_world()[1] > 1:  # an empty share: the other ranks wait for this pass
            return StepOutput(0 * module(images).float().sum(), 0)
        if not len(classes):  # no image of the batch decodes: a step without a gradient
            return StepOutput(
                0 * sum((weights.sum() for weights in module.parameters()), torch.zeros((), device=device)), 0
            )
        logits, smooth = module(images).float(), self.label_smoothing
        if len(batch) == 2:
            loss = F.cross_entropy(logits, classes, label_smoothing=smooth)
        else:
            others, shares = batch[2].to(device, non_blocking=True), batch[3].to(device, non_blocking=True)
            own, other = (
                F.cross_entropy(logits, of, label_smoothing=smooth, reduction="none") for of in (classes, others)
            )
            loss = (shares * own + (1 - shares) * other).mean()
        return StepOutput(loss, int(classes.shape[0]))

    def evaluate(
        self, module: nn.Module, batches: Iterable[Any], schema: Schema, device: torch.device
    ) -> dict[str, Any]:
        """``loss`` over all samples, and what ``Classification.metrics`` says."""
        found, loss, samples = Classification(schema["classes"]), 0.0, 0
        for images, classes, *sources in batches:
            if not len(classes):
                continue
            logits = module(images.to(device)).float().cpu()
            loss += float(F.cross_entropy(logits, classes, reduction="sum"))
            samples += int(classes.shape[0])
            found.add(classes.numpy(), logits.softmax(1).numpy(), sources[0] if sources else ())
        return {**found.metrics(), "loss": loss / max(1, samples)}

    def predict(
        self, module: nn.Module, payloads: Sequence[bytes], schema: Schema, device: torch.device
    ) -> list[dict[str, float] | str]:
        """See Model: the probability of each class for each encoded image; a text for one that does not decode."""
        crop = crop_of(self.crop, area=self.crop_area, training=False)
        pixels = np.empty((len(payloads), self.pixels, self.pixels, 1 if schema["grey"] else 3), np.uint8)
        problems = [""] * len(payloads)
        for index, payload in enumerate(payloads):
            try:
                decode_crop(payload, pixels[index], crop, b"")
            except DamagedImage as error:
                problems[index] = str(error) or "an image that does not decode"
        rows = [index for index, problem in enumerate(problems) if not problem]
        answers: list[dict[str, float] | str] = list(problems)
        if rows:
            logits = module(torch.from_numpy(pixels[rows]).to(device)).float().cpu()
            for row, probabilities in zip(rows, logits.softmax(1).tolist(), strict=True):
                answers[row] = dict(zip(schema["classes"], probabilities, strict=True))
        return answers

    def traceable(self, module: nn.Module, schema: Schema) -> Traceable:
        """See Model: (B, H, W, C) uint8 images in, (B, classes) logits out."""
        images = torch.zeros(2, self.pixels, self.pixels, 1 if schema["grey"] else 3, dtype=torch.uint8)
        return Traceable(module, (images,), (0,), ("images",), ("logits",))

    def generate(self, module: nn.Module, schema: Schema, device: torch.device, seed: int) -> str:
        """See Model: none."""
        return ""

    def augment(self, pixels: Pixels, draws: bytes) -> Pixels:
        """The image, moved by up to ``shift`` pixels and perhaps mirrored, as the random bytes decide."""
        if self.flip and draws[2] & 1:
            pixels = pixels[:, ::-1]
        if self.shift:
            within = np.arange(self.pixels) - self.shift
            for axis in (0, 1):  # behind its edge an image goes on as it ends
                pixels = pixels.take(within + draws[axis] % (2 * self.shift + 1), axis=axis, mode="clip")
        return pixels

    def _measured(self, samples: Samples, *, grey: bool) -> Pixels:
        """The images of these samples that decode. Raises TrainingError if none does."""
        failure, number = CorruptSample(0, ""), len(samples)
        while len(samples):
            try:
                out = np.empty((len(samples), self.pixels, self.pixels, 1 if grey else 3), np.uint8)
                self._images(samples, out=out)
                return out
            except CorruptSample as error:
                failure, samples = error, samples.without(error.index)
        raise TrainingError(f"of the first {plural(number, 'image')} none decodes; the last one: {failure}")

    def _images(self, samples: Samples, *, out: Pixels, draws: Sequence[bytes] | None = None) -> None:
        """Fill ``out``, (B, H, W, C), with squares, random ones where there are draws. Raises CorruptSample."""
        random = draws is not None and self.crop == "random"
        crop = crop_of(self.crop, area=self.crop_area, training=random)
        for index, payload in enumerate(samples.first(IMAGE_FIELDS)):
            drawn = draws[index] if draws is not None else b""
            try:
                decode_crop(payload, out[index], crop, drawn, mirror=random and self.flip and is_mirrored(drawn))
                if draws is not None and not random and (self.shift or self.flip):
                    out[index] = self.augment(out[index], drawn)
            except DamagedImage as error:
                raise undecodable(samples, index, error) from error


class _BatchMaker:
    """Makes (B, H, W, C) uint8 images, (B,) int64 classes and, for evaluation, B Sources; picklable, for processes.

    ``mixes``: the draws of each image are the third, for MixedPictures.
    """

    def __init__(self, model: ImageClassifier, schema: Schema, training: bool, mixes: bool) -> None:
        self._model, self._grey = model, bool(schema["grey"])
        # Pinned where a network is on a GPU: decoded straight into memory that is copied from there.
        self._memory = BatchMemory(pinned=torch.cuda.is_initialized())  # type: ignore[no-untyped-call]  # torch
        self._class_indices = {name: index for index, name in enumerate(schema["classes"])}
        self._training, self._mixes = training, mixes

    def __call__(
        self, samples: Samples, draws: Sequence[bytes]
    ) -> tuple[Tensor, Tensor] | tuple[Tensor, Tensor, list[Source] | Sequence[bytes]]:
        pixels = self._model.pixels
        out, images = self._memory.take((len(samples), pixels, pixels, 1 if self._grey else 3))
        self._model._images(samples, out=out, draws=draws if self._training else None)
        classes = torch.tensor(self._classes(samples), dtype=torch.int64)
        if self._training:
            return (images, classes, draws) if self._mixes else (images, classes)
        return images, classes, _sources(samples)

    def _classes(self, samples: Samples) -> list[int]:
        classes = []
        for index, (record, cls) in enumerate(zip(samples.records(), samples.column(_CLASS_FIELD), strict=True)):
            label = record.get("label", None if cls is None else bytes(cls).decode("utf-8", "replace").strip())
            number = _class_of(label, self._class_indices)
            if number is None:
                raise CorruptSample(index, f"{samples.where(index)}: label {label!r} is none of the index's classes")
            classes.append(number)
        return classes

    def __getstate__(self) -> dict[str, Any]:  # Any: attributes
        return self.__dict__ | {"_memory": None}

    def __setstate__(self, state: dict[str, Any]) -> None:  # Any: attributes
        self.__dict__.update(state | {"_memory": BatchMemory()})


def _sources(samples: Samples) -> list[Source]:
    urls = (record.get("url") for record in samples.records())
    return [(key, url if isinstance(url, str) else "") for key, url in zip(samples.keys, urls, strict=True)]


def _classes_of(corpus: Corpus, split: str, found: Survey) -> list[str]:
    """The distinct labels of all splits, sorted. Raises TrainingError if they make no classifier."""
    reference, classes = corpus.manifest.reference, found.labels
    split_shards(corpus.manifest, split)
    if not found.usable[split]:
        left_out = "; ".join(describe_left_out(found.left_out))
        raise TrainingError(
            f"{reference}: no sample of split {split!r} has both an image and a label, and a classifier needs them "
            f"(see the label options of the recipe's source); {left_out}"
        )
    if len(classes) < 2:
        raise TrainingError(f"{reference}: {len(classes)} class; a classifier needs two or more")
    if len(classes) > _MAX_CLASSES:
        raise TrainingError(f"{reference}: {len(classes):,} classes; is `label` a class?")
    return sorted(classes)


def _listed(classes: Sequence[str]) -> str:
    more = len(classes) - _SHOWN_CLASSES
    return ", ".join(name[:40] for name in classes[:_SHOWN_CLASSES]) + (f" and {more} more" if more > 0 else "")


def _class_of(label: object, indices: Mapping[str, int]) -> int | None:
    """A label's class. A column of an index has one type: of numbers and texts it makes texts, of 1 and 1.5 floats."""
    for text in (str(label), str(float(label)) if isinstance(label, int) else "", json.dumps(label, default=str)):
        if text in indices:
            return indices[text]
    return None


def _is_grey(payload: memoryview) -> bool:
    try:
        image = Image.open(io.BytesIO(payload))
        if image.mode in ("1", "L"):
            return True
        red, green, blue = image.convert("RGB").resize((16, 16)).split()
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError):
        return True  # decides nothing: decoding raises the error
    return red.tobytes() == green.tobytes() == blue.tobytes()
