"""Networks that tell classes of images apart: LeNet, residual and plain nets of any depth, MobileNet, perceptrons."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from stoker.training.errors import TrainingError
from stoker.training.networks.classifiers import NETWORKS, Normalised
from stoker.training.networks.initialisation import initialise, scale_to_unit_variance
from stoker.training.networks.pretraining import pretrain
from stoker.training.networks.resnet import fixup
from stoker.training.pictures import augmentation
from stoker.training.run.image_classifier import ImageClassifier
from stoker.training.run.model import Schema

_MEASURED_SAMPLES = 512  # for means and deviations
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
    **augmentation.BOUNDS,
}


@dataclass(frozen=True)
class Cnn(ImageClassifier):
    """A classifier of images by the ``label`` of their records. Samples that lack it or an image are told and left out.

    So are images that do not decode, up to the option ``skip_budget``.

    ``lenet1989``: LeCun et al., Neural Computation 1989. ``lenet5``: LeCun et al., Proc. IEEE 1998. ``plain``: Xiao et
    al., ICML 2018: 3 x 3 convolutions alone. ``resnet``: He et al., ECCV 2016 (without ``preactivation``: CVPR 2016):
    6 * blocks + 2 layers, if of three stages. ``mobilenet``: Howard et al., arXiv 2017; ``mobilenet_dense``: its twin.
    ``mlp``: fully connected. ``branch_scale``: ReZero, Bachlechner et al., UAI 2021; Fixup, Zhang et al., ICLR 2019.
    ``initialisation``: He et al., ICCV 2015; Glorot and Bengio, AISTATS 2010; Saxe et al., ICLR 2014; LSUV, Mishkin and
    Matas, ICLR 2016; Xiao et al., ICML 2018. ``pretrain``: Vincent et al., JMLR 2010; Hinton et al., 2006.
    ``label_smoothing``: Szegedy et al., CVPR 2016. Random crops: Szegedy et al., CVPR 2015. ``mixup``: Zhang et al.,
    ICLR 2018; ``cutmix``: Yun et al., ICCV 2019. Sources of all parts are in the files of training/networks.

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
        initialisation: of the weights; lsuv looks at the first batch; delta_orthogonal wants activation tanh, norm
            none, weight_decay 0 and optimiser nesterov or sgd.
        pretrain: layers of mlp one by one, without labels, on the first images; norm none; rbm: activation sigmoid.
        pretrain_epochs: passes over these images for each layer.
        dropout: share of units left out before the last layer, of mlp and lenet5 after each hidden layer.
        stochastic_depth: share of samples that leave out the last block of resnet; fewer leave out earlier ones.
        label_smoothing: share of a label that is spread over all classes.
        crop: of images that are no squares, or larger than pixels: squeeze them; center, the largest square; random, a
            part of another size, shape and place in each epoch, and the center when evaluated.
        crop_area: the least share of an image's area that a random crop has.
        shift: pixels that training images are moved by, at most, in each direction; not in random crops.
        flip: mirror half of the training images: not for digits and letters.
        mixup: blend each training image with another one, and their classes; the share of each is drawn from
            Beta(mixup, mixup): 0.2 or 1; 0: none.
        cutmix: put a box of another image into each training image, its share of the class drawn in the same way; with
            mixup too, half of the images are mixed in each way.

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
    crop: Literal["squeeze", "center", "random"] = "squeeze"
    crop_area: float = 0.08
    shift: int = 2
    flip: bool = False
    mixup: float = 0.0
    cutmix: float = 0.0

    added: ClassVar[tuple[str, ...]] = (
        *("depth", "stages", "preactivation", "norm", "branch_scale", "pretrain", "pretrain_epochs"),
        *("dropout", "stochastic_depth", "label_smoothing", "crop", "crop_area", "mixup", "cutmix"),
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
            first = next((images for images, *_ in batches if len(images)), None)
            if first is not None:
                scale_to_unit_variance(module, first.to(device))


def _first_images(batches: Iterable[Any]) -> Tensor:  # Any: as data gives them
    """So many of the first images, (B, H, W, C), as fit into the memory for pretraining."""
    images, size = [torch.empty(0, dtype=torch.uint8)], 0
    for some, *_ in batches:
        images.append(some.clone())  # its memory is used again
        size += some.numel()
        if size >= _PRETRAINING_BYTES:
            break
    return torch.cat(images)
