"""Greedy layer-wise pretraining of a multilayer perceptron: each layer learns, without labels, from what the one below
makes of the images.

Denoising autoencoders: Vincent et al., "Stacked denoising autoencoders", JMLR 2010. Restricted Boltzmann machines:
Hinton, Osindero and Teh, "A fast learning algorithm for deep belief nets", Neural Computation 2006; by one step of
contrastive divergence, with Gaussian units for the images' normalised pixels, as in Hinton, "A practical guide to
training restricted Boltzmann machines", 2010.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own habit
from torch import Tensor, nn

_BATCH = 128
_CORRUPTION = 0.25  # share of an autoencoder's inputs that are set to 0
_AUTOENCODER_RATE = 0.002  # of Adam
_BINARY_RATE, _GAUSSIAN_RATE = 0.1, 0.01  # of the guide, for contrastive divergence
_MOMENTUM = 0.9


def pretrain(network: nn.Sequential, method: str, inputs: Tensor, *, epochs: int) -> list[tuple[float, float]]:
    """Train all linear layers but the last, one after the other; the error of reconstruction before and after, of each.

    Args:
        network: layers of a perceptron without norms.
        method: denoising or rbm.
        inputs: what the network is given, (B, ...).
        epochs: of each layer.
    """
    errors = []
    linear = [number for number, layer in enumerate(network) if isinstance(layer, nn.Linear)]
    training = network.training
    network.eval()
    start = 0
    for number in linear[:-1]:
        with torch.no_grad():
            inputs = torch.cat([network[start:number](some) for some in torch.split(inputs, _BATCH)])
        layer, activation = network[number], network[number + 1]
        assert isinstance(layer, nn.Linear)
        if method == "rbm":
            errors.append(train_rbm(layer, inputs, epochs=epochs, gaussian=number == linear[0]))
        else:
            errors.append(train_autoencoder(layer, activation, inputs, epochs=epochs))
        start = number
    network.train(training)
    return errors


def train_autoencoder(layer: nn.Linear, activation: nn.Module, inputs: Tensor, *, epochs: int) -> tuple[float, float]:
    """Learn to restore inputs of which a share is 0, by a decoder of the same weights, transposed.

    It begins with the layer's weights as they are: what it gains is then not the gain of another draw.

    Probabilities, which a layer of sigmoid units gives, are compared by their cross-entropy, other inputs by the mean
    squared error. Returns: the mean squared error of reconstruction in the first and in the last epoch.
    """
    binary = bool(inputs.min() >= 0 and inputs.max() <= 1)
    visible_bias = nn.Parameter(torch.logit(inputs.mean(0), eps=0.01) if binary else inputs.mean(0))
    optimiser = torch.optim.Adam([layer.weight, layer.bias, visible_bias], lr=_AUTOENCODER_RATE)
    means = []
    for _ in range(epochs):
        errors = []
        for batch in _batches(inputs):
            corrupted = batch * (torch.rand_like(batch) >= _CORRUPTION)
            restored = F.linear(activation(layer(corrupted)), layer.weight.T, visible_bias)
            loss = F.binary_cross_entropy_with_logits(restored, batch) if binary else F.mse_loss(restored, batch)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no types here
            optimiser.step()
            errors.append(F.mse_loss(torch.sigmoid(restored.detach()), batch) if binary else loss.detach())
        means.append(float(torch.stack(errors).mean()))
    layer.zero_grad()
    return means[0], means[-1]


@torch.no_grad()
def train_rbm(layer: nn.Linear, inputs: Tensor, *, epochs: int, gaussian: bool) -> tuple[float, float]:
    """Learn the distribution of the inputs, layer and inputs being the two sides of a restricted Boltzmann machine.

    Args:
        layer: its weights and the bias of the hidden units; these are sigmoid.
        inputs: (B, visible): probabilities, or values of mean 0 and deviation 1 if ``gaussian``.

    Returns: the mean squared error of reconstruction in the first and in the last epoch.
    """
    visible_bias = inputs.mean(0) if gaussian else torch.logit(inputs.mean(0), eps=0.01)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    learned = (layer.weight, layer.bias, visible_bias)
    steps = [torch.zeros_like(values) for values in learned]
    rate = _GAUSSIAN_RATE if gaussian else _BINARY_RATE
    means = []
    for _ in range(epochs):
        errors = []
        for batch in _batches(inputs):
            hidden = torch.sigmoid(layer(batch))
            visible = F.linear(torch.bernoulli(hidden), layer.weight.T, visible_bias)
            if not gaussian:
                visible = torch.sigmoid(visible)
            again = torch.sigmoid(layer(visible))
            gradients = (
                (hidden.T @ batch - again.T @ visible) / len(batch),
                (hidden - again).mean(0),
                (batch - visible).mean(0),
            )
            for values, step, gradient in zip(learned, steps, gradients, strict=True):
                step.mul_(_MOMENTUM).add_(gradient, alpha=rate)
                values += step
            errors.append(F.mse_loss(visible, batch))
        means.append(float(torch.stack(errors).mean()))
    return means[0], means[-1]


def _batches(inputs: Tensor) -> Iterator[Tensor]:
    """All inputs in an order drawn anew."""
    for chosen in torch.split(torch.randperm(len(inputs)), _BATCH):
        yield inputs[chosen.to(inputs.device)]
