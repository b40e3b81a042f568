"""What the networks for images need to know of the options of model ``cnn``."""

from typing import Protocol


class NetworkOptions(Protocol):
    """The options of model ``cnn`` that its networks depend on; see there."""

    @property
    def pixels(self) -> int:
        """Side of the images."""

    @property
    def depth(self) -> int:
        """Layers with weights, of plain and mlp."""

    @property
    def width(self) -> int:
        """Channels of the first stage, or units of a layer."""

    @property
    def stages(self) -> int:
        """Of resnet and mobilenet."""

    @property
    def blocks(self) -> int:
        """Blocks in each stage."""

    @property
    def residual(self) -> bool:
        """Whether a block's input is added to its output."""

    @property
    def preactivation(self) -> bool:
        """Whether a block's norms and activations come before its convolutions."""

    @property
    def norm(self) -> str:
        """batch, layer or none."""

    @property
    def branch_scale(self) -> str:
        """one, zero or fixup."""

    @property
    def separable(self) -> bool:
        """Whether convolutions are depthwise, then pointwise."""

    @property
    def activation(self) -> str:
        """A name of ``activations.ACTIVATIONS``."""

    @property
    def dropout(self) -> float:
        """Share of units left out."""

    @property
    def stochastic_depth(self) -> float:
        """Share of samples that leave the last block out."""
