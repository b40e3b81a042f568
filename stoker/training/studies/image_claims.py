"""The claims about classifiers of images, with networks small enough for one core.

Learning rates were chosen for these networks; each method within a claim has the same number of steps.
"""

from collections.abc import Mapping
from typing import Any

import torch

from stoker.training.studies.plan import Claim, Expect, Row

_ONE_PERCENT = 500  # training samples, below which one percent is too few to learn anything from


def image_claims(about: Mapping[str, Any], *, quick: bool) -> list[Claim]:  # Any: JSON values
    """The claims for a corpus of images with labels, ``about`` as ``data.describe`` has it."""
    sizes = _Sizes(quick)
    return [_shallow(sizes), _separable(sizes), _more_data(sizes, about), _gpu(sizes)]


class _Sizes:
    """How much each row trains: less in a quick study."""

    def __init__(self, quick: bool) -> None:
        self.quick = quick
        self.seeds = 2 if quick else 3

    def of(self, quick: int, full: int) -> int:
        """A number of steps or samples."""
        return quick if self.quick else full

    def net(self, name: str, options: dict[str, Any], *, steps: int, rate: float = 0.003, **more: Any) -> Row:
        """A row of a network."""
        training = {"max_steps": steps, "learning_rate": rate, "batch_size": 64, **more.pop("training", {})}
        return Row(name, "cnn", {"pixels": 32, "shift": 0, **options}, training, seeds=self.seeds, **more)

    @property
    def lenet(self) -> Row:
        """LeNet-5 with rectifiers."""
        options = {"net": "lenet5", "shift": 2, "batch_norm": False}
        return self.net("LeNet-5", options, steps=self.of(600, 2800), weight=self.of(5, 30))

    def residual(self, name: str = "residual net", **more: Any) -> Row:
        """A small residual net."""
        options = {"net": "resnet", "shift": 2, "blocks": 1, "width": 16, **more.pop("options", {})}
        return self.net(name, options, steps=self.of(300, 1400), weight=self.of(15, 90), **more)


def _shallow(sizes: _Sizes) -> Claim:
    shallow = [
        Row("random forest", "shallow", {"model": "forest"}, seeds=sizes.seeds),
        Row("linear SVM", "shallow", {"model": "linear_svm"}, random=False, weight=9),
        Row("SVM with RBF kernel", "shallow", {"model": "rbf_svm"}, random=False, weight=9),
        Row("HOG and linear SVM", "shallow", {"model": "linear_svm", "features": "hog"}, random=False),
        Row("3 nearest neighbours", "shallow", {"model": "neighbours"}, random=False),
    ]
    return Claim(
        "shallow",
        "Convolutional networks leave shallow methods behind",
        [*shallow, sizes.lenet, sizes.residual()],
        [
            Expect("above", "residual net", "random forest", 0.0),
            Expect("above", "residual net", "linear SVM", 0.0),
            *(Expect("above", "residual net", row.name, -0.015) for row in shallow[2:]),
        ],
    )


def _separable(sizes: _Sizes) -> Claim:
    separable = sizes.residual("separable residual net", options={"separable": True})
    return Claim(
        "separable",
        "Depthwise separable convolutions need a fraction of the weights and multiplications",
        [sizes.residual(), separable],
        [
            Expect("smaller", separable.name, "residual net", 4.0, "parameters"),
            Expect("smaller", separable.name, "residual net", 4.0, "multiplications"),
            Expect("above", separable.name, "residual net", -0.05),
        ],
    )


def _more_data(sizes: _Sizes, about: Mapping[str, Any]) -> Claim:  # Any: JSON values
    title = "Data is the coal: the same network learns more from more of it"
    if about["train"] < _ONE_PERCENT:
        reason = f"{about['train']} samples to train on; one percent of them is too few"
        return Claim("data", title, inapplicable=reason)
    tenth, hundredth = (sizes.residual(f"{percent} % of the data", share=percent / 100) for percent in (10, 1))
    return Claim(
        "data",
        title,
        [hundredth, tenth, sizes.residual()],
        [
            Expect("above", "residual net", tenth.name, 0.005),
            Expect("above", tenth.name, hundredth.name, 0.05),
        ],
    )


def _gpu(sizes: _Sizes) -> Claim:
    title = "A GPU trains the same network faster than a processor's core"
    if not torch.cuda.is_available():
        return Claim("gpu", title, inapplicable="this machine has no GPU that torch can use")
    rows = [
        sizes.residual(f"residual net, {name}", training={"device": device, "batch_size": 512}, options={"width": 32})
        for name, device in (("GPU", "cuda"), ("CPU", "cpu"))
    ]
    return Claim("gpu", title, rows, [Expect("smaller", rows[0].name, rows[1].name, 2.0, "seconds")])
