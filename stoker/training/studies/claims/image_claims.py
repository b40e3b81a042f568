"""The claims about classifiers of images, with networks small enough for one core.

Learning rates were chosen for these networks. Those of a claim have the same number of steps, but for the two beside
the shallow methods.
"""

from collections.abc import Mapping
from typing import Any

import torch

from stoker.training.studies.claims.depth_claims import depth_claims
from stoker.training.studies.claims.sizes import Sizes
from stoker.training.studies.plan import Claim, Expect, Row

_ONE_PERCENT = 500  # training samples, below which one percent is too few to learn anything from


def image_claims(about: Mapping[str, Any], *, quick: bool) -> list[Claim]:  # Any: JSON values
    """The claims for a corpus of images with labels, ``about`` as ``data.describe`` has it."""
    sizes = Sizes(quick)
    others = [_optimisers(sizes), _separable(sizes), _more_data(sizes, about), _gpu(sizes)]
    return [_shallow(sizes), *depth_claims(sizes), *others]


def _shallow(sizes: Sizes) -> Claim:
    shallow = [
        Row("random forest", "shallow", {"model": "forest"}, seeds=sizes.seeds),
        Row("linear SVM", "shallow", {"model": "linear_svm"}, random=False, weight=9),
        Row("SVM with RBF kernel", "shallow", {"model": "rbf_svm"}, random=False, weight=9),
        Row("HOG and linear SVM", "shallow", {"model": "linear_svm", "features": "hog"}, random=False),
        Row("3 nearest neighbours", "shallow", {"model": "neighbours"}, random=False),
    ]
    return Claim(
        "shallow",
        "Convolutional networks pass forests and linear machines, and come up to the best shallow method",
        [*shallow, sizes.lenet, sizes.residual()],
        [
            Expect("above", "LeNet-5", "random forest", 0.0),
            Expect("above", "residual net", "random forest", 0.0),
            Expect("above", "residual net", "linear SVM", 0.0),
            *(Expect("above", "residual net", row.name, -0.015) for row in shallow[2:]),
        ],
    )


_RATES = {  # the best of a few, for each
    "sgd": 0.5,
    "momentum": 0.1,
    "nesterov": 0.1,
    "adagrad": 0.03,
    "rmsprop": 0.003,
    "adam": 0.006,
    "adamw": 0.006,
    "muon": 0.03,
}


def _optimisers(sizes: Sizes) -> Claim:
    """Few steps: with many all of them arrive.

    No decay: it means another thing to each of them, and what is little for AdamW and Muon holds the others back.
    """
    options = {"net": "lenet5", "norm": "none"}
    rates = _RATES if sizes.quick else _RATES | {"muon": 0.01}  # of more steps a lower one is better
    rows = {
        name: sizes.net(
            f"LeNet-5 by {name}",
            options,
            steps=sizes.of(100, 1200),
            rate=rate,
            training={"optimiser": name, "momentum": 0.0 if name == "rmsprop" else 0.9, "weight_decay": 0.0},
        )
        for name, rate in rates.items()
    }
    sgd = rows["sgd"].name
    return Claim(
        "optimisers",
        "Each at a rate of its own, plain gradient descent keeps up with later optimisers on a small net",
        list(rows.values()),
        [Expect("above", sgd, row.name, -0.03) for name, row in rows.items() if name != "sgd"],
    )


def _separable(sizes: Sizes) -> Claim:
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


def _more_data(sizes: Sizes, about: Mapping[str, Any]) -> Claim:  # Any: JSON values
    title = "Data is the coal: the same network learns more from more of it"
    if about["train"] < _ONE_PERCENT:
        reason = f"{about['train']} samples to train on; one percent of them is too few"
        return Claim("data", title, inapplicable=reason)
    tenth, hundredth = (sizes.residual(f"{percent} % of the data", share=percent / 100, seeds=1) for percent in (10, 1))
    return Claim(
        "data",
        title,
        [hundredth, tenth, sizes.residual()],
        [
            Expect("above", "residual net", tenth.name, 0.005),
            Expect("above", tenth.name, hundredth.name, 0.05),
        ],
    )


def _gpu(sizes: Sizes) -> Claim:
    title = "A GPU trains the same network faster than a processor's core"
    if not torch.cuda.is_available():
        return Claim("gpu", title, inapplicable="this machine has no GPU that torch can use")
    rows = [
        sizes.residual(f"residual net, {name}", training={"device": device, "batch_size": 512}, options={"width": 32})
        for name, device in (("GPU", "cuda"), ("CPU", "cpu"))
    ]
    return Claim("gpu", title, rows, [Expect("smaller", rows[0].name, rows[1].name, 2.0, "seconds")])
