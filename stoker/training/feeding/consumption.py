"""What networks consume on named GPUs, from published measurements; needs no torch.

MLPerf Storage emulates a GPU by the seconds that it computes on a batch. timm's results were measured with synthetic
batches in mixed precision, channels last.
"""

from dataclasses import dataclass

from stoker.plugins import suggestion
from stoker.training.errors import TrainingError

HERE = "here"
_MLPERF = "mlcommons/storage, configs/dlio/workload"
_TIMM = "huggingface/pytorch-image-models, results/benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv"


@dataclass(frozen=True, slots=True)
class Consumption:
    """How many samples a network trains on in a second on a device; images have 224 pixels each side."""

    network: str
    device: str
    samples_per_s: float
    source: str


PUBLISHED = (
    Consumption("resnet50", "h100", 400 / 0.224, f"{_MLPERF}/resnet50_h100.yaml: 400 in 0.224 s"),
    Consumption("resnet50", "a100", 400 / 0.435, f"{_MLPERF}/resnet50_a100.yaml: 400 in 0.435 s"),
    Consumption("resnet50", "rtx3090", 1218.01, _TIMM),
    Consumption("resnet18", "rtx3090", 3481.78, _TIMM),
)
# Those that can be measured here: two of ImageNet, those of cnn, and lstm.
NETWORKS = ("resnet18", "resnet50", "lenet", "lenet1989", "lenet5", "mlp", "mobilenet", "resnet", "lstm")


def parse_like(text: str) -> tuple[str, str]:
    """Network and device of ``NETWORK`` or ``NETWORK@DEVICE``; "" for no device. Raises TrainingError.

    >>> parse_like("resnet50@h100"), parse_like("lenet")
    (('resnet50', 'h100'), ('lenet', ''))
    """
    network, _, device = text.partition("@")
    if network not in NETWORKS:
        raise TrainingError(f"no network is called {network!r}; {suggestion(network, NETWORKS)}")
    devices = [one.device for one in PUBLISHED if one.network == network] + [HERE]
    if ("@" in text) and device not in devices:
        raise TrainingError(f"{network} on {device!r}: no figure is known; there are: {', '.join(devices)}")
    return network, device


def published(network: str, device: str) -> list[Consumption]:
    """The published figures of a network, on one device or on all of them."""
    return [one for one in PUBLISHED if one.network == network and device in ("", one.device)]


def stall_of(fed: float, consumed: float) -> float:
    """The share of its time that a device waits which could consume more samples a second than it is fed.

    >>> stall_of(900, 1000), stall_of(2000, 1000)
    (0.1, 0.0)
    """
    return round(max(0.0, 1 - fed / consumed), 6)
