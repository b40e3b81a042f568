"""ResNet-18 and ResNet-50 for ImageNet, as others measure them: He et al., CVPR 2016, the stride in the 3 x 3."""

from torch import Tensor, nn

_EXPANSION = 4  # channels that leave a bottleneck, to those in it


def resnet18(classes: int = 1000) -> nn.Module:
    """11.7 million weights; (B, 3, H, W) floats in, logits out."""
    return _resnet((2, 2, 2, 2), classes, bottleneck=False)


def resnet50(classes: int = 1000) -> nn.Module:
    """25.6 million weights."""
    return _resnet((3, 4, 6, 3), classes, bottleneck=True)


def _resnet(blocks: tuple[int, ...], classes: int, *, bottleneck: bool) -> nn.Module:
    layers: list[nn.Module] = [*_convolution(3, 64, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for stage, count in enumerate(blocks):
        for number in range(count):
            block = _Block(channels, 64 << stage, 2 if stage and not number else 1, bottleneck=bottleneck)
            channels = block.channels
            layers.append(block)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def _convolution(channels: int, out: int, size: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(channels, out, size, stride, size // 2, bias=False), nn.BatchNorm2d(out)]


class _Block(nn.Module):
    """Two 3 x 3 convolutions, or a 3 x 3 between two 1 x 1, and the block's input."""

    def __init__(self, channels: int, width: int, stride: int, *, bottleneck: bool) -> None:
        super().__init__()
        self.channels = width * (_EXPANSION if bottleneck else 1)
        if bottleneck:
            first = [*_convolution(channels, width, 1), nn.ReLU(inplace=True)]
            last = [nn.ReLU(inplace=True), *_convolution(width, self.channels, 1)]
            self.branch = nn.Sequential(*first, *_convolution(width, width, 3, stride), *last)
        else:
            first = [*_convolution(channels, width, 3, stride), nn.ReLU(inplace=True)]
            self.branch = nn.Sequential(*first, *_convolution(width, width, 3))
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != self.channels:
            self.shortcut = nn.Sequential(*_convolution(channels, self.channels, 1, stride))

    def forward(self, planes: Tensor) -> Tensor:
        """(B, channels, H / stride, W / stride)."""
        output: Tensor = nn.functional.relu(self.branch(planes) + self.shortcut(planes))
        return output
