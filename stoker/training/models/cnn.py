"""Networks that tell classes of images apart: LeNet, residual and plain nets of any depth, MobileNet, perceptrons."""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own habit
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn

from stoker.training.errors import CorruptSample, TrainingError
from stoker.training.loader.loader import Stream
from stoker.training.networks.classifiers import NETWORKS, Normalised
from stoker.training.networks.initialisation import initialise, scale_to_unit_variance
from stoker.training.networks.pretraining import pretrain
from stoker.training.networks.resnet import fixup
from stoker.training.pictures.batch_memory import BatchMemory
from stoker.training.pictures.crops import whole_image
from stoker.training.pictures.jpeg import DamagedImage, Pixels
from stoker.training.pictures.pictures import IMAGE_FIELDS, decode_crop, undecodable
from stoker.training.reading.samples import Samples
from stoker.training.results.classification import Classification, Source
from stoker.training.run.model import Corpus, Schema, StepOutput
from stoker.training.stream.stream import ShardStream, split_shards
from stoker.training.stream.subset import Needs, Survey, describe_left_out, survey, usable

_NEEDS = Needs(IMAGE_FIELDS, "image", label=True)
_CLASS_FIELD = "cls"  # where WebDataset tars written by others may have the class
_MEASURED_SAMPLES = 512  # for means and deviations
_COLOUR_SAMPLES = 64  # that are looked at for colour
_MAX_CLASSES = 100_000
_MAX_CHANNELS = 16_384
_PRETRAINING_BYTES = 64 << 20  # of images
_BOUNDS = {
    "pixels": (8, 1024),
    "depth": (2, 10_001),
    "width": (1, 1024),
    "stages": (1, 6),
    "blocks": (1, 5000),
    "pretrain_epochs": (1, 1000),
    "dropout": (0, 0.99),
    "stochastic_depth": (0, 0.99),
    "label_smoothing": (0, 0.99),
}
_SHOWN_CLASSES = 8  # in a message


@dataclass(frozen=True)
class Cnn:
    """A classifier of images by the ``label`` of their records. Samples that lack it or an image are told and left out.

    So are images that do not decode, up to the option ``skip_budget``.

    ``lenet1989``: LeCun et al., Neural Computation 1989. ``lenet5``: LeCun et al., Proc. IEEE 1998. ``plain``: Xiao et
    al., ICML 2018: 3 x 3 convolutions alone. ``resnet``: He et al., ECCV 2016 (without ``preactivation``: CVPR 2016):
    6 * blocks + 2 layers, if of three stages. ``mobilenet``: Howard et al., arXiv 2017; ``mobilenet_dense``: its twin.
    ``mlp``: fully connected. ``branch_scale``: ReZero, Bachlechner et al., UAI 2021; Fixup, Zhang et al., ICLR 2019.
    ``initialisation``: He et al., ICCV 2015; Glorot and Bengio, AISTATS 2010; Saxe et al., ICLR 2014; LSUV, Mishkin and
    Matas, ICLR 2016; Xiao et al., ICML 2018. ``pretrain``: Vincent et al., JMLR 2010; Hinton et al., 2006.
    ``label_smoothing``: Szegedy et al., CVPR 2016. Sources of all parts are in the files of training/networks.

    Args:
        net: the network.
        pixels: images become squares of this side.
        colour: channels; auto: rgb if any of the first images has colour.
        depth: layers with weights, of plain and mlp.
        width: channels of the first stage of resnet and mobilenet, of all layers of plain; units of mlp.
        stages: of resnet and mobilenet; each after the first has half the size and twice the channels.
        blocks: of each stage of resnet and mobilenet.
        residual: add what enters a block of resnet to what it returns.
        preactivation: norms and activations before the convolutions of a block of resnet, not after.
        norm: of activations: over each batch, each layer (a sample), or none.
        batch_norm: old name; false is norm none.
        branch_scale: of resnet's blocks: one; zero: times a learned number, at first 0 (ReZero, SkipInit); fixup, with
            norm none.
        separable: depthwise separable convolutions in lenet5, plain and resnet.
        activation: between layers.
        initialisation: of the weights; lsuv looks at the first batch.
        pretrain: layers of mlp one by one, without labels, on the first images; norm none; rbm: activation sigmoid.
        pretrain_epochs: passes over these images for each layer.
        dropout: share of units left out before the last layer, of mlp and lenet5 after each hidden layer.
        stochastic_depth: share of samples that leave out the last block of resnet; fewer leave out earlier ones.
        label_smoothing: share of a label that is spread over all classes.
        shift: pixels that training images are moved by, at most, in each direction.
        flip: mirror half of the training images: not for digits and letters.

    Example::

        stoker train cnn digits --epochs 20 --set net=lenet5
    """

    net: Literal["lenet1989", "lenet5", "plain", "resnet", "mobilenet", "mobilenet_dense", "mlp"] = "resnet"
    pixels: int = 32
    colour: Literal["auto", "grey", "rgb"] = "auto"
    depth: int = 6
    width: int = 16
    stages: int = 3
    blocks: int = 1
    residual: bool = True
    preactivation: bool = True
    norm: Literal["batch", "layer", "none"] = "batch"
    batch_norm: bool = True
    branch_scale: Literal["one", "zero", "fixup"] = "one"
    separable: bool = False
    activation: Literal["relu", "leaky_relu", "elu", "selu", "gelu", "silu", "tanh", "sigmoid"] = "relu"
    initialisation: Literal["he", "glorot", "orthogonal", "normal", "lsuv", "delta_orthogonal", "default"] = "he"
    pretrain: Literal["none", "denoising", "rbm"] = "none"
    pretrain_epochs: int = 5
    dropout: float = 0.0
    stochastic_depth: float = 0.0
    label_smoothing: float = 0.0
    shift: int = 2
    flip: bool = False

    added: ClassVar[tuple[str, ...]] = (
        *("depth", "stages", "preactivation", "norm", "branch_scale", "pretrain", "pretrain_epochs"),
        *("dropout", "stochastic_depth", "label_smoothing"),
    )
    defaults: ClassVar[dict[str, Any]] = {"epochs": 12, "batch_size": 64, "learning_rate": 0.004}

    def __post_init__(self) -> None:
        for name, (lowest, highest) in _BOUNDS.items():
            if not lowest <= getattr(self, name) <= highest:  # NaN is refused too
                raise TrainingError(f"cnn: {name} = {getattr(self, name)}; expected {lowest} to {highest}")
        if self.net == "lenet5" and self.pixels < 28:
            raise TrainingError(f"cnn: net lenet5 needs pixels = 28 or more, found {self.pixels}")
        if not 0 <= self.shift < self.pixels // 2:
            raise TrainingError(f"cnn: shift {self.shift}; expected 0 to {self.pixels // 2 - 1}")
        if self.width << self.stages > _MAX_CHANNELS and self.net in ("resnet", "mobilenet", "mobilenet_dense"):
            raise TrainingError(f"cnn: width {self.width} doubled in {self.stages} stages; at most {_MAX_CHANNELS}")
        if self.branch_scale == "fixup" and (self._norm != "none" or not self.residual):
            raise TrainingError("cnn: branch_scale fixup stands for norms, in a residual net; set norm=none")
        if self.pretrain != "none" and (self.net != "mlp" or self._norm != "none"):
            raise TrainingError(
                f"cnn: pretrain {self.pretrain} is for net mlp without norms; set net=mlp and norm=none"
            )
        if self.pretrain == "rbm" and self.activation != "sigmoid":
            raise TrainingError(f"cnn: pretrain rbm needs activation sigmoid, found {self.activation}")

    @property
    def _norm(self) -> Literal["batch", "layer", "none"]:
        return "none" if self.norm == "batch" and not self.batch_norm else self.norm

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
        """See Model. A batch: (B, H, W, C) uint8 images and (B,) int64 classes; for evaluation also their Sources."""
        left_out, needs = schema.get("left_out", []), replace(_NEEDS, labels=frozenset(schema["classes"]))
        return ShardStream(
            corpus.store,
            usable(corpus.store, corpus.manifest, split, needs, left_out=left_out, cache=corpus.cache),
            split,
            batch_size=batch_size,
            seed=seed,
            shuffle=training,
            cache=corpus.cache,
            make=_BatchMaker(self, schema, training),
            on_corrupt="skip_samples",
            skip_budget=corpus.skip_budget,
        )

    def build(self, schema: Schema) -> nn.Module:
        """See Model."""
        channels, classes = (1 if schema["grey"] else 3), len(schema["classes"])
        network = NETWORKS[self.net](replace(self, norm=self._norm), channels, classes)
        initialise(network, self.initialisation, self.activation)
        if self.branch_scale == "fixup":
            fixup(network)
        return Normalised(network, schema["mean"], schema["deviation"])

    def prepare_weights(self, module: nn.Module, batches: Iterable[Any], device: torch.device) -> None:
        """See Model: pretraining on the first images, LSUV on the first batch."""
        assert isinstance(module, Normalised)
        if self.pretrain != "none":
            assert isinstance(module.network, nn.Sequential)
            images = _first_images(batches)
            if len(images):
                planes = torch.cat(
                    [module.normalise(some.to(device)) for some in torch.split(images, _MEASURED_SAMPLES)]
                )
                pretrain(module.network, self.pretrain, planes, epochs=self.pretrain_epochs)
        elif self.initialisation == "lsuv":
            first = next((images for images, _ in batches if len(images)), None)
            if first is not None:
                scale_to_unit_variance(module, first.to(device))

    def compute_loss(
        self, module: nn.Module, batch: Any, state: tuple[Tensor, ...], device: torch.device
    ) -> StepOutput:
        """See Model: cross-entropy in nats."""
        images, classes = batch[0].to(device, non_blocking=True), batch[1].to(device, non_blocking=True)
        if not len(classes):  # no image of the batch decodes: a step without a gradient
            return StepOutput(
                0 * sum((weights.sum() for weights in module.parameters()), torch.zeros((), device=device)), 0
            )
        loss = F.cross_entropy(module(images), classes, label_smoothing=self.label_smoothing)
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

    def generate(self, module: nn.Module, schema: Schema, device: torch.device, seed: int) -> str:
        """See Model: none."""
        return ""

    def augment(self, pixels: Pixels, draws: bytes) -> Pixels:
        """The image, moved by up to ``shift`` pixels and perhaps mirrored, as the random bytes decide."""
        if self.flip and draws[2] & 1:
            pixels = pixels[:, ::-1]
        if self.shift:
            border = (self.shift, self.shift)
            padded = np.pad(pixels, (border, border, (0, 0)), mode="edge")
            down, along = draws[0] % (2 * self.shift + 1), draws[1] % (2 * self.shift + 1)
            pixels = padded[down : down + self.pixels, along : along + self.pixels]
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
        raise TrainingError(f"none of the first {number} images decodes; the last one: {failure}")

    def _images(self, samples: Samples, *, out: Pixels) -> None:
        """Fill ``out``, (B, H, W, C), with whole images squeezed into squares. Raises CorruptSample."""
        for index, payload in enumerate(samples.first(IMAGE_FIELDS)):
            try:
                decode_crop(payload, out[index], whole_image, b"")
            except DamagedImage as error:
                raise undecodable(samples, index, error) from error


class _BatchMaker:
    """Makes (B, H, W, C) uint8 images, (B,) int64 classes and, for evaluation, B Sources; picklable, for processes."""

    def __init__(self, model: Cnn, schema: Schema, training: bool) -> None:
        self._model, self._grey, self._memory = model, bool(schema["grey"]), BatchMemory()
        self._class_indices = {name: index for index, name in enumerate(schema["classes"])}
        self._training, self._augments = training, training and bool(model.shift or model.flip)

    def __call__(
        self, samples: Samples, draws: Sequence[bytes]
    ) -> tuple[Tensor, Tensor] | tuple[Tensor, Tensor, list[Source]]:
        pixels = self._model.pixels
        out, images = self._memory.take((len(samples), pixels, pixels, 1 if self._grey else 3))
        self._model._images(samples, out=out)
        if self._augments:
            for index, drawn in enumerate(draws):
                out[index] = self._model.augment(out[index], drawn)
        classes = torch.tensor(self._classes(samples), dtype=torch.int64)
        return (images, classes) if self._training else (images, classes, _sources(samples))

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


def _first_images(batches: Iterable[Any]) -> Tensor:  # Any: as data gives them
    """So many of the first images, (B, H, W, C), as fit into the memory for pretraining."""
    images, size = [torch.empty(0, dtype=torch.uint8)], 0
    for some, _ in batches:
        images.append(some.clone())  # its memory is used again
        size += some.numel()
        if size >= _PRETRAINING_BYTES:
            break
    return torch.cat(images)


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
        raise TrainingError(f"{reference}: {len(classes)} classes; is `label` a class?")
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
