"""The claims about what made deep networks trainable: activations, initialisation, pretraining, norms, connections.

They have images of 8 x 8 pixels, so that 1,001 layers take a core less than a minute.
"""

from typing import Any

from stoker.training.studies.claims.sizes import Sizes
from stoker.training.studies.plan import Claim, Expect, Row

_SMALL = 8  # pixels
_DEEP = 1002  # layers with weights: 1,001 convolutions and the last one
_CLEARLY = 0.3  # better than chance: it learns
_HARDLY = 0.1  # not better than chance by more: it does not
_SAMPLES, _TESTED = 10_000, 2_000  # of larger corpora: a few dozen steps see no more
_SQUASHING = ("sigmoid", "tanh")
_LATER = ("relu", "leaky_relu", "elu", "selu", "gelu", "silu")


def depth_claims(sizes: Sizes) -> list[Claim]:
    """These claims, in the order in which they were made."""
    return [
        _pretraining(sizes),
        _activations(sizes),
        _initialisation(sizes),
        _thousand_layers(sizes),
        *(_connections(sizes, layers) for layers in (20, 110, _DEEP)),
    ]


def _net(sizes: Sizes, name: str, options: dict[str, Any], *, layers: int, steps: int, **more: Any) -> Row:
    options = {"pixels": _SMALL, "width": 16, **options}
    seeds = {"seeds": 1} if layers > 100 or sizes.quick else {}
    more = {"samples": _SAMPLES, "tested": _TESTED, "weight": layers * steps / 2000, **more}
    return sizes.net(name, options, steps=steps, **more, **seeds)


def _plain(sizes: Sizes, name: str, *, layers: int, steps: int, rate: float = 0.001, **options: Any) -> Row:
    """Convolutions alone."""
    # Adam scales each weight by itself, which undoes what delta-orthogonal weights are there for.
    # Its gradients differ in length from batch to batch, and a long step ends the isometry: hence the clipping.
    training: dict[str, Any] = {"optimiser": "adamw", "warmup": 0.1, "weight_decay": 0.0}  # Any: an option's value
    if layers > 100:
        training |= {"optimiser": "momentum", "clip": 0.2}
    options = {"net": "plain", "norm": "none", "depth": layers, **options}
    return _net(sizes, name, options, layers=layers, steps=steps, rate=rate, training=training)


def _pretraining(sizes: Sizes) -> Claim:
    def row(name: str, **options: Any) -> Row:
        options = {"net": "mlp", "norm": "none", "depth": 7, "width": 200, "activation": "sigmoid", **options}
        options = {"pixels": 16, "initialisation": "default", "pretrain_epochs": sizes.of(20, 5), **options}
        # By momentum, as then: what Adam does for the sigmoid is a claim of its own.
        training = {"optimiser": "momentum", "weight_decay": 0.0}
        samples = {"samples": sizes.of(0, 20_000), "weight": 3}
        return sizes.net(name, options, steps=sizes.of(300, 900), rate=0.1, training=training, **samples)

    plain, rectified = row("six sigmoid layers"), row("six ReLU layers", activation="relu", initialisation="he")
    pretrained = [row(f"{name} pretraining", pretrain=name) for name in ("denoising", "rbm")]
    return Claim(
        "pretraining",
        "Layer-wise pretraining made deep sigmoid networks trainable; rectifiers do without",
        [plain, *pretrained, rectified],
        [
            Expect("fails", plain.name, margin=_CLEARLY),
            *(Expect("above", one.name, plain.name, 0.2) for one in (*pretrained, rectified)),
        ],
    )


def _activations(sizes: Sizes) -> Claim:
    rows = {
        name: _plain(
            sizes,
            f"{name}, 20 layers",
            layers=20,
            steps=sizes.of(150, 400),
            activation=name,
            initialisation=_drawn(name),
        )
        for name in (*_SQUASHING, *_LATER)
    }
    sigmoid = rows["sigmoid"].name
    return Claim(
        "activations",
        "Better activations than the sigmoid let 20 layers learn",
        list(rows.values()),
        [
            Expect("fails", sigmoid, margin=_CLEARLY),
            *(Expect("above", rows[name].name, sigmoid, 0.2) for name in _LATER),
        ],
    )


def _drawn(activation: str) -> str:
    """The initialisation that an activation's own paper, or usual practice, goes with."""
    if activation in _SQUASHING:
        return "glorot"
    return "orthogonal" if activation == "selu" else "he"


def _initialisation(sizes: Sizes) -> Claim:
    rows = {
        name: _plain(sizes, f"{name}, 30 layers", layers=30, steps=sizes.of(150, 400), width=32, initialisation=name)
        for name in ("normal", "default", "glorot", "he", "orthogonal", "lsuv")
    }
    return Claim(
        "initialisation",
        "Initialisation decides whether 30 plain layers learn",
        list(rows.values()),
        [
            *(Expect("fails", rows[name].name, margin=_HARDLY) for name in ("normal", "default")),
            *(Expect("learns", rows[name].name, margin=_CLEARLY) for name in ("he", "orthogonal", "lsuv")),
        ],
    )


def _thousand_layers(sizes: Sizes) -> Claim:
    steps, rate, made = sizes.of(40, 80), 0.03, {"activation": "tanh"}
    rows = [
        _plain(sizes, f"{name}, 1,001 layers", layers=_DEEP, steps=steps, rate=rate, initialisation=name, **made)
        for name in ("glorot", "delta_orthogonal")
    ]
    return Claim(
        "thousand",
        "Delta-orthogonal initialisation trains 1,001 plain layers, with no norm and no connection past them",
        rows,
        [Expect("fails", rows[0].name, margin=_HARDLY), Expect("learns", rows[1].name, margin=_CLEARLY)],
    )


def _connections(sizes: Sizes, layers: int) -> Claim:
    """Residual nets of one stage: a first convolution, two in each block, and the last layer."""
    deep, named = layers == _DEEP, "1,001" if layers == _DEEP else str(layers)
    steps = sizes.of(60, 100) if deep else sizes.of(100, 200)
    training = {"optimiser": "momentum", "warmup": 0.1, "weight_decay": 0.0}

    def row(name: str, **options: Any) -> Row:
        options = {"net": "resnet", "stages": 1, "blocks": (layers - 2) // 2, **options}
        return _net(sizes, f"{name}, {named} layers", options, layers=layers, steps=steps, rate=0.1, training=training)

    plain = row("neither", norm="none", residual=False)
    norm = row("batch norm alone", residual=False)
    residual = row("residual alone", norm="none", branch_scale="zero")
    both = row("batch norm and residual")
    expects = [Expect("learns", both.name, margin=_CLEARLY), Expect("learns", residual.name, margin=_CLEARLY)]
    if layers > 100:
        expects += [Expect("above", one.name, other.name, 0.2) for one in (both, residual) for other in (plain, norm)]
    if deep:
        expects += [Expect("fails", one.name, margin=_HARDLY) for one in (plain, norm)]
    return Claim(
        f"depth-{named.replace(',', '')}",
        f"Residual connections train {named} layers, where layers alone do not"
        if layers > 100
        else f"At {named} layers norms and residual connections are a help",
        [plain, norm, residual, both],
        expects,
    )
