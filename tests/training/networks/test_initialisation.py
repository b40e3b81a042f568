"""What initial weights do to what goes through 1,000 layers, and to the gradients on their way back."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from stoker.training.models.cnn import Cnn
from stoker.training.networks.activations import ACTIVATIONS, gain
from stoker.training.networks.initialisation import delta_orthogonal, initialise, scale_to_unit_variance
from tests.training.networks.small_networks import GREY, build, images


@pytest.fixture(autouse=True)
def seed() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def stack(layers: int, name: str, activation: str = "", width: int = 16) -> nn.Sequential:
    """Convolutions with these weights, and activations between if there is one."""
    parts: list[nn.Module] = []
    for _ in range(layers):
        parts += [nn.Conv2d(width, width, 3, padding=1), *([ACTIVATIONS[activation]()] if activation else [])]
    network = nn.Sequential(*parts)
    initialise(network, name, activation or "tanh")
    return network


def ratios(network: nn.Module, scale: float = 1.0) -> tuple[float, float]:
    """How many times as large as the input the output is, and the input's gradient as the output's."""
    inputs = (scale * torch.randn(2, 16, 4, 4)).requires_grad_()
    output = network(inputs)
    backward = torch.randn_like(output)
    output.backward(backward)
    assert inputs.grad is not None
    return float(output.detach().norm() / inputs.detach().norm()), float(inputs.grad.norm() / backward.norm())


def test_1000_delta_orthogonal_layers_keep_every_length_forward_and_backward() -> None:
    forward, backward = ratios(stack(1000, "delta_orthogonal"))
    assert forward == pytest.approx(1, abs=1e-3)
    assert backward == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("name", "activation"), [("he", "relu"), ("glorot", "tanh"), ("default", "relu")])
def test_1000_layers_of_independent_weights_lose_what_comes_in_or_their_gradients(name: str, activation: str) -> None:
    network = stack(1000, name, activation)
    one, other = torch.randn(1, 16, 4, 4), torch.randn(1, 16, 4, 4)
    first, second = network(one).flatten(), network(other).flatten()
    alike = torch.cosine_similarity(first, second, 0) > 0.99  # all inputs become the same
    gone = ratios(network)[1] < 1e-3
    assert alike or gone or first.norm() < 1e-3


def test_1000_delta_orthogonal_tanh_layers_tell_inputs_apart_and_have_gradients() -> None:
    network = stack(1000, "delta_orthogonal", "tanh")
    one, other = torch.randn(1, 16, 4, 4), torch.randn(1, 16, 4, 4)
    first, second = network(one).flatten(), network(other).flatten()
    assert torch.cosine_similarity(first, second, 0).abs() < 0.5
    assert ratios(network, 0.01)[1] > 0.5


def test_30_rectifier_layers_keep_their_variance_by_he_and_lose_it_by_glorot_normal_and_default() -> None:
    """Figure 3 of He et al."""
    one, other = torch.randn(2, 4, 64, 8, 8)
    kept = {}
    for name in ("he", "orthogonal", "glorot", "normal", "default"):
        network = stack(30, name, "relu", 64)
        kept[name] = float((network(one) - network(other)).norm() / (one - other).norm())
    assert min(kept["he"], kept["orthogonal"]) > 0.01
    assert max(kept["glorot"], kept["normal"], kept["default"]) < 1e-2 * kept["he"]


@pytest.mark.parametrize(("before", "after"), [(8, 8), (3, 16), (16, 8)])
def test_a_delta_orthogonal_kernel_is_an_orthogonal_matrix_in_its_middle(before: int, after: int) -> None:
    layer = nn.Conv2d(before, after, 3)
    delta_orthogonal(layer, 2.0)
    middle = layer.weight[:, :, 1, 1].detach()
    small = middle @ middle.T if after < before else middle.T @ middle
    torch.testing.assert_close(small, 4 * torch.eye(len(small)), atol=1e-5, rtol=0)
    layer.weight.detach()[:, :, 1, 1] = 0
    assert not layer.weight.any()


def test_a_delta_orthogonal_depthwise_convolution_keeps_its_input() -> None:
    layer = nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False)
    delta_orthogonal(layer)
    planes = torch.randn(2, 6, 5, 5)
    assert torch.equal(layer(planes), planes)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "gelu"])
def test_lsuv_gives_every_layer_unit_variance(activation: str) -> None:
    network = build(net="plain", depth=30, norm="none", activation=activation, initialisation="lsuv")
    batch = images(64)
    assert not all(0.99 < value < 1.01 for value in variances(network, batch))
    scale_to_unit_variance(network, batch)
    assert variances(network, batch) == pytest.approx([1.0] * 30, abs=0.01)
    assert not [layer for layer in network.modules() if layer._forward_hooks]


def test_lsuv_leaves_a_layer_of_constant_output_as_it_is() -> None:
    layer = nn.Linear(3, 3, bias=False)
    weights = layer.weight.detach().clone()
    scale_to_unit_variance(layer, torch.zeros(4, 3))
    assert torch.equal(layer.weight, weights)


def test_the_first_batch_that_has_images_is_what_lsuv_looks_at() -> None:
    model = Cnn(pixels=8, shift=0, net="plain", norm="none", depth=5, initialisation="lsuv")
    network, nothing = model.build(GREY), images(0)
    batches = iter([(nothing, torch.zeros(0)), (images(64), torch.zeros(64)), (images(32), torch.zeros(32))])
    model.prepare_weights(network, batches, torch.device("cpu"))
    assert variances(network, images(64)) == pytest.approx([1.0] * 5, abs=0.01)
    assert len(list(batches)) == 1


def test_a_gain_keeps_the_variance_of_its_activation_near_0() -> None:
    values = 0.01 * torch.randn(100_000)
    for name in ("relu", "tanh", "leaky_relu"):
        after = ACTIVATIONS[name]()(values).square().mean() / values.square().mean()
        assert gain(name) ** 2 * after == pytest.approx(1, abs=0.02)


def variances(network: nn.Module, batch: Tensor) -> list[float]:
    """Of what each convolution and linear layer gives."""
    found: list[float] = []
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(lambda _, __, output: found.append(float(output.var()))) for layer in layers]
    with torch.no_grad():
        network(batch)
    for hook in hooks:
        hook.remove()
    return found
